"""Timers as events: `timer CALENDAR=… NAME=… AT=…`.

A timer may have a job (`JOB=`): then the source is told when that starts and ends. Where a timer is
for the machine's zone, `/etc/localtime` is watched.

Two timerfds, one a clock, armed for the next deadline only, so an init with ten thousand timers
sleeps until one of them is due. That of the wall clock becomes readable when the clock is set, too.

What `Timers` wants remembered is noted for the next supervisor in a memfd that the holder keeps:
first all of it, then a line a firing. An event is told before it is noted, so a supervisor that is
killed between the two tells it twice rather than never. Of persistent timers it is also written to
a file, which is found again after the machine's start.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from typing import Final, NamedTuple, Protocol
from zoneinfo import ZoneInfo

import msgspec

from hostlab import typed
from hostlab.errors import SpecError
from hostlab.init.lasting import stamped
from hostlab.init.sources import Surroundings
from hostlab.init.watches import Trail, watch_path
from hostlab.jobs import named_event, timer_operand
from hostlab.jobs.facts import Emit
from hostlab.jobs.schedules import After, Change, Firing, Timer
from hostlab.jobs.timers import Timers
from hostlab.linux.timerfd import CLOCK_BOOTTIME, CLOCK_REALTIME, TimerFd
from hostlab.spec.job import Match

KEPT: Final = "timers"
"""What the holder calls the memfd."""
FILE: Final = "timers.json"
MAX_NOTES: Final = 4096
"""Lines behind the first, after which all is noted anew; more, where there are more timers."""
TIMER_UNIT: Final = ".timer"
"""Ends the names of units, whose services are told by what they were started (systemd.exec(5))."""
LOCALTIME: Final = "/etc/localtime"
_Notes = dict[str, float]


class Row(NamedTuple):
    """A timer, for a person."""

    words: str
    """What the operand says."""
    name: str
    next: float | None
    """Seconds since 1970."""
    last: float | None


class Clocks(Protocol):
    """The two clocks of `Timers`."""

    def wall(self) -> float: ...
    def monotonic(self) -> float: ...


class SystemClocks:
    """The machine's."""

    def wall(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since the machine's start, with those in which it slept."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)


def open_source(surroundings: Surroundings) -> TimerSource:
    """The source of timers."""
    return TimerSource(surroundings)


class TimerSource:
    """Arms what the jobs' operands say, and tells of what is due."""

    def __init__(self, surroundings: Surroundings, clocks: Clocks | None = None) -> None:
        self._surroundings = surroundings
        self._clocks = clocks or SystemClocks()
        self._timers = Timers(local_zone(), seed=surroundings.host, started=surroundings.started)
        self._words: dict[str, tuple[str, ...]] = {}
        self._named: dict[str, set[str]] = {}
        """Timers by the NAME of their event."""
        self._last: dict[str, float] = {}
        """When each came last, on the wall clock."""
        self._unwatch: Callable[[], None] | None = None
        self._zone_watch: Trail | None = None
        self._wrong: set[str] = set()
        """Operands that were told to be no timers."""
        self._noted = 0
        self._notes = -1
        self._of_earlier_starts = self._read_file()
        self._remembered = self._of_earlier_starts | self._read_kept()
        self._fds: list[TimerFd] = []
        with contextlib.ExitStack() as stack:
            for clock in (CLOCK_REALTIME, CLOCK_BOOTTIME):
                fd = TimerFd(clock)
                stack.callback(fd.close)
                self._fds.append(fd)
                asyncio.get_running_loop().add_reader(fd.fd, self._wake, fd)
            stack.pop_all()

    def listen(self, operands: frozenset[Match]) -> None:
        """Arm what is new, forget what is gone; an operand that cannot be meant is told."""
        wanted = {
            " ".join(match.arguments): named_event.arguments(match)
            for match in operands
            if named_event.says(match)
        }
        for key in self._words.keys() - wanted.keys():
            self._remove(key)
        self._wrong &= wanted.keys()
        for key in sorted(wanted.keys() - self._words.keys() - self._wrong):
            self._add(key, wanted[key])
        self._watch_jobs()
        self._watch_zone()
        self._note_all()
        self._due()

    def _remove(self, key: str) -> None:
        self._timers.remove(key)
        self._last.pop(key, None)
        name = _name(self._words.pop(key))
        self._named[name].discard(key)
        if not self._named[name]:
            del self._named[name]

    def _add(self, key: str, words: tuple[str, ...]) -> None:
        try:
            timer = timer_operand.parse(words)
        except SpecError as error:
            hint = f" ({error.hint})" if error.hint else ""
            self._surroundings.warn(f"timer {key}: {error.message}{hint}")
            self._wrong.add(key)
            return
        if isinstance(timer.schedule, After) and self._surroundings.boots():
            # It is for init's start, which took so long.
            timer = replace(timer, schedule=replace(timer.schedule, comes_late=True))
        clocks = self._clocks
        since = self._remembered.pop(key, None)
        if since is None:
            since = self._stamped(timer, words)
        is_new = timer.job is not None and not self._timers.knows_job(timer.job)
        self._timers.add(key, timer, clocks.wall(), clocks.monotonic(), since=since)
        self._words[key] = words
        if (last := self._remembered.pop(f"last {key}", None)) is not None:
            self._last[key] = last
        self._named.setdefault(_name(words), set()).add(key)
        if is_new:
            job = timer.job or ""
            runs = self._surroundings.runs(job)
            self._timers.recall_job(job, self._remembered, clocks.monotonic(), runs=runs)

    def rows(self) -> list[Row]:
        """Every timer that is armed, for a person."""
        return [self._row(key, words) for key, words in self._words.items()]

    def _row(self, key: str, words: tuple[str, ...]) -> Row:
        at = self._timers.deadline(key)
        if at is not None and not self._timers.is_wall(key):
            at += self._clocks.wall() - self._clocks.monotonic()
        return Row(key, _name(words), at, self._last.get(key))

    # Jobs and zones that timers are about.

    def _watch_jobs(self) -> None:
        """Hear of jobs only while a timer has one."""
        has_jobs = self._timers.has_jobs
        if has_jobs and self._unwatch is None:
            self._unwatch = self._surroundings.watch_jobs(self._job_changed)
        elif not has_jobs and self._unwatch is not None:
            self._unwatch()
            self._unwatch = None

    def _job_changed(self, job: str) -> None:
        if not self._timers.knows_job(job):
            return
        runs = self._surroundings.runs(job)
        self._timers.job_changed(job, self._clocks.monotonic(), runs=runs)
        self._append(dict(self._timers.remembered_jobs(job)))
        self._due()

    def _watch_zone(self) -> None:
        """The machine's zone, as long as a timer follows the wall clock."""
        watches = self._surroundings.watches
        if watches is None or not self._timers.has_wall or self._zone_watch is not None:
            return
        self._zone_watch = watch_path(watches, LOCALTIME, self._zone_changed)

    def _zone_changed(self) -> None:
        zone = local_zone()
        if str(zone) == str(self._timers.local):
            return
        self._timers.set_local(zone)
        self._timers.set_changed(Change.ZONE)
        self._due()

    def close(self) -> None:
        """Nobody waits for a timer any more."""
        for fd in self._fds:
            asyncio.get_running_loop().remove_reader(fd.fd)
            fd.close()
        self._fds.clear()
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None
        if self._zone_watch is not None:
            self._zone_watch.close()
            self._zone_watch = None
        if self._notes >= 0:
            os.close(self._notes)
            self._notes = -1
            self._surroundings.drop(KEPT)

    # What is due.

    def _wake(self, fd: TimerFd) -> None:
        # `Timers` sees by the clocks what is due and by how much they were set.
        if not fd.read():
            self._timers.set_changed(Change.CLOCK)
        self._due()

    def _due(self) -> None:
        fired = self._timers.due(self._clocks.wall(), self._clocks.monotonic())
        for firing in fired:
            self._tell(firing)
        for firing in fired:
            self._timers.settle(firing.name)
        if fired:
            self._note([firing.name for firing in fired])
        for fd, at in zip(
            self._fds, (self._timers.next_wall(), self._timers.next_monotonic()), strict=True
        ):
            fd.set(at)

    def _tell(self, firing: Firing) -> None:
        variables = named_event.environment(self._words[firing.name])
        at = datetime.fromtimestamp(self._clocks.wall() - firing.late_s, UTC)
        told = [("AT", f"{at:%Y-%m-%dT%H:%M:%SZ}")]
        name = _name(self._words[firing.name])
        if name.endswith(TIMER_UNIT):
            # A unit's processes find no more in their environment than systemd puts there.
            variables = ((named_event.NAME, name),)
            usec = round((self._clocks.wall() - firing.late_s) * 1e6)
            told += [("TRIGGER_UNIT", name), ("TRIGGER_TIMER_REALTIME_USEC", str(usec))]
        others = self._named[name]
        if all(self._timers.is_over(key) for key in others):
            told.append(("LAST", "1"))
        self._surroundings.tell(Emit(name=named_event.TIMER, environment=(*variables, *told)))

    # What is remembered.

    def _note(self, names: list[str]) -> None:
        now = self._clocks.wall()
        there = [name for name in names if name in self._words]
        self._last |= dict.fromkeys(there, now)
        if self._noted > max(MAX_NOTES, len(self._timers)):
            self._note_all()
            return
        changed = self._timers.remembered_of(there)
        changed |= {f"last {name}": now for name in there}
        self._append(changed)
        if any(map(self._timers.is_persistent, there)):
            self._write_file()

    def _append(self, changed: _Notes) -> None:
        os.write(self._notes, msgspec.json.encode(changed) + b"\n")
        self._noted += 1

    def _note_all(self) -> None:
        fd = os.memfd_create("hostlab timers", os.MFD_CLOEXEC)
        with open(fd, "wb", closefd=False) as file:
            # What was remembered of timers whose jobs have not come yet is not forgotten.
            notes = self._remembered | dict(self._timers.remembered())
            notes |= self._timers.remembered_jobs()
            notes |= {f"last {name}": at for name, at in self._last.items()}
            file.write(msgspec.json.encode(notes) + b"\n")
        self._surroundings.keep(KEPT, fd)
        if self._notes >= 0:
            os.close(self._notes)
        self._notes, self._noted = fd, 0
        self._write_file()

    def _write_file(self) -> None:
        lasting = self._surroundings.lasting
        persistent = dict(self._timers.persistent())
        if lasting is None or not persistent:
            return
        try:
            lasting.write(FILE, msgspec.json.encode(self._of_earlier_starts | persistent))
        except OSError as error:
            self._surroundings.warn(f"persistent timers are not remembered: {error}")

    def _read_kept(self) -> _Notes:
        """What an earlier supervisor noted."""
        fd = self._surroundings.kept.get(KEPT)
        return {} if fd is None else read_notes(os.pread(fd, os.fstat(fd).st_size, 0))

    def _read_file(self) -> _Notes:
        """What is written of the persistent ones."""
        lasting = self._surroundings.lasting
        return {} if lasting is None else read_notes(lasting.read(FILE))

    def _stamped(self, timer: Timer, words: tuple[str, ...]) -> float | None:
        """What systemd remembers of a unit's timer, of which nothing is remembered here."""
        stamps = self._surroundings.stamps
        return stamped(stamps, _name(words)) if stamps and timer.is_persistent else None


def _name(words: tuple[str, ...]) -> str:
    return dict(named_event.environment(words))[named_event.NAME]


def read_notes(data: bytes) -> _Notes:
    """Lines of names and instants, a later one before an earlier; a torn last one is left out."""
    notes: _Notes = {}
    for line in data.splitlines():
        with contextlib.suppress(msgspec.DecodeError):
            notes.update(typed.decode(line, _Notes))
    return notes


def local_zone(path: str | None = None) -> tzinfo:
    """The zone of the machine, or of the node; UTC where none is set."""
    path = LOCALTIME if path is None else path
    try:
        with open(path, "rb") as file:
            return ZoneInfo.from_file(file, key=os.path.realpath(path).partition("zoneinfo/")[2])
    except (OSError, ValueError):
        return UTC
