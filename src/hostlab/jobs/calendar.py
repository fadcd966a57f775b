"""Calendar expressions, as values: the instants at which one elapses (systemd.time(7)).

An expression names local times: those whose year, month, day, weekday, hour, minute and second it
lists. A zone's clock makes instants of them, and at its changes it does so in an odd way:

- a local time that is left out (02:30 on the day when summer time begins) is skipped;
- a local time that comes twice counts once, the first time. Whoever asks for the next one from
  within the second hour gets the rest of that hour again.

Both as systemd does, which walks through broken-down local times too (calendarspec.c,
find_next()). The years end with 2199, as there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, NamedTuple

from hostlab.jobs import zones

MIN_YEAR: Final = 1970
MAX_YEAR: Final = 2199
SECOND: Final = 1_000_000
"""Microseconds."""
EVERY_DAY: Final = 0b1111111
MAX_GAPS: Final = 1000
"""Times in a row that a zone leaves out, before the expression counts as one that never elapses."""
_MICROSECOND: Final = timedelta(microseconds=1)
_DAY: Final = timedelta(days=1)


class Part(NamedTuple):
    """One element of a component: a value, a range, or either with a step."""

    start: int
    stop: int | None = None
    """None with a step: up to the end of what the component can be."""
    step: int = 0

    def first(self, least: int) -> int | None:
        """Its first value that is not below `least`."""
        if self.start >= least:
            return self.start
        if not self.step:
            return None
        value = self.start - (self.start - least) // self.step * self.step
        return None if self.stop is not None and value > self.stop else value


Component = tuple[Part, ...] | None
"""None is `*`."""


@dataclass(frozen=True, slots=True)
class Calendar:
    """One expression. Its seconds are counted in microseconds."""

    weekdays: int = EVERY_DAY
    """A bit for each, Monday's is the lowest."""
    year: Component = None
    month: Component = None
    day: Component = None
    hour: Component = (Part(0),)
    minute: Component = (Part(0),)
    second: Component = (Part(0),)
    is_from_end: bool = False
    """Days count from the end of the month (`~`): 1 is the last one."""
    zone: str | None = None
    """None is the local one."""

    def next_elapse(self, after: datetime, local: tzinfo) -> datetime | None:
        """The first instant behind `after`, in UTC; None when there is none.

        `after` knows its zone. `local` is the zone of an expression that names none.
        """
        zone = (zones.find(self.zone) if self.zone else None) or local
        at = after.astimezone(zone).replace(tzinfo=None, fold=0) + _MICROSECOND
        for _ in range(MAX_GAPS):
            found = self.next_local(at)
            if found is None:
                return None
            instant = _instant(found, zone, after)
            if instant is not None:
                return instant
            at = _end_of_gap(found, zone)
        return None

    def next_local(self, at: datetime) -> datetime | None:
        """The first local time that is listed, `at` itself included."""
        for year in _values(self.year, at.year, MAX_YEAR):
            is_year = year == at.year
            for month in _values(self.month, at.month if is_year else 1, 12):
                is_month = is_year and month == at.month
                for day in self._days(year, month, at.day if is_month else 1):
                    least = at if is_month and day == at.day else None
                    found = self._time(least)
                    if found is not None:
                        return datetime(year, month, day) + found  # noqa: DTZ001 - a local time
        return None

    def _days(self, year: int, month: int, least: int) -> Iterator[int]:
        first = datetime(year, month, 1)  # noqa: DTZ001 - a local date
        length = ((first + 31 * _DAY).replace(day=1) - first).days
        parts = self.day
        if self.is_from_end and parts is not None:
            parts = tuple(_from_end(part, length) for part in parts)
        for day in _values(parts, least, length):
            if self.weekdays >> (first.weekday() + day - 1) % 7 & 1:
                yield day

    def _time(self, at: datetime | None) -> timedelta | None:
        """The first time of a day, not before that of `at`."""
        least = (0, 0, 0)
        if at is not None:
            least = (at.hour, at.minute, at.second * SECOND + at.microsecond)
        for hour in _values(self.hour, least[0], 23):
            is_hour = hour == least[0]
            for minute in _values(self.minute, least[1] if is_hour else 0, 59):
                is_minute = is_hour and minute == least[1]
                second = _first(self.second, least[2] if is_minute else 0)
                if second is not None and second < 60 * SECOND:
                    return timedelta(hours=hour, minutes=minute, microseconds=second)
        return None


def _first(component: Component, least: int) -> int | None:
    if component is None:
        return least
    found = [value for part in component if (value := part.first(least)) is not None]
    return min(found, default=None)


def _values(component: Component, least: int, most: int) -> Iterator[int]:
    value = _first(component, least)
    while value is not None and value <= most:
        yield value
        value = _first(component, value + 1)


def _from_end(part: Part, length: int) -> Part:
    """A part that counts from a month's end, as one that counts from its beginning.

    `~7/1` begins seven days before the end and goes on, `~1..3` is the last three days.
    """
    start = length + 1 - part.start
    if part.stop is None:
        return Part(start, None, part.step)
    stop = length + 1 - part.stop
    return Part(min(start, stop), max(start, stop), part.step)


def _instant(local: datetime, zone: tzinfo, after: datetime) -> datetime | None:
    """The first instant behind `after` at which the clocks of a zone show a time."""
    for fold in (0, 1):
        instant = local.replace(tzinfo=zone, fold=fold).astimezone(UTC)
        shown = instant.astimezone(zone).replace(tzinfo=None, fold=0)
        if shown == local and instant > after:
            return instant
    return None


def _end_of_gap(local: datetime, zone: tzinfo) -> datetime:
    """The first local time that exists again behind one that a zone leaves out."""
    before, behind = (local.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1))
    assert before is not None
    assert behind is not None
    low, high = 0, (behind - before) // _MICROSECOND
    while high - low > 1:
        middle = (low + high) // 2
        if _is_shown(local + middle * _MICROSECOND, zone):
            high = middle
        else:
            low = middle
    return local + max(high, 1) * _MICROSECOND


def _is_shown(local: datetime, zone: tzinfo) -> bool:
    instant = local.replace(tzinfo=zone).astimezone(UTC)
    return instant.astimezone(zone).replace(tzinfo=None, fold=0) == local
