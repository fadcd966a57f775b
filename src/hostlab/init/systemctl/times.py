"""Times as journalctl takes them (systemd.time(7), "Parsing Timestamps"), the common forms."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Final

from hostlab.errors import SpecError
from hostlab.spec.source import Wrong
from hostlab.spec.systemd.values import seconds

_FORMS: Final = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d", "%H:%M:%S", "%H:%M")
_DAYS: Final = {"today": 0, "yesterday": -1, "tomorrow": 1}


def when(text: str, *, now: float | None = None) -> float:
    """Seconds since 1970 of `now`, `today`, `-1h`, `5min ago`, `@N` or a date; SpecError else."""
    at = time.time() if now is None else now
    word = text.strip()
    if word == "now":
        return at
    if word in _DAYS:
        day = datetime.fromtimestamp(at).astimezone() + timedelta(days=_DAYS[word])
        return day.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
    if word.startswith("@") and word[1:].replace(".", "", 1).isdigit():
        return float(word[1:])
    bare = word.replace("T", " ").removesuffix(" UTC")
    for form in _FORMS:
        try:
            found = datetime.strptime(bare, form).astimezone()
        except ValueError:
            continue
        if form.startswith("%H"):
            today = datetime.fromtimestamp(at).astimezone()
            found = found.replace(year=today.year, month=today.month, day=today.day)
        return found.timestamp()
    return at + _distance(text, word)


def _distance(text: str, word: str) -> float:
    sign = -1 if word.startswith("-") or word.endswith("ago") else 1
    bare = word.removeprefix("-").removeprefix("+").removesuffix("ago").strip()
    try:
        found = seconds(bare) if bare != word else None
    except Wrong:
        found = None
    if found is None:
        raise SpecError("time", text, hint="as `-1h`, `yesterday`, `2026-11-28 14:00`")
    return sign * found
