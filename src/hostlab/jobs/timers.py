"""Timers: what is due, and when to look again. Times are passed in; nothing here has a clock.

There are two clocks. The wall clock, in seconds since 1970, says when calendar expressions and
lines of cron come; it can be set. The monotonic one goes on evenly, and says when `every` and
`after` come. Each has a heap of its own, so the next deadline is at hand, and a timer that fires
or changes costs O(log n). What was removed or came to another time stays in its heap until it comes
up.

When the wall clock is set, whatever it says about the future is wrong, so all its timers are worked
out anew; that is found by the distance between the two clocks, so it needs no one to tell it.

- A calendar expression whose time was skipped comes at once, and once; after a step back, what has
  been comes again (systemd's timer_time_change()).
- A line of cron knows `SMALL_STEP_S`: a smaller step forwards makes what was skipped come at once,
  and of a smaller step back nothing is repeated; neither holds for lines that follow the clock
  (`Cron.follows_clock`). A larger step is a correction, and the new time counts (cron(8)).

A timer may have a job. Once it has come it is spent while that job runs, and when the job has ended
it is looked for behind its last time: what came meanwhile comes then, and once (systemd's timers
are armed while their unit is inactive). `Since` counts from the job's own start or end.

Of each timer one number is to be remembered: the instant behind which its next time is looked for
(`remembered`). Whoever arms it anew says it (`since`), so nothing is lost or comes twice when a
supervisor replaces another; of persistent timers it outlives the machine's start, and what was
missed comes at once, and once. Random delays are drawn from a name and a time, so the next
supervisor draws the same ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from heapq import heapify, heappop, heappush
from typing import Final

from hostlab.jobs.calendar import Calendar
from hostlab.jobs.cron import Cron
from hostlab.jobs.schedules import (
    After,
    Change,
    Every,
    Firing,
    In,
    On,
    Schedule,
    Since,
    Timer,
)

STEP_S: Final = 0.5
"""By how much the clocks may drift apart between two looks, before the wall clock counts as set."""
SMALL_STEP_S: Final = 3 * 3600.0
MIN_REBUILT: Final = 64
"""Entries of a heap that is built anew when more than half of them count no more."""
_COME: Final = -2.0
"""The base of what comes once and has come; no time of the monotonic clock is below 0."""
_NEVER: Final = -1.0
"""The base of what would come although its time is past."""
_SECOND: Final = timedelta(seconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class _Armed:
    __slots__ = ("at", "base", "is_spent", "name", "scheduled", "serial", "timer")

    def __init__(self, name: str, timer: Timer, base: float) -> None:
        self.name = name
        self.timer = timer
        self.base = base
        """Behind this its next time is looked for, on the clock of its schedule."""
        self.at: float | None = None
        """When it comes, with its delay; None is never."""
        self.scheduled = 0.0
        self.serial = 0
        """Of its entry in a heap that counts."""
        self.is_spent = False
        """It has come, and is armed again when its job runs no more."""

    @property
    def is_wall(self) -> bool:
        return isinstance(self.timer.schedule, Calendar | Cron | On)


@dataclass(slots=True)
class _JobTimes:
    """What timers know of a job, on the monotonic clock."""

    started: float | None = None
    ended: float | None = None
    runs: bool = False
    timers: set[str] = field(default_factory=set)


class _Heap:
    """The armed timers of one clock, by their times."""

    def __init__(self) -> None:
        self.entries: list[tuple[float, int, _Armed]] = []
        self.count = 0

    def first(self) -> _Armed | None:
        """Who comes next; what counts no more is thrown away on the way there."""
        while self.entries:
            _, serial, armed = self.entries[0]
            if armed.serial == serial:
                return armed
            heappop(self.entries)
        return None

    def push(self, armed: _Armed) -> None:
        assert armed.at is not None
        heappush(self.entries, (armed.at, armed.serial, armed))
        if len(self.entries) > MIN_REBUILT and len(self.entries) > 2 * self.count:
            self.entries = [e for e in self.entries if e[2].serial == e[1]]
            heapify(self.entries)


class Timers:
    """All timers of one init."""

    def __init__(self, local: tzinfo, *, seed: str = "", started: float = 0.0) -> None:
        """`local` is the zone of schedules that name none; `seed` is what tells hosts apart.

        `started` is the start from which `After` counts, on the monotonic clock.
        """
        self.local = local
        self.seed = seed
        self.started = started
        self._armed: dict[str, _Armed] = {}
        self._wall = _Heap()
        self._monotonic = _Heap()
        self._jobs: dict[str, _JobTimes] = {}
        self._changed: set[Change] = set()
        self._serial = 0
        self._distance: float | None = None
        """Wall clock minus monotonic clock, when they were last seen."""

    def __len__(self) -> int:
        return len(self._armed)

    def __iter__(self) -> Iterator[str]:
        return iter(self._armed)

    def add(
        self,
        name: str,
        timer: Timer,
        now_wall: float,
        now_monotonic: float,
        *,
        since: float | None = None,
    ) -> None:
        """Arm a timer, or arm it anew with another schedule.

        `since` is what was remembered of it, if anything was; else it begins now. Of one that is
        not persistent it must be of this start of the machine.
        """
        self.remove(name)
        armed = _Armed(name, timer, 0.0)
        now = now_wall if armed.is_wall else now_monotonic
        # An instant of the future was remembered under a clock that has been set back since.
        first = _first_base(timer.schedule, now)
        armed.base = first if since is None else min(since, now)
        self._armed[name] = armed
        if timer.job is not None:
            self._jobs.setdefault(timer.job, _JobTimes()).timers.add(name)
        if self._distance is None:
            self._distance = now_wall - now_monotonic
        self._heap(armed).count += 1
        self._arm(armed)

    def remove(self, name: str) -> None:
        """Forget a timer; one that is not there is no mistake."""
        armed = self._armed.pop(name, None)
        if armed is not None:
            armed.serial = -1
            self._heap(armed).count -= 1
            if armed.timer.job is not None:
                times = self._jobs[armed.timer.job]
                times.timers.discard(name)
                if not times.timers:
                    del self._jobs[armed.timer.job]

    def next_wall(self) -> float | None:
        """The wall clock's next deadline."""
        return _time_of(self._wall.first())

    def next_monotonic(self) -> float | None:
        """The monotonic clock's next deadline."""
        return _time_of(self._monotonic.first())

    def next_deadline(self, now_wall: float, now_monotonic: float) -> float | None:
        """The next one of both, on the monotonic clock, if nobody sets the other until then."""
        wall, deadline = self.next_wall(), self.next_monotonic()
        if wall is not None:
            wall += now_monotonic - now_wall
            deadline = wall if deadline is None else min(wall, deadline)
        return deadline

    def deadline(self, name: str) -> float | None:
        """When a timer comes next, on the clock of its schedule; None is never."""
        return self._armed[name].at

    def is_wall(self, name: str) -> bool:
        """Whether a timer follows the wall clock."""
        return self._armed[name].is_wall

    def is_over(self, name: str) -> bool:
        """Whether a timer never comes again, whatever happens."""
        armed = self._armed[name]
        if armed.at is not None or isinstance(armed.timer.schedule, Since | On):
            return False
        return self._next(armed) is None

    def remembered(self) -> Mapping[str, float]:
        """Of each timer what `add` is to be told when it is armed anew (`since`)."""
        return {name: armed.base for name, armed in self._armed.items()}

    def remembered_of(self, names: Iterable[str]) -> dict[str, float]:
        """The same of some, at no cost for the others."""
        return {name: self._armed[name].base for name in names}

    def is_persistent(self, name: str) -> bool:
        """Whether a timer is among the `persistent` ones."""
        armed = self._armed[name]
        return armed.timer.is_persistent and armed.is_wall

    def persistent(self) -> Mapping[str, float]:
        """What is to outlive the machine's start: of the persistent timers of the wall clock."""
        return {name: armed.base for name, armed in self._armed.items() if self.is_persistent(name)}

    def due(self, now_wall: float, now_monotonic: float) -> tuple[Firing, ...]:
        """What came until now, each timer once, the earliest first; all are armed anew."""
        self._look_at_clocks(now_wall, now_monotonic)
        fired = []
        for heap, now in ((self._wall, now_wall), (self._monotonic, now_monotonic)):
            while (armed := heap.first()) is not None and armed.at is not None and armed.at <= now:
                fired.append(Firing(armed.name, armed.scheduled, now - armed.at))
                self._rearm(armed, now)
        fired += self._set_now(now_monotonic)
        fired.sort(key=lambda firing: -firing.late_s)
        return tuple(fired)

    def _rearm(self, armed: _Armed, now: float) -> None:
        """After it has come."""
        schedule = armed.timer.schedule
        if isinstance(schedule, Every):
            # Its base is a beat: the last one that is not ahead.
            armed.base += max(1, (now - armed.base) // schedule.interval_s) * schedule.interval_s
        elif isinstance(schedule, In):
            armed.base = _COME
        else:
            armed.base = now
        if armed.timer.job is None:
            self._arm(armed)
        else:
            self._spend(armed)

    def _spend(self, armed: _Armed) -> None:
        self._serial += 1
        armed.serial, armed.at, armed.is_spent = self._serial, None, True

    # Their jobs.

    def recall_job(self, job: str, times: Mapping[str, float], now: float, *, runs: bool) -> None:
        """What is known of a job when the first timer of it is armed.

        `times` is what `remembered_jobs` has said of it; `now` is on the monotonic clock.
        """
        known = self._jobs[job]
        known.started, known.ended = times.get(f"started {job}"), times.get(f"ended {job}")
        known.runs = runs
        is_told = known.started is not None and known.started > (known.ended or 0.0)
        if runs and not is_told:
            known.started = now
        elif not runs and is_told:
            known.ended = now
        self._arm_of(known)

    def job_changed(self, job: str, now: float, *, runs: bool) -> None:
        """A job was started, or has ended; of one that no timer has, nothing comes."""
        known = self._jobs.get(job)
        if known is None or known.runs == runs:
            return
        known.runs = runs
        if runs:
            known.started = now
        else:
            known.ended = now
        self._arm_of(known)

    def settle(self, name: str) -> None:
        """A timer that has come was told: if that has started nothing, it is armed again."""
        armed = self._armed.get(name)
        if armed is not None and armed.is_spent and not self._jobs[armed.timer.job or ""].runs:
            armed.is_spent = False
            self._arm(armed)

    def remembered_jobs(self, *jobs: str) -> Mapping[str, float]:
        """What `recall_job` is to be told by the next supervisor: of these jobs, or of all."""
        found = {}
        for job in jobs or self._jobs:
            known = self._jobs[job]
            if known.started is not None:
                found[f"started {job}"] = known.started
            if known.ended is not None:
                found[f"ended {job}"] = known.ended
        return found

    @property
    def has_jobs(self) -> bool:
        """Whether any timer has a job."""
        return bool(self._jobs)

    @property
    def has_wall(self) -> bool:
        """Whether any timer follows the wall clock, or waits for what is done to it."""
        return self._wall.count > 0

    def knows_job(self, job: str) -> bool:
        """Whether a timer has this job."""
        return job in self._jobs

    def _arm_of(self, known: _JobTimes) -> None:
        for name in known.timers:
            armed = self._armed[name]
            if armed.is_spent:
                if not known.runs:
                    armed.is_spent = False
                    self._arm(armed)
            elif isinstance(armed.timer.schedule, Since):
                self._arm(armed)

    # Arming.

    def _heap(self, armed: _Armed) -> _Heap:
        return self._wall if armed.is_wall else self._monotonic

    def _arm(self, armed: _Armed) -> None:
        """Work out when it comes next."""
        self._serial += 1
        armed.serial = self._serial
        scheduled = self._next(armed)
        if scheduled is None:
            armed.at = None
            return
        armed.scheduled = scheduled
        armed.at = scheduled + self._delay(armed)
        self._heap(armed).push(armed)

    def _next(self, armed: _Armed) -> float | None:
        match armed.timer.schedule:
            case Calendar() | Cron() as schedule:
                after = _EPOCH + timedelta(seconds=armed.base)
                found = schedule.next_elapse(after, self.local)
                return None if found is None else (found - _EPOCH) / _SECOND
            case Every(interval_s):
                return armed.base + interval_s
            case After(delay_s=delay_s):
                at = self.started + delay_s
                return at if at > armed.base else None
            case In(delay_s):
                return None if armed.base == _COME else armed.base + delay_s
            case Since() as since:
                return self._next_since(armed, since)
            case On():
                return None

    def _next_since(self, armed: _Armed, since: Since) -> float | None:
        known = self._jobs[armed.timer.job or ""]
        when = known.ended if since.is_end else known.started
        if when is None or (since.is_end and known.runs):
            return None
        if since.comes_again:
            return max(when, armed.base) + since.delay_s
        at = when + since.delay_s
        return at if at > armed.base else None

    def _delay(self, armed: _Armed) -> float:
        if not armed.timer.random_delay_s:
            return 0.0
        text = f"{self.seed}\0{armed.name}"
        if not armed.timer.is_delay_fixed:
            text += f"\0{armed.scheduled}"
        drawn = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
        return armed.timer.random_delay_s * drawn / 2**64

    # The wall clock is set.

    def set_changed(self, change: Change) -> None:
        """The clock was set, or the zone is another one: `due` tells of it once."""
        self._changed.add(change)

    def _set_now(self, now: float) -> list[Firing]:
        """The timers that wait for what has just been done to the clock."""
        if not self._changed:
            return []
        fired = []
        for armed in self._armed.values():
            schedule = armed.timer.schedule
            if isinstance(schedule, On) and schedule.change in self._changed:
                fired.append(Firing(armed.name, now, 0.0))
                armed.base = now
        self._changed.clear()
        return fired

    def _look_at_clocks(self, now_wall: float, now_monotonic: float) -> None:
        distance = now_wall - now_monotonic
        if self._distance is None:
            self._distance = distance
        step_s = distance - self._distance
        if abs(step_s) <= STEP_S:
            # Slow drift adds up to no step.
            self._distance = distance
            return
        self._distance = distance
        for armed in self._armed.values():
            if armed.is_wall and self._is_step_for(armed, step_s):
                is_cron = isinstance(armed.timer.schedule, Cron)
                armed.base = now_wall if is_cron else min(armed.base, now_wall)
                self._arm(armed)

    def _is_step_for(self, armed: _Armed, step_s: float) -> bool:
        """Whether a timer is to be worked out anew; else what it has is right after the step."""
        schedule = armed.timer.schedule
        if isinstance(schedule, Cron):
            return schedule.follows_clock or abs(step_s) >= SMALL_STEP_S
        # Forwards its time is still the first one behind its base, and due if it was skipped.
        return step_s < 0

    def set_local(self, local: tzinfo) -> None:
        """The machine is in another zone: work out anew what names none."""
        self.local = local
        for armed in self._armed.values():
            if armed.is_wall and getattr(armed.timer.schedule, "zone", None) is None:
                self._arm(armed)


def _first_base(schedule: Schedule, now: float) -> float:
    """Behind what a timer that nothing is remembered of looks for its next time."""
    late = isinstance(schedule, Since) or (isinstance(schedule, After) and schedule.comes_late)
    return _NEVER if late else now


def _time_of(armed: _Armed | None) -> float | None:
    return None if armed is None else armed.at
