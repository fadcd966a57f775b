"""Time zones by name, from the machine's time zone database.

The database is data, as code is: nothing here asks what time it is, or where the machine stands.
"""

from __future__ import annotations

import difflib
import re
from datetime import UTC, tzinfo
from functools import cache, lru_cache
from zoneinfo import ZoneInfo, available_timezones

MAX_CACHED = 256
_NAME = re.compile(r"[A-Za-z0-9_+\-]+(/[A-Za-z0-9_+\-]+)*")


@lru_cache(MAX_CACHED)
def find(name: str) -> tzinfo | None:
    """The zone of an IANA name; None when there is none of this name."""
    if name == "UTC":
        return UTC
    if not _NAME.fullmatch(name):
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        return None


def hint(name: str) -> str:
    """What somebody may have meant by a name that is none."""
    close = difflib.get_close_matches(name, _names(), n=1)
    return f"did you mean `{close[0]}`?" if close else "write `UTC` or a name as `Europe/Paris`"


@cache
def _names() -> tuple[str, ...]:
    return tuple(sorted(available_timezones()))
