"""What a person who follows events sees: a line an event, as upstart-monitor prints it."""

from __future__ import annotations

from datetime import datetime
from fnmatch import fnmatchcase

import msgspec

from hostlab.jobs.effects import EventFinished


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which events are wanted; empty is all. Globs."""

    events: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()

    def wants(self, event: EventFinished) -> bool:
        """Whether an event is one of them."""
        job = dict(event.environment).get("JOB", "")
        return _any(self.events, event.name) and _any(self.jobs, job)


def monitor_line(event: EventFinished, wall: float) -> str:
    """Time with microseconds, name, environment; `wall` is in seconds of the epoch."""
    stamp = datetime.fromtimestamp(wall).astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")
    pairs = "".join(f" {key}='{value}'" for key, value in event.environment)
    return f"{stamp} {event.name}{pairs}"


def _any(patterns: tuple[str, ...], text: str) -> bool:
    return not patterns or any(fnmatchcase(text, pattern) for pattern in patterns)
