"""When timers come, and how: the kinds of them, as values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hostlab.jobs.calendar import Calendar
from hostlab.jobs.cron import Cron


@dataclass(frozen=True, slots=True)
class Every:
    """Again and again, first when the interval has passed since it was armed."""

    interval_s: float
    """Above 0. The beats stay where they are, however late one comes; missed ones come once."""


@dataclass(frozen=True, slots=True)
class After:
    """Once, this long after the start; what is armed later has missed it."""

    delay_s: float
    comes_late: bool = False
    """What is armed later comes at once instead (systemd's OnBootSec)."""


@dataclass(frozen=True, slots=True)
class In:
    """Once, this long after it was armed (systemd's OnActiveSec)."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Since:
    """This long after the timer's job was last started, or ended; while neither was, never."""

    delay_s: float
    is_end: bool = False
    comes_again: bool = False
    """And again and again until the job is started anew: the delay counts from when the timer
    itself came last, too (systemd's OnUnitActiveSec and OnUnitInactiveSec)."""


class Change(StrEnum):
    """What may be done to the wall clock."""

    CLOCK = "clock-change"
    ZONE = "zone-change"


@dataclass(frozen=True, slots=True)
class On:
    """When somebody sets the clock, or puts the machine into another zone."""

    change: Change


Schedule = Calendar | Cron | Every | After | In | Since | On


@dataclass(frozen=True, slots=True)
class Timer:
    """What fires, and how."""

    schedule: Schedule
    random_delay_s: float = 0.0
    """Up to this much later, each time another; spreads what many hosts do at the same time."""
    is_delay_fixed: bool = False
    """The random delay is always the same one (systemd's FixedRandomDelay)."""
    is_persistent: bool = False
    """What came while nobody looked comes when somebody does (systemd's Persistent)."""
    job: str | None = None
    """When the timer has come and this job runs, it is armed again when that has ended."""


@dataclass(frozen=True, slots=True)
class Firing:
    """A timer came."""

    name: str
    scheduled: float
    """When it was to come, without its random delay; on the clock of its schedule."""
    late_s: float
    """How long ago it was to come, with it: more than a moment where nobody looked."""
