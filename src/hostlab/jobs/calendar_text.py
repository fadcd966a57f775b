"""Calendar expressions as people write them (`calendar_form` writes them, in normal form).

The grammar is that of systemd's calendarspec.c (version 252), quirks included: a trailing comma
behind weekdays, `Mon-Fri`, years of two digits. Of it only the local zone's abbreviation (`CET`
where the machine is in Berlin) is read differently: as the zone of this name, if there is one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple, NoReturn

from hostlab.errors import Place, SpecError
from hostlab.jobs import zones
from hostlab.jobs.calendar import (
    EVERY_DAY,
    MAX_YEAR,
    MIN_YEAR,
    SECOND,
    Calendar,
    Component,
    Part,
)
from hostlab.spec.source import quoted

NAME: Final = "calendar expression"
"""Stands for the file in an error's place, where the expression is in none."""
MAX_LENGTH: Final = 1024
MAX_NUMBER: Final = 2**31 - 1
_MAX_CACHED: Final = 1024
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_LONG_DAYS: Final = (
    "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday",
)  # fmt: skip
_WEEKDAYS: Final = {
    name: number for number, long in enumerate(_LONG_DAYS) for name in (long, long[:3])
}
_SHORTHANDS: Final = {
    "minutely": "*-*-* *:*:00",
    "hourly": "*-*-* *:00:00",
    "daily": "*-*-* 00:00:00",
    "weekly": "Mon *-*-* 00:00:00",
    "monthly": "*-*-01 00:00:00",
    "quarterly": "*-01,04,07,10-01 00:00:00",
    **dict.fromkeys(
        ("semiannually", "semi-annually", "biannually", "bi-annually"), "*-01,07-01 00:00:00"
    ),
    **dict.fromkeys(("yearly", "annually", "anually"), "*-01-01 00:00:00"),
}
_WORD: Final = re.compile(r"[A-Za-z]+")
_NUMBER: Final = re.compile(r"[0-9]+")
_ENDS: Final = frozenset(" ,-~:")
"""What may stand behind an element, beside the end."""


class _Written(NamedTuple):
    """An element, and where it stands."""

    part: Part
    at: int


_Chain = tuple[_Written, ...] | None


def parse(text: str, *, where: Place | None = None) -> Calendar:
    """An expression; SpecError with the place of what is wrong in it.

    `where` is the place of the expression's first character, if it stands in a file.
    """
    if len(text) > MAX_LENGTH:
        raise SpecError("calendar", "this calendar expression is too long", where=where)
    try:
        return _parse(text)
    except _Fault as fault:
        place = Place(NAME, 1, fault.at + 1, text)
        if where is not None:
            place = Place(where.file, where.line, where.column + fault.at, where.text)
        raise SpecError("calendar", fault.message, where=place, hint=fault.hint) from None


class _Fault(Exception):
    def __init__(self, at: int, message: str, hint: str | None) -> None:
        super().__init__(message)
        self.at, self.message, self.hint = at, message, hint


@lru_cache(_MAX_CACHED)
def _parse(text: str) -> Calendar:
    body, zone = _split_zone(text)
    long = _SHORTHANDS.get(body.lower())
    reader = _Reader(long if long is not None else body)
    if not reader.text:
        reader.fail("this calendar expression is empty", "write `daily` or `Mon *-*-* 03:00`")
    if reader.text.startswith("@"):
        return reader.timestamp()
    return reader.calendar(zone)


def _split_zone(text: str) -> tuple[str, str | None]:
    if text.lower().endswith(" utc"):
        return text[:-4], "UTC"
    body, space, last = text.rpartition(" ")
    if space and zones.find(last) is not None:
        return body, last
    return text, None


class _Reader:
    """An expression and how far it has been read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def fail(self, message: str, hint: str | None = None, at: int | None = None) -> NoReturn:
        raise _Fault(self.at if at is None else at, message, hint)

    def rest(self) -> str:
        return self.text[self.at :]

    def skip_blanks(self) -> None:
        while self.text[self.at : self.at + 1] == " ":
            self.at += 1

    def next(self) -> str:
        """The next character; empty at the end."""
        return self.text[self.at : self.at + 1]

    # The whole.

    def timestamp(self) -> Calendar:
        """`@SECONDS` since 1970."""
        digits = self.text[1:]
        if not _NUMBER.fullmatch(digits) or int(digits) >= 7_258_118_400:
            self.fail("behind `@` stands no number of seconds until the year 2199")
        then = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=int(digits))
        fields = (then.year, then.month, then.day, then.hour, then.minute, then.second * SECOND)
        year, month, day, hour, minute, second = ((Part(field),) for field in fields)
        return Calendar(EVERY_DAY, year, month, day, hour, minute, second, zone="UTC")

    def calendar(self, zone: str | None) -> Calendar:
        weekdays = self.weekdays()
        year, month, day, is_from_end = self.date()
        hour, minute, second = self.time()
        if self.next():
            self.fail_behind()
        return Calendar(
            weekdays,
            _component(year, "year", MIN_YEAR, MAX_YEAR, change=_whole_year),
            _component(month, "month", 1, 12),
            _component(day, "day", 1, 31, is_from_end=is_from_end),
            _component(hour, "hour", 0, 23),
            _component(minute, "minute", 0, 59),
            _component(second, "second", 0, 60 * SECOND - 1, unit=SECOND),
            is_from_end and day is not None,
            zone,
        )

    def fail_behind(self) -> NoReturn:
        """What is wrong where an expression should have ended."""
        last = self.text.rpartition(" ")[2]
        if self.next() == " " or re.match("[A-Za-z]", last):
            at = len(self.text) - len(last)
            self.fail(f"{quoted(last)} is not a time zone", zones.hint(last), at)
        self.fail(f"{quoted(self.rest())} is not expected here", "write `HOUR:MINUTE:SECOND`")

    # Weekdays.

    def weekdays(self) -> int:
        found, first = 0, None
        while word := _WORD.match(self.text, self.at):
            number = _WEEKDAYS.get(word[0].lower())
            if number is None:
                self.fail_word(word[0])
            if first is not None and first > number:
                self.fail(
                    f"the range of weekdays ends on {_DAYS[number]}, before it begins",
                    f"write `{_DAYS[first]}..Sun,Mon..{_DAYS[number]}`",
                )
            for day in range(number if first is None else first, number + 1):
                found |= 1 << day
            self.at = word.end()
            first = number if self.between_days(is_range=first is not None) else None
            if first is None and self.next() in ("", " "):
                self.skip_blanks()
                return found
            if not _WORD.match(self.text, self.at):
                self.fail("here a weekday is missing")
        return found or EVERY_DAY

    def between_days(self, *, is_range: bool) -> bool:
        """Read what stands between two weekdays; whether it makes a range."""
        if self.next() == ",":
            self.at += 1
            return False
        for sign in ("..", "-"):
            if self.text.startswith(sign, self.at):
                if is_range:
                    self.fail("a range of weekdays has one end only", "separate ranges by `,`")
                self.at += len(sign)
                return True
        if self.next() not in ("", " "):
            self.fail(
                f"{quoted(self.next())} cannot stand behind a weekday", "write `Mon,Wed..Fri`"
            )
        return False

    def fail_word(self, word: str) -> NoReturn:
        known = (*_LONG_DAYS, *_DAYS, *_SHORTHANDS)
        close = difflib.get_close_matches(word.lower(), known, n=1)
        hint = f"did you mean `{close[0]}`?" if close else "write `daily` or `Mon *-*-* 03:00`"
        self.fail(f"{quoted(word)} is neither a weekday nor a shorthand", hint)

    # Date and time.

    def date(self) -> tuple[_Chain, _Chain, _Chain, bool]:
        """Year, month and day, and whether days count from the end; nothing read for a time."""
        begin = self.at
        if not self.next():
            return None, None, None, False
        chains = [self.chain()]
        if self.next() in ("", ":"):
            self.at = begin
            return None, None, None, False
        is_from_end = False
        while self.next() in ("-", "~") and len(chains) < 3:
            if is_from_end:
                self.fail("behind the last days of a month (`~`) stands no further field")
            is_from_end = self.next() == "~"
            self.at += 1
            chains.append(self.chain())
        if self.next() not in ("", " ") or len(chains) == 1:
            self.fail(
                f"{quoted(self.next())} cannot stand here in a date",
                "write `YEAR-MONTH-DAY`, `MONTH-DAY`, or `MONTH~DAY` from the month's end",
            )
        self.skip_blanks()
        *year, month, day = chains
        return (year[0] if year else None), month, day, is_from_end

    def time(self) -> tuple[_Chain, _Chain, _Chain]:
        zero = (_Written(Part(0), self.at),)
        if not self.next():
            return zero, zero, zero
        hour = self.chain()
        if self.next() != ":":
            self.fail("a time needs its minutes", "write `HOUR:MINUTE`")
        self.at += 1
        minute = self.chain()
        if self.next() != ":":
            return hour, minute, zero
        self.at += 1
        return hour, minute, self.chain(SECOND)

    def chain(self, unit: int = 1) -> _Chain:
        """One component: `*`, or elements with commas between them."""
        if self.next() == "*":
            at, self.at = self.at, self.at + 1
            if self.next() == "/":
                self.fail("behind `*` stands no step", "write the first value, as `0/5`", at)
            if unit == 1:
                return None
            return (_Written(Part(0, None, unit), at),)
        chain = [self.element(unit)]
        while self.next() == ",":
            self.at += 1
            chain.append(self.element(unit))
        return tuple(chain)

    def element(self, unit: int) -> _Written:
        at = self.at
        start = self.number(unit)
        stop, step = None, 0
        if self.text.startswith("..", self.at):
            self.at += 2
            stop, step = self.number(unit), unit
            if start > stop:
                self.fail("this range ends before it begins", "write its lower end first", at)
        if self.next() == "/":
            self.at += 1
            at_step = self.at
            step = self.number(unit)
            if step == 0:
                self.fail("a step of 0 leads nowhere", at=at_step)
        elif stop is not None and unit != 1 and start + step > stop:
            self.fail("this range is shorter than a second", "write its step behind `/`", at)
        if self.next() and self.next() not in _ENDS:
            self.fail(f"{quoted(self.next())} cannot stand behind a number")
        return _Written(Part(start, stop, step), at)

    def number(self, unit: int) -> int:
        """A number in units; one of seconds may have a fraction, rounded to microseconds."""
        found = _NUMBER.match(self.text, self.at)
        if found is None:
            self.fail("here a number is missing", "write a number, or `*` for every value")
        value = int(found[0][:20]) * unit
        self.at = found.end()
        if unit != 1 and re.match(r"\.(?!\.)", self.rest()):
            fraction = re.compile(r"\.([0-9]+)").match(self.text, self.at)
            if fraction is None:
                self.fail("behind the point stand digits")
            digits = fraction[1].ljust(7, "0")
            value += int(digits[:6]) + (digits[6] >= "5")
            self.at = fraction.end()
        if value > MAX_NUMBER:
            self.fail("this number is too large", at=found.start())
        return value


def _whole_year(part: Part) -> Part:
    """`24` is 2024, and `99` is 1999."""
    return Part(_century(part.start), None if part.stop is None else _century(part.stop), part.step)


def _century(year: int) -> int:
    if year < 70:
        return 2000 + year
    return 1900 + year if year < 100 else year


def _component(
    chain: _Chain,
    name: str,
    low: int,
    high: int,
    *,
    unit: int = 1,
    is_from_end: bool = False,
    change: Callable[[Part], Part] = lambda part: part,
) -> Component:
    """A chain that was found to be this component: in its range, sorted, nothing twice."""
    if chain is None:
        return None
    if is_from_end:
        high -= 3
    parts = set()
    for written in chain:
        part = _shortened(change(written.part))
        _check(part, written.at, name, low, high, unit=unit, is_from_end=is_from_end)
        parts.add(part)
    return tuple(sorted(parts, key=lambda p: (p.start, -1 if p.stop is None else p.stop, p.step)))


def _shortened(part: Part) -> Part:
    """The same values with a stop that is one of them; a range of one value is that value."""
    start, stop, step = part
    if stop is None or not step:
        return part
    if stop > start:
        stop -= (stop - start) % step
    return Part(start) if stop == start else Part(start, stop, step)


def _check(
    part: Part, at: int, name: str, low: int, high: int, *, unit: int, is_from_end: bool
) -> None:
    for value in (part.start, part.stop):
        if value is not None and not low <= value <= high:
            limits = f"{low // unit} to {high // unit}"
            hint = "at most the 28th day from the end is in every month" if is_from_end else None
            raise _Fault(at, f"{value // unit} is no {name}: it is a number from {limits}", hint)
    if not part.step or part.stop is not None:
        return
    is_reached = part.start - part.step >= low if is_from_end else part.start + part.step <= high
    if not is_reached:
        hint = f"leave out `/{part.step // unit}`"
        raise _Fault(at, f"the step leads beyond the last {name} at once", hint)
