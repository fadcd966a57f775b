"""What an operand `timer …` says: the timer itself (`named_event` says which event is its own)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from hostlab.errors import SpecError
from hostlab.jobs import calendar_text, cron, zones
from hostlab.jobs.named_event import JOB, NAME, WHEN, environment
from hostlab.jobs.schedules import After, Change, Every, In, On, Schedule, Since, Timer
from hostlab.spec import units
from hostlab.spec.source import Wrong, quoted

OPTIONS: Final = ("DELAY", "FIXED", "PERSISTENT", "ZONE", "LATE", "AGAIN", JOB)
MIN_INTERVAL_S: Final = 0.1


def parse(words: tuple[str, ...]) -> Timer:
    """The timer that an operand says; SpecError when it says none."""
    values = dict(environment(words))
    known = (*WHEN, *OPTIONS, NAME)
    for word in words:
        key, sign, _ = word.partition("=")
        if not sign or key not in known:
            raise _error(f"{quoted(word)} says nothing about a timer", f"known: {', '.join(known)}")
    when = [key for key in WHEN if key in values]
    if len(when) != 1 or len(values) != len(words):
        raise _error("a timer says once when it comes", f"with one of {', '.join(WHEN)}")
    schedule = _schedule(when[0], values)
    if isinstance(schedule, Since) and not values.get(JOB):
        raise _error(f"{when[0]} of which job is not said", f"with {JOB}=")
    try:
        return Timer(
            schedule,
            random_delay_s=units.duration(values.get("DELAY", "0")),
            is_delay_fixed=_flag(values.get("FIXED", "0")),
            is_persistent=_flag(values.get("PERSISTENT", "0")),
            job=values.get(JOB),
        )
    except Wrong as wrong:
        raise _error(wrong.message, wrong.hint) from None


def _schedule(key: str, values: Mapping[str, str]) -> Schedule:
    text, zone = values[key], values.get("ZONE")
    if zone is not None and zones.find(zone) is None:
        raise _error(f"{quoted(zone)} is not a time zone", zones.hint(zone))
    if key == "CALENDAR":
        calendar = calendar_text.parse(text)
        return calendar if calendar.zone else replace(calendar, zone=zone)
    if key == "CRON":
        return cron.parse(text, zone=zone)
    if key == "ON":
        if text not in tuple(Change):
            raise _error(f"{quoted(text)} is none of {', '.join(Change)}", None)
        return On(Change(text))
    try:
        seconds = units.duration(text)
        late, again = _flag(values.get("LATE", "0")), _flag(values.get("AGAIN", "0"))
    except Wrong as wrong:
        raise _error(wrong.message, wrong.hint) from None
    if key == "AFTER":
        return After(seconds, comes_late=late)
    if key == "IN":
        return In(seconds)
    if seconds < MIN_INTERVAL_S and (key == "EVERY" or again):
        raise _error(f"{quoted(text)} is shorter than 100ms", "write `1s` or more")
    if key == "EVERY":
        return Every(seconds)
    return Since(seconds, is_end=key == "SINCE_END", comes_again=again)


def _flag(word: str) -> bool:
    return word == "1" or (word != "0" and units.flag(word))


def _error(message: str, hint: str | None) -> SpecError:
    return SpecError("timer", message, hint=hint)
