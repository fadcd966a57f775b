"""What systemctl asks of the init: units by name, their state, and the engine's requests."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Final

from hostlab.errors import UsageError
from hostlab.init.initctl.requests import PART
from hostlab.init.initctl.surroundings import Command
from hostlab.init.logs.policy import log_name
from hostlab.init.systemctl.line import Line, Refused
from hostlab.init.systemctl.state import UnitState, state_of
from hostlab.init.systemctl.unit_files import OF_PERSON, UnitFiles
from hostlab.jobs import facts
from hostlab.jobs.effects import Reply
from hostlab.jobs.states import Goal
from hostlab.spec.source import Wrong
from hostlab.spec.systemd.loading import LoadedUnit
from hostlab.spec.systemd.unit_names import UnitType, escape, is_unit_name, unit_name

if TYPE_CHECKING:
    from hostlab.init.job_supervisor import JobSupervisor
    from hostlab.init.units.units import Units

GLOB: Final = frozenset("*?[")
NOT_LOADED: Final = 5
"""Exit status for a unit that there is not (LSB: program is not installed)."""
_PLAIN: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:_.\\-@")


class Manager:
    """A supervisor, as systemctl sees it."""

    def __init__(self, supervisor: JobSupervisor, units: Units) -> None:
        self.supervisor = supervisor
        self.units = units

    @cached_property
    def files(self) -> UnitFiles:
        """The unit files."""
        place = self.supervisor.place
        own = self.units.library.directories[0].rpartition("/systemd/")[0]
        return UnitFiles(self.units.library, of_person=own if place.is_user else OF_PERSON)

    def find(self, name: str) -> LoadedUnit | None:
        """A unit, loaded or on disk."""
        return self.units.find(name)

    def own_name(self, name: str) -> str:
        """The name that an alias stands for."""
        return self.units.library.resolve(name)

    def state(self, name: str) -> UnitState:
        """How a unit stands."""
        name = self.own_name(name)
        return state_of(self.supervisor.jobs.engine, name, self.find(name))

    def loaded(self) -> Iterator[str]:
        """The units that are loaded, by type and name."""
        names = {*self.units.loaded, *self.units.job_names}
        return iter(sorted(names, key=lambda name: (unit_name(name).type.value, name)))

    def log_path(self, name: str) -> str:
        """Where a unit's log is; init reaches it by its descriptor only."""
        return f"/proc/self/fd/{self.supervisor.place.log_dir}/{log_name(name)}.log"

    def named(self, words: list[str], *, files: bool = False) -> list[str]:
        """The units that words mean: names without a suffix are services, globs what they match.

        With `files` globs are compared with unit files, else with loaded units.
        """
        found: dict[str, None] = {}
        for word in words:
            if GLOB.isdisjoint(word):
                found[mangled(word)] = None
                continue
            pattern = word if "." in word or word.endswith("*") else f"{word}.service"
            known = self.units.library.names() if files else self.loaded()
            found |= dict.fromkeys(name for name in known if fnmatch.fnmatchcase(name, pattern))
        return list(found)

    # Requests.

    async def start(self, name: str, call: Call) -> Reply | None:
        """Start a unit; None when it runs already. UsageError when there is none."""
        self.units.load([name])
        name = self.own_name(name)
        return await self._ask(facts.Start(job=name, request=call.token("start", name)), call)

    async def stop(self, name: str, call: Call) -> Reply | None:
        """Stop a unit; None when it does not run."""
        name = self.own_name(name)
        engine = self.supervisor.jobs.engine
        token = call.token("stop", name)
        if not self.supervisor.jobs.book.knows(token) and engine.instance(name) is None:
            return None
        return await self._ask(facts.Stop(job=name, request=token), call)

    async def _ask(self, fact: facts.Start | facts.Stop, call: Call) -> Reply | None:
        assert fact.request is not None
        try:
            return await self.supervisor.jobs.request(fact.request, fact, wait=call.waits)
        except UsageError:
            # It does so already; whoever asks waits until it is done all the same.
            goal = Goal.STOP if isinstance(fact, facts.Stop) else Goal.START
            if call.waits:
                await self._settled(fact.job, goal)
            return None

    async def _settled(self, name: str, goal: Goal) -> None:
        jobs = self.supervisor.jobs
        while (instance := jobs.engine.instance(name)) is not None and instance.goal is goal:
            if goal is Goal.START and self.state(name).active != "activating":
                return
            jobs.changed.clear()
            await jobs.changed.wait()

    async def reload(self, name: str, call: Call) -> bool:
        """Have a unit reload; whether what it runs for that has ended well."""
        name = self.own_name(name)
        token = call.token("reload", name)
        fact = facts.Reload(job=name, request=token)
        return (await self.supervisor.jobs.request(token, fact, wait=call.waits)).ok


class Call:
    """One call of systemctl."""

    def __init__(self, manager: Manager, command: Command, verb: str, line: Line) -> None:
        self.manager = manager
        self.command = command
        self.verb = verb
        self.line = line
        self.out: list[str] = []
        self.err: list[str] = []
        self.status = 0

    @property
    def words(self) -> list[str]:
        """The arguments behind the verb."""
        return self.line.words

    @property
    def waits(self) -> bool:
        return not self.line.has("no-block")

    @property
    def is_quiet(self) -> bool:
        return self.line.has("quiet")

    @property
    def has_legend(self) -> bool:
        return not (self.line.has("no-legend") or self.line.last("legend") in ("false", "no", "0"))

    def token(self, what: str, name: str) -> str:
        """Names one request of this call, in a later supervisor too."""
        return f"{self.command.token}{PART}{what} {name}"

    def say(self, text: str) -> None:
        """A line of output."""
        self.out.append(text)

    def complain(self, text: str, status: int = 1) -> None:
        """A line of errors, and the status that goes with it."""
        self.err.append(text)
        self.status = self.status or status

    def units(self, *, files: bool = False) -> list[str]:
        """The units that are named; Refused when there is none."""
        if not self.words:
            raise Refused("Too few arguments.")
        return self.manager.named(self.words, files=files)


def mangled(word: str) -> str:
    """A unit's name as people write it: without a suffix it is a service, a path is a mount."""
    if word.startswith("/"):
        path = word.strip("/").replace("/", "-") or "-"
        return f"{path}.mount"
    name = word if _PLAIN.issuperset(word) else escape(word)
    if is_unit_name(name):
        return name
    name = f"{name}.service"
    try:
        return unit_name(name).name
    except Wrong:
        raise Refused(f'Invalid unit name "{word}".') from None


def has_type(name: str, types: tuple[str, ...]) -> bool:
    """Whether a unit is of one of these types; none of them are all."""
    return not types or unit_name(name).type in types or "help" in types


TYPES: Final = tuple(each.value for each in UnitType)
