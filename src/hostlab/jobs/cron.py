"""Cron's five fields, and the instants at which they come true.

The grammar is that of Debian's cron (crontab(5)); `cronsim` works out the next instant, for it
treats the changes of a zone's clock as that cron does (cron(8)): with `*` in the minutes or hours
a line follows the clock as it goes; without, what summer time leaves out runs right behind the
gap, and what comes twice runs the first time only.

cronsim's own parser takes more (`L`, `#`, `5/10`) and tells no place, so fields are read here
first.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Final, NamedTuple

from hostlab.errors import Place, SpecError
from hostlab.jobs import zones
from hostlab.spec.source import Wrong, quoted

NAME: Final = "cron line"
"""Stands for the file in an error's place, where the line is in none."""
REBOOT: Final = "@reboot"
SHORTHANDS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
MAX_LENGTH: Final = 1000
"""Characters of one field (cron's MAX_COMMAND)."""
_MONTHS: Final = (
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
)  # fmt: skip
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()


FIELDS: Final = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 7, _DAYS),
)


@dataclass(frozen=True, slots=True)
class Cron:
    """When a line of cron comes true."""

    fields: str
    """The five, with single blanks."""
    zone: str | None = None
    """None is the local one."""

    @property
    def follows_clock(self) -> bool:
        """Whether a clock that is set makes no difference to it (cron(8), `*` in its time)."""
        minute, hour, *_ = self.fields.split()
        return minute.startswith("*") or hour.startswith("*")

    def next_elapse(self, after: datetime, local: tzinfo) -> datetime | None:
        """The first instant behind `after`, in UTC; None when there is none within 50 years."""
        from cronsim import CronSim

        zone = (zones.find(self.zone) if self.zone else None) or local
        # Without its fold a time of the doubled hour would be taken for the first one.
        for found in CronSim(self.fields, after.astimezone(zone)):
            instant = found.astimezone(UTC)
            if instant > after:
                return instant
        return None


def parse(text: str, *, zone: str | None = None, where: Place | None = None) -> Cron:
    """Five fields or a shorthand; SpecError with the place of what is wrong.

    `where` is the place of the first character, if it stands in a file. `@reboot` is no time.
    """
    position = len(text) - len(text.lstrip())
    try:
        return Cron(_fields(text, position), zone)
    except _Fault as fault:
        place = Place(NAME, 1, fault.at + 1, text)
        if where is not None:
            place = Place(where.file, where.line, where.column + fault.at, where.text)
        raise SpecError("cron", fault.message, where=place, hint=fault.hint) from None


class _Fault(Wrong):
    def __init__(self, at: int, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.at = at


def _fields(text: str, at: int) -> str:
    from cronsim import CronSim, CronSimError

    words = text.split()
    if words and words[0].startswith("@"):
        return _shorthand(words, at)
    if len(words) != len(FIELDS):
        missing = "day of week" if len(words) >= len(FIELDS) else FIELDS[len(words)].name
        if len(words) > len(FIELDS):
            message, hint = "behind the day of week stands no further field", None
        else:
            message = f"{len(words)} of cron's 5 fields are here; the {missing} is missing"
            hint = "write minute, hour, day of month, month and day of week; `*` is every one"
        raise _Fault(len(text), message, hint)
    for word, field in zip(words, FIELDS, strict=True):
        at = text.index(word, at)
        _check(word, field, at)
        at += len(word)
    try:
        CronSim(" ".join(words), datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError:
        place = text.index(words[2], text.index(words[1]) + len(words[1]))
        raise _Fault(place, "no month that is named has this day: it never comes") from None
    return " ".join(words)


def _shorthand(words: list[str], at: int) -> str:
    name = words[0].lower()
    if name == REBOOT:
        raise _Fault(at, "`@reboot` is no time", "write `start on startup`")
    if name not in SHORTHANDS or len(words) > 1:
        close = difflib.get_close_matches(name, SHORTHANDS, n=1)
        raise _Fault(
            at,
            f"{quoted(' '.join(words))} is no shorthand of cron",
            f"did you mean `{close[0]}`?" if close else f"known: {', '.join(SHORTHANDS)}",
        )
    return SHORTHANDS[name]


def _check(word: str, field: _Field, at: int) -> None:
    """One field; cron's get_list()."""
    if len(word) > MAX_LENGTH:
        raise _Fault(at, f"the {field.name} is too long")
    for element in word.split(","):
        span, slash, step = element.partition("/")
        first, dash, last = span.partition("-")
        if slash and not (step.isascii() and step.isdigit() and 0 < int(step) <= MAX_LENGTH):
            raise _Fault(at + len(span) + 1, f"{quoted(step)} is no step", "write `*/5`")
        if span != "*":
            begin = _number(first, field, at)
            if dash:
                end = _number(last, field, at + len(first) + 1)
                _check_order(first, last, begin, end, field, at)
            elif slash:
                hint = f"write `{first}-{field.high}/{step}`, or only `{first}`"
                raise _Fault(at + len(span), "a step stands behind a range or `*`", hint)
        at += len(element) + 1


def _check_order(first: str, last: str, begin: int, end: int, field: _Field, at: int) -> None:
    if begin <= end:
        return
    hint = f"write `{first}-{field.high},{field.low}-{last}`"
    if field.names and field.high == 7 and end == 0:
        hint = f"Sunday is 7 too: write `{begin}-7`"
    raise _Fault(at, f"the range {quoted(f'{first}-{last}')} counts downwards", hint)


def _number(word: str, field: _Field, at: int) -> int:
    if word.lower() in field.names:
        # Months count from 1, weekdays from 0.
        return field.names.index(word.lower()) + field.low
    if word.isascii() and word.isdigit() and field.low <= int(word[:9]) <= field.high:
        return int(word)
    message = f"{quoted(word)} is no {field.name}: it is a number from {field.low} to {field.high}"
    hint = None
    if field.names:
        close = difflib.get_close_matches(word.lower(), field.names, n=1)
        hint = f"did you mean `{close[0]}`?" if close else f"or of {', '.join(field.names)}"
    raise _Fault(at, message, hint)
