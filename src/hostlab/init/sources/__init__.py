"""Sources: what happens outside, turned into events. Upstart calls them bridges.

A source is a module with a function `open_source(surroundings)`. It is imported when a job listens
to one of its events, is told what the jobs listen to whenever that changes, and is closed when
nobody listens any more. It tells an event by `surroundings.tell(facts.Emit(…))`, does nothing
while nothing happens (the kernel wakes it by a descriptor), and blocks nobody.

What a source must not lose with its supervisor it has the holder keep (`keep`, `kept`); what is
to outlive the machine's start it writes into `directory`.
"""

from __future__ import annotations

import asyncio
import importlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, cast

from hostlab.errors import Problem
from hostlab.jobs.classes import JobClass
from hostlab.jobs.facts import Emit
from hostlab.jobs.states import State
from hostlab.spec.job import Job, Match

_HERE: Final = "hostlab.init.sources"
MODULES: Final[Mapping[str, str]] = {
    "timer": f"{_HERE}.timer",
    "dbus": f"{_HERE}.dbus",
    "login-session-opened": f"{_HERE}.login",
    "login-session-closed": f"{_HERE}.login",
    "login-user-added": f"{_HERE}.login",
    "login-user-removed": f"{_HERE}.login",
    "storage-drive-added": f"{_HERE}.storage",
    "storage-drive-removed": f"{_HERE}.storage",
    "storage-filesystem-added": f"{_HERE}.storage",
    "storage-filesystem-removed": f"{_HERE}.storage",
    "storage-mounted": f"{_HERE}.storage",
    "storage-unmounted": f"{_HERE}.storage",
}
"""By the event's name."""
BEGINNINGS: Final[Mapping[str, str]] = {":sys:": f"{_HERE}.system_events"}
"""By how the event's name begins."""
DEVICE_EVENT: Final = re.compile(r".+-device-.+")
"""`SUBSYSTEM-device-ACTION`, whatever the two are, unless the name is one of `MODULES`."""
DEVICE: Final = f"{_HERE}.device"

_AT_REST: Final = frozenset(
    {
        State.WAITING,
        State.STARTING,
        State.STOPPING,
        State.KILLED,
        State.POST_STOPPING,
        State.POST_STOP,
    }
)
"""In these an instance listens to nothing: before it has left `starting`, and from its stop on."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an init gives its sources."""

    tell: Callable[[Emit], None]
    """Tell the engine of an event."""
    warn: Callable[[str], None]
    """Write a line into init's log."""
    keep: Callable[[str, int], None]
    """Have the holder keep a descriptor by a name."""
    drop: Callable[[str], None]
    """Have it closed."""
    kept: Mapping[str, int]
    """What it kept of an earlier supervisor."""
    directory: int | None = None
    """Descriptor of a directory that outlives the machine's start; None where there is none."""
    host: str = ""
    """What tells this host from others: seeds what is random."""
    started: float = 0.0
    """When init was started, on the clock that goes on while the machine sleeps (boot time)."""
    variables: Callable[[], Mapping[str, str]] = dict
    """Init's environment and the jobs' of now, in which the addresses of buses are."""
    is_user: bool = False
    """A user's session, not a host."""


def module_of(event: str) -> str | None:
    """The module of the source that tells this event; None for one that comes from no source."""
    if event in MODULES:
        return MODULES[event]
    for beginning, module in BEGINNINGS.items():
        if event.startswith(beginning):
            return module
    return DEVICE if DEVICE_EVENT.fullmatch(event) else None


def waited_for(jobs: Iterable[Job]) -> Iterator[Match]:
    """What the conditions of jobs name."""
    for job in jobs:
        for expression in (job.start_on, job.stop_on):
            yield from expression.matches if expression else ()


def operands(classes: Iterable[JobClass]) -> Iterator[Match]:
    """What the jobs of an engine listen to now: those that run by another description, too."""
    for found in classes:
        yield from waited_for((found.job, found.successor) if found.successor else (found.job,))
        if found.job.listens and any(
            instance.state not in _AT_REST for instance in found.instances.values()
        ):
            yield from found.job.listens


class Source(Protocol):
    """Turns something outside into events."""

    def listen(self, operands: frozenset[Match]) -> None:
        """From now on, jobs listen to these; never empty. Called anew at each change."""

    def close(self) -> None:
        """Nobody listens any more, or init ends."""


class Sources:
    """The sources of one init."""

    def __init__(self, surroundings: Surroundings, operands: Callable[[], Iterable[Match]]) -> None:
        """`operands` gives what the jobs listen to now."""
        self._surroundings = surroundings
        self._operands = operands
        self._open: dict[str, Source] = {}
        self._listening: dict[str, frozenset[Match]] = {}
        self._is_due = False

    @property
    def names(self) -> tuple[str, ...]:
        """Of the sources that are open."""
        return tuple(module.rpartition(".")[2] for module in self._open)

    def changed(self) -> None:
        """A job has come, gone or changed; looked at once for many that come together."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self.look)

    def look(self) -> None:
        """Open and close sources as the jobs need them."""
        self._is_due = False
        wanted: dict[str, set[Match]] = {}
        for match in self._operands():
            if (module := module_of(match.name)) is not None:
                wanted.setdefault(module, set()).add(match)
        for module in [module for module in self._listening if module not in wanted]:
            self._close(module)
        for module, matches in wanted.items():
            if self._listening.get(module) != frozenset(matches):
                self._listen(module, frozenset(matches))

    def surroundings_changed(self) -> None:
        """A variable has changed that tells where something is."""
        for module, operands in tuple(self._listening.items()):
            self._listen(module, operands)

    def _listen(self, module: str, operands: frozenset[Match]) -> None:
        self._listening[module] = operands
        try:
            if module not in self._open:
                found = importlib.import_module(module)
                self._open[module] = cast("Source", found.open_source(self._surroundings))
            self._open[module].listen(operands)
        except (OSError, Problem, ImportError) as error:
            # A machine that lacks what a source needs loses its events, not its jobs.
            self._surroundings.warn(f"no {module.rpartition('.')[2]} events: {error}")

    def _close(self, module: str) -> None:
        del self._listening[module]
        source = self._open.pop(module, None)
        if source is not None:
            source.close()

    def close(self) -> None:
        """Close all."""
        for module in tuple(self._listening):
            self._close(module)
