"""A supervisor as initctl's commands see it: the engine, and what is not the engine's."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hostlab.init.initctl.surroundings import Down, LogPriority
from hostlab.init.jobs import usual_environment
from hostlab.init.standalone.place import sessions
from hostlab.jobs import facts
from hostlab.jobs.boot import NO_RUNLEVEL
from hostlab.jobs.effects import Level, Reply
from hostlab.jobs.engine import Engine
from hostlab.jobs.expression import Environment
from hostlab.jobs.journal import AnyFact

if TYPE_CHECKING:
    from hostlab.init.job_supervisor import JobSupervisor


class SupervisorInit:
    """`initctl_init.Init`, over a supervisor."""

    def __init__(self, supervisor: JobSupervisor) -> None:
        self.supervisor = supervisor
        self.log_priority = LogPriority.MESSAGE

    @property
    def engine(self) -> Engine:
        return self.supervisor.jobs.engine

    @property
    def runlevel(self) -> tuple[str, str] | None:
        levels = self.supervisor.jobs.runlevel
        return None if levels[1] == NO_RUNLEVEL else levels

    @property
    def default_environment(self) -> Mapping[str, str]:
        place = self.supervisor.place
        given = place.job_environment
        return usual_environment(place.environment) if given is None else given

    def tell(self, fact: AnyFact) -> None:
        self.supervisor.jobs.tell(fact)

    async def request(self, token: str, fact: AnyFact, *, wait: bool) -> Reply:
        return await self.supervisor.jobs.request(token, fact, wait=wait)

    def knows(self, token: str) -> bool:
        return self.supervisor.jobs.book.knows(token)

    def forget(self, token: str) -> None:
        self.supervisor.jobs.book.forget(token)

    def forget_others(self, prefix: str, tokens: frozenset[str]) -> None:
        self.supervisor.jobs.book.forget_others(prefix, tokens)

    def notify_bus_address(self, address: str) -> None:
        self.supervisor.notify_bus_address(address)

    def reload_configuration(self) -> None:
        self.supervisor.reread()

    def reexec(self) -> None:
        self.supervisor.reexec()

    def change_runlevel(self, level: str, environment: Environment, *, token: str) -> None:
        if self.knows(token):
            return
        _, present = self.supervisor.jobs.runlevel
        pairs = (("RUNLEVEL", level), ("PREVLEVEL", present), *environment)
        self.tell(facts.Emit(name="runlevel", environment=pairs, request=token))

    def go_down(self, down: Down, environment: Environment, *, force: bool, token: str) -> None:
        """One that a supervisor's death has cut short is asked for again, and begins again."""
        if self.knows(token):
            return
        self.supervisor.jobs.book.took(token)
        self.supervisor.go_down(down, environment, force=force, token=token)

    def broadcast(self, text: str) -> None:
        self.supervisor.log(Level.INFO, text)

    def sessions(self) -> Sequence[tuple[int, str]]:
        return sessions(os.environ.get("XDG_RUNTIME_DIR"))
