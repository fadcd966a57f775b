"""Sources: what happens outside, turned into events. Upstart calls them bridges.

A source is a module with a function `open_source(surroundings)`. It is imported when a job listens
to one of its events, is told what the jobs listen to whenever that changes, and is closed when
nobody listens any more. It tells an event by `surroundings.tell(facts.Emit(…))`, does nothing
while nothing happens (the kernel wakes it by a descriptor), and blocks nobody.

What a source must not lose with its supervisor it has the holder keep (`keep`, `kept`); what is
to outlive the machine's start it writes into `lasting`.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol, cast

import msgspec

from hostlab.errors import Problem
from hostlab.init.lasting import Lasting
from hostlab.init.sources.events import module_of
from hostlab.init.watches import Watches
from hostlab.jobs import named_event
from hostlab.jobs.boot import Emission
from hostlab.jobs.classes import JobClass
from hostlab.jobs.facts import Emit
from hostlab.jobs.states import State
from hostlab.spec.job import Job, Match

if TYPE_CHECKING:
    from hostlab.init.jobs import Jobs


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


class Surroundings(msgspec.Struct, frozen=True):
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
    lasting: Lasting | None = None
    """What outlives the machine's start; None where nothing does."""
    home: str | None = None
    """Where relative paths begin, in a user's session."""
    host: str = ""
    """What tells this host from others: seeds what is random."""
    started: float = 0.0
    """When init was started, on the clock that goes on while the machine sleeps (boot time)."""
    leaves: Callable[[], bool] = lambda: False
    """Whether init is on its way down: nothing outside starts a job any more."""
    jobs: Jobs | None = None
    """For a source that gives jobs something, or must know which of them run."""
    boots: Callable[[], bool] = lambda: False
    """Whether init is only just coming up: what jobs wait for then, they have not come late for."""
    boot_events: Callable[[], Sequence[Emission]] = tuple
    """What init's boot tells by itself."""
    runs: Callable[[str], bool] = lambda job: False
    """Whether a job has an instance."""
    watch_jobs: Callable[[Callable[[str], None]], Callable[[], None]] = lambda told: _nothing
    """Have a job's name told whenever an instance of it has come or gone; what is given back ends
    that."""
    stamps: str | None = None
    """Directory in which systemd has noted when its timers came last."""
    watches: Watches | None = None
    """The init's one instance of inotify; None: a source has one of its own."""
    variables: Callable[[], Mapping[str, str]] = dict
    """Init's environment and the jobs' of now, in which the addresses of buses are."""
    is_user: bool = False
    """A user's session, not a host."""


def _nothing() -> None:
    """Ends what never began."""


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

    def get(self, event: str) -> Source | None:
        """The source of this event's, opened first if somebody listens to it."""
        module = module_of(event)
        if module not in self._open:
            self.look()
        return self._open.get(module or "")

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
            module = module_of(match.name)
            if module is not None and not named_event.only_listens(match):
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
                opened = importlib.import_module(module).open_source(self._surroundings)
                self._open[module] = cast("Source", opened)
            self._open[module].listen(operands)
        except (OSError, Problem, ImportError) as error:
            # A machine that lacks what a source needs loses its events, not its jobs.
            names = ", ".join(sorted({match.name for match in operands}))
            self._surroundings.warn(f"no {names} events: {error}")

    def _close(self, module: str) -> None:
        del self._listening[module]
        source = self._open.pop(module, None)
        if source is not None:
            source.close()

    def close(self) -> None:
        """Close all."""
        for module in tuple(self._listening):
            self._close(module)
