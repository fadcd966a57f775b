"""The jobs of a description, in an init that runs: told first, and again when they have changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from hostlab.errors import Failed, UsageError
from hostlab.init.jobs import Jobs
from hostlab.jobs import facts
from hostlab.jobs.classes import JobClass
from hostlab.jobs.states import State
from hostlab.spec.job import Job, same_but_places

RELOAD: Final = "reload"
"""The code of a failure to reload."""
SAID_LINES: Final = 8
"""Of a job that fails to reload, in the message: what it runs for that says soon why, and the job
itself may write on.
"""
KEY: Final = "described"
"""In the engine's state: the names of the jobs that come from the description."""


class DescribedJobs:
    """What of an init's jobs its description says."""

    def __init__(
        self, jobs: Jobs, wanted: Callable[[], Sequence[Job]], warn: Callable[[str], None]
    ) -> None:
        """`wanted` gives what is described now."""
        self._jobs = jobs
        self._wanted = wanted
        self._warn = warn
        self._lock = asyncio.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """Of those that the engine has been told."""
        return tuple(self._jobs.engine.extra.get(KEY, ()))

    def load(self) -> None:
        """Tell the engine all of them, the first time."""
        jobs = self._wanted()
        self._jobs.remember(KEY, [job.name for job in jobs])
        for job in jobs:
            self._jobs.tell(facts.Load(job=job))

    async def change(self, restart: frozenset[str], reload: frozenset[str] = frozenset()) -> None:
        """Stop what is gone, start what is new, restart and reload what is named; the rest goes on.

        What had failed and is described otherwise now is tried again.
        One after another, and each to what is described then: the last description stands. Failed
        when a job does not take over what it is told to reload.
        """
        async with self._lock:
            await self._change(self._wanted(), restart, reload)

    async def _change(
        self, wanted: Sequence[Job], restart: frozenset[str], reload: frozenset[str]
    ) -> None:
        engine = self._jobs.engine
        before = list(self.names)
        names = [job.name for job in wanted]
        self._jobs.remember(KEY, [*before, *names])
        for name in before:
            if name in engine.classes and name not in names:
                await self._stop(name)
                self._jobs.tell(facts.Unload(name=name))
        for job in wanted:
            found = engine.classes.get(job.name)
            must = job.name in restart
            is_known = found is not None and same_but_places(found.successor or found.job, job)
            if is_known and not must and job.name not in reload:
                continue
            was_running = found is not None and bool(found.instances)
            if was_running and must:
                await self._stop(job.name)
            self._jobs.tell(facts.Load(job=job))
            is_late = found is None and self._jobs.boot_position > 0
            if (was_running and must) or ((is_late or _has_failed(found)) and _starts_at_boot(job)):
                await self._start(job.name)
            elif was_running and job.name in reload:
                await self._reload(job.name)
        self._jobs.remember(KEY, names)

    async def _stop(self, name: str) -> None:
        for instance in tuple(self._jobs.engine.classes[name].instances):
            token = self._jobs.token()
            fact = facts.Stop(job=name, instance=instance, request=token)
            try:
                await self._jobs.ask(token, fact)
            except UsageError:
                # It stops already, and whoever asked for that is answered when it is done.
                await self._gone(name, instance)

    async def _gone(self, name: str, instance: str) -> None:
        while self._jobs.engine.instance(name, instance) is not None:
            self._jobs.changed.clear()
            await self._jobs.changed.wait()

    async def _reload(self, name: str) -> None:
        """One that does not run just now starts with what there is to read then."""
        for instance in tuple(self._jobs.engine.classes[name].instances.values()):
            if instance.state is not State.RUNNING or instance.job.reload is None:
                await self._stop(name)
                await self._start(name)
                return
            before = self._jobs.logs.size_bytes(name, instance.name)
            token = self._jobs.token()
            fact = facts.Reload(job=name, instance=instance.name, request=token)
            if not (await self._jobs.ask(token, fact)).ok:
                said = self._jobs.logs.since(name, instance.name, before)[:SAID_LINES]
                message = f"{name} does not take over its configuration: {' / '.join(said)}"
                raise Failed(RELOAD, message, hint=f"`hostlab job log {name}` shows what it wrote")

    async def _start(self, name: str) -> None:
        token = self._jobs.token()
        try:
            await self._jobs.ask(token, facts.Start(job=name, request=token))
        except UsageError as error:
            self._warn(f"{name}: {error.message}")


def _has_failed(found: JobClass | None) -> bool:
    """Whether a job does not run because its last run has failed."""
    return bool(found and not found.instances and found.last and found.last.failed)


def _starts_at_boot(job: Job) -> bool:
    """Whether a job that is new in a running node would have been started by its boot."""
    return job.start_on is not None and any(
        match.name == "startup" for match in job.start_on.matches
    )
