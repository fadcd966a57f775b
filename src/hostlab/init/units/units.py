"""The units of one init: what is loaded, when it is read again, and how the boot starts it.

As in systemd a unit is loaded when something names it: the boot, another loaded unit that starts or
triggers it, somebody who asks. All that are loaded are linked together, and what changes in the
jobs that they are is told to the engine; what a unit says of *others* counts at once, also for what
runs, what it says of itself for its next start.

What was asked for (`roots`) is in the engine's state, so a supervisor that follows loads the same.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from hostlab import typed
from hostlab.errors import UsageError
from hostlab.init.job_supervisor import UNIT_JOBS as JOBS
from hostlab.init.jobs import Jobs
from hostlab.init.units.install import install_names
from hostlab.init.units.library import Library
from hostlab.init.units.replaced import why_passed_over
from hostlab.init.units.setup import Setup
from hostlab.init.units.watching import Watching
from hostlab.init.watches import Watches
from hostlab.jobs import facts
from hostlab.jobs.effects import Level
from hostlab.spec.job import same_but_places
from hostlab.spec.model import Units as Wanted
from hostlab.spec.systemd.dependencies import Dependencies
from hostlab.spec.systemd.graph import pull
from hostlab.spec.systemd.kinds import PathUnit, SocketUnit, TimerUnit
from hostlab.spec.systemd.loading import LoadedUnit, link_units

ROOTS: Final = "unit-roots"
"""In the engine's state: units that were asked for."""
BOOTED: Final = "units-booted"
"""In the engine's state: the target that the boot has started."""
DEFAULT_TARGET: Final = "default.target"
EMERGENCY: Final = "emergency.target"
USUAL_TARGET: Final = "multi-user.target"
BEFORE_FILE: Final = "enabled-before.json"
"""In init's directory: the links that there were before the node first came up."""
MAX_LOADED: Final = 5000
"""Units at once; each is a job of the engine."""
MAX_WARNINGS: Final = 1000
"""Different warnings that are remembered, so that each is told once."""


@dataclass(frozen=True, slots=True)
class Closure:
    """Units, and everything that they start or trigger."""

    units: dict[str, LoadedUnit]
    missing: frozenset[str]
    """Named by one of them, and nowhere defined."""


class Units:
    """What of the unit files is loaded into the engine."""

    def __init__(
        self,
        wanted: Wanted,
        library: Library,
        jobs: Jobs,
        *,
        state_dir: int,
        log: Callable[[Level, str], None],
        watches: Watches,
        setup: Setup | None = None,
    ) -> None:
        """`setup` is None where the root is not this init's to change."""
        self.setup = setup
        self.wanted = wanted
        self.library = library
        self.jobs = jobs
        self.loaded: dict[str, LoadedUnit] = {}
        self.cycles: tuple[str, ...] = ()
        self._log = log
        self._state_dir = state_dir
        self._watches = watches
        self._warned: set[str] = set()
        self._before: frozenset[str] | None = None
        self._watching: Watching | None = None
        self._is_stale = False

    def install(self, directory: str, also: str | None) -> None:
        """Put systemctl where scripts look for it, and say that units run here (sd_booted(3)).

        `also` is None where the root is the machine's, which is told nothing of the kind.
        """
        install_names(directory, own_root=also is not None)

    # What there is.

    @property
    def roots(self) -> tuple[str, ...]:
        """What was asked for by name."""
        return tuple(self.jobs.engine.extra.get(ROOTS, ()))

    @property
    def job_names(self) -> frozenset[str]:
        """The engine's jobs that are units."""
        return frozenset(self.jobs.engine.extra.get(JOBS, ()))

    def look(self) -> None:
        """Take notice of files that have just changed, or have while there was no supervisor."""
        if self._is_stale:
            self.reload()
        if self._watching is not None:
            self._watching.look()

    def find(self, name: str) -> LoadedUnit | None:
        """A unit, loaded or not; None when nothing defines it. UsageError never."""
        name = self.library.resolve(name)
        return self.loaded.get(name) or self._unit(name)

    def passes_over(self, folder: str, name: str) -> bool:
        """Whether a link in a `.wants` or `.requires` folder does not count here."""
        unit = folder.rpartition(".")[0]
        if not unit.endswith(".target"):
            return False
        if why_passed_over(name) is not None:
            return True
        if self.wanted.enabled:
            return False
        link = f"{folder}/{name}"
        return link in self._enabled_before() or link not in self.library.links()

    def _unit(self, name: str) -> LoadedUnit | None:
        further: tuple[str, ...] = ()
        if name == USUAL_TARGET:
            further = tuple(map(self.library.resolve, self.wanted.start))
        return self.library.unit(name, further=further)

    def _enabled_before(self) -> frozenset[str]:
        """The machine's own links: those that there were when the node first came up."""
        if self._before is None:
            self._before = self._read_before()
        return self._before

    def _read_before(self) -> frozenset[str]:
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            fd = os.open(BEFORE_FILE, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._state_dir)
            with open(fd, "rb") as file:
                return typed.decode(file.read(), frozenset[str])
        found = self.library.links()
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        try:
            new = f"{BEFORE_FILE}.new"
            with open(os.open(new, flags, 0o600, dir_fd=self._state_dir), "wb") as file:
                file.write(msgspec.json.encode(sorted(found)))
            os.rename(new, BEFORE_FILE, src_dir_fd=self._state_dir, dst_dir_fd=self._state_dir)
        except OSError as error:
            self._log(Level.WARNING, f"which units the machine has enabled is not noted: {error}")
        return found

    # Loading.

    def load(self, names: Iterable[str]) -> None:
        """Load units with all that they start; UsageError for one that nothing defines."""
        self.look()
        wanted = [self.library.resolve(name) for name in names]
        for name in wanted:
            self._must_be(name)
        roots = dict.fromkeys((*self.roots, *wanted))
        if all(name in self.loaded for name in wanted) and len(roots) == len(self.roots):
            return
        self.jobs.remember(ROOTS, list(roots))
        self._apply(self._closure(roots))

    def _must_be(self, name: str) -> LoadedUnit:
        found = self.find(name)
        if found is None:
            raise UsageError("no-unit", f"Unit {name} not found.")
        if found.unit.masked:
            raise UsageError("masked", f"Unit {name} is masked.")
        if found.error is not None:
            raise UsageError("bad-unit", f"Unit {name} has a bad unit file setting: {found.error}")
        return found

    async def refresh(self) -> None:
        """`daemon-reload`: the generators run, then all files are looked at again."""
        if self.setup is not None:
            await self.setup.generate()
        self.reload()

    def reload(self) -> None:
        """Look at all files again, and tell the engine what has changed."""
        self._is_stale = False
        self.library.forget()
        engine = self.jobs.engine
        live = [name for name in self.job_names if name in engine.classes
                and engine.classes[name].instances]  # fmt: skip
        self._apply(self._closure(dict.fromkeys((*self.roots, *live))))

    def _closure(self, roots: Iterable[str]) -> Closure:
        """The units with all that they start or trigger, in turn."""
        found: dict[str, LoadedUnit] = {}
        missing: set[str] = set()
        waiting = list(roots)
        while waiting and len(found) < MAX_LOADED:
            name = self.library.resolve(waiting.pop())
            if name in found or name in missing:
                continue
            unit = self._unit(name)
            if unit is None:
                missing.add(name)
                continue
            unit = msgspec.structs.replace(unit, dependencies=self._by_own_name(unit.dependencies))
            found[name] = unit
            waiting += started_by(unit)
        if waiting and len(found) >= MAX_LOADED:
            self._warn(f"more than {MAX_LOADED} units: the others are not loaded")
        return Closure(found, frozenset(missing))

    def _by_own_name(self, dependencies: Dependencies) -> Dependencies:
        """With aliases replaced by the units that have them."""
        resolve = self.library.resolve
        changed: dict[str, object] = {
            field: names
            for field in dependencies.__struct_fields__
            if isinstance(value := getattr(dependencies, field), tuple)
            and (names := tuple(map(resolve, value))) != value
        }
        if dependencies.triggers is not None:
            # `syslog.socket` triggers `syslog.service`, which any syslog daemon may be.
            changed["triggers"] = resolve(dependencies.triggers)
        return msgspec.structs.replace(dependencies, **changed) if changed else dependencies

    def _apply(self, closure: Closure) -> None:
        """Tell the engine the jobs that have come, changed or gone."""
        linked = link_units(closure.units.values())
        self.loaded = closure.units
        self.cycles = tuple(map(str, linked.cycles))
        pulls = {name: unit.dependencies.pulls for name, unit in closure.units.items()}
        for name in {one for root in self.roots for one in (root, *pull(root, pulls))}:
            if name in closure.units:
                self._complain(closure.units[name])
        for cycle in self.cycles:
            self._warn(cycle)
        before = self.job_names
        names = {job.name for job in linked.jobs}
        self.jobs.remember(JOBS, sorted(before | names))
        classes = self.jobs.engine.classes
        for job in linked.jobs:
            known = classes.get(job.name)
            if (
                known is None
                or known.deleted
                or not same_but_places(known.successor or known.job, job)
            ):
                self.jobs.tell(facts.Load(job=job, related=True))
        for name in sorted(before - names):
            if name in classes:
                self.jobs.tell(facts.Unload(name=name))
        self.jobs.remember(JOBS, sorted(names))

    def _complain(self, unit: LoadedUnit) -> None:
        for each in (*unit.warnings, *((unit.error,) if unit.error is not None else ())):
            self._warn(str(each))

    def _warn(self, text: str) -> None:
        if text not in self._warned and len(self._warned) < MAX_WARNINGS:
            self._warned.add(text)
            self._log(Level.WARNING, text)

    # The boot.

    @property
    def target(self) -> str:
        """What the boot starts."""
        if self.wanted.enabled and self.find(DEFAULT_TARGET) is not None:
            return self.library.resolve(DEFAULT_TARGET)
        return USUAL_TARGET

    def begin(self) -> None:
        """Load what the boot will start, as far as its files are there already.

        So whoever asks while users, files and generated units are made finds the jobs.
        """
        names = (self.target, *map(self.library.resolve, self.wanted.start))
        known = [name for name in names if self._why_not(name) is None]
        self.jobs.remember(ROOTS, list(dict.fromkeys(known)))
        self._apply(self._closure(known))

    async def boot(self) -> None:
        """Start what is to run from the beginning; once, whoever is killed meanwhile."""
        if BOOTED in self.jobs.engine.extra:
            return
        if self.setup is not None:
            await self.setup.make_files()
            await self.setup.generate()
            self.reload()
        names = [name for name in self.wanted.start if self._is_startable(name)]
        target = self.target
        self.watch()
        self.load((target, *names))
        token = self.jobs.token()
        with contextlib.suppress(UsageError):
            # A supervisor before this one may have come so far.
            await self.jobs.request(token, facts.Start(job=target, request=token), wait=False)
        self.jobs.book.forget(token)
        self.jobs.remember(BOOTED, target)

    async def start_beside(self, before: Wanted) -> None:
        """Start what was not to be started until now, in a node that is up."""
        self.watch()
        self.reload()
        names = [self.library.resolve(name) for name in self.wanted.start
                 if name not in before.start and self._is_startable(name)]  # fmt: skip
        if self.wanted.enabled and not before.enabled:
            names.append(self.target)
        self.load(names)
        await self._ask([facts.Start(job=name, request=self.jobs.token()) for name in names])

    async def stop_all_but(self, wanted: Wanted | None) -> None:
        """Stop what is not to be started any longer; all units when nothing is said of them."""
        if wanted is None:
            names = sorted(self.job_names)
        else:
            gone = [name for name in self.wanted.start if name not in wanted.start]
            names = [self.library.resolve(name) for name in gone]
        engine = self.jobs.engine
        live = [name for name in names if engine.instance(name) is not None]
        await self._ask([facts.Stop(job=name, request=self.jobs.token()) for name in live])
        if wanted is None:
            engine.extra.pop(BOOTED, None)
            self.jobs.remember(ROOTS, [])
            self._apply(Closure({}, frozenset()))

    async def _ask(self, requests: list[facts.Start] | list[facts.Stop]) -> None:
        """Ask for all of it at once, and wait; who does so already is let be."""
        asked = []
        for fact in requests:
            assert fact.request is not None
            with contextlib.suppress(UsageError):
                self.jobs.tell(fact)
                asked.append(fact.request)
        for token in asked:
            await self.jobs.book.answer(token)
            self.jobs.book.forget(token)

    def _is_startable(self, name: str) -> bool:
        why = self._why_not(name)
        if why is not None:
            self._log(Level.WARNING, why)
        return why is None

    def _why_not(self, name: str) -> str | None:
        try:
            self._must_be(self.library.resolve(name))
        except UsageError as error:
            return error.message
        return None

    def watch(self) -> None:
        """Read again by itself what changes, until `close`."""
        if self._watching is not None:
            return
        self._watching = Watching(
            self.library.directories,
            self._watches,
            changed=self.library.forget,
            gathered=self.reload,
        )

    def close(self) -> None:
        """Look after files no longer."""
        if self._watching is not None:
            self._watching.close()
            self._watching = None

    def take_up(self) -> None:
        """Go on after another supervisor; its jobs are there, their files are read when needed."""
        if self.roots:
            self._is_stale = True
            self.watch()


def started_by(unit: LoadedUnit) -> Iterator[str]:
    """The units that must be there when this one is: those that it starts, or is started by."""
    each = unit.dependencies
    yield from each.pulls
    yield from each.requisite
    for name in (*each.on_failure, *each.on_success):
        # Nobody sits at a node's terminal to be asked for a password.
        if name != EMERGENCY:
            yield name
    kind = unit.kind
    if isinstance(kind, TimerUnit | PathUnit):
        yield kind.unit
    elif isinstance(kind, SocketUnit):
        yield kind.service
