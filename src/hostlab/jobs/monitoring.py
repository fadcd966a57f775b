"""Events as a person watches them: one line each, as upstart-monitor prints them.

    2014-01-03 23:23:43.020309 starting JOB='tty2' INSTANCE=''

An event is shown when it is finished, which is when Upstart told its monitor (init/event.c,
event_finished()). So `starting` of a job stands behind everything that the job waited for, and the
lines are nested as the jobs are. Unlike the original, a value keeps its equals signs, and what
would move the cursor or end the line is shown as an escape.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, tzinfo

import msgspec

from hostlab.jobs.effects import EventFinished
from hostlab.jobs.glob import matches

TIME_FORMAT = "%Y-%m-%d %H:%M:%S.%f"
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which events are shown; patterns are those of fnmatch(3), and none of a kind means all."""

    events: tuple[str, ...] = ()
    """Of the event's name."""
    jobs: tuple[str, ...] = ()
    """Of the job whose event it is."""

    def wants(self, event: EventFinished) -> bool:
        """Whether an event is shown."""
        return _any(self.events, event.name) and _any(self.jobs, job_of(event))


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """An event for programs."""

    time: float
    """When it was finished, in seconds of the epoch."""
    node: str
    event: str
    environment: dict[str, str]
    """In its order."""
    failed: bool
    """A job that it started or stopped has failed."""


def monitor_header(source: str, *, nodes: bool = False) -> tuple[str, ...]:
    """What is said before the first line; `nodes` when the lines name theirs."""
    columns = "time, node, event and environment" if nodes else "time, event and environment"
    return (
        "# hostlab event monitor",
        "#",
        f"# Connected to {printable(source)}",
        "#",
        f"# Columns: {columns}",
        "",
    )


def monitor_line(
    event: EventFinished, wall: float, *, node: str = "", zone: tzinfo | None = None
) -> str:
    """One event as a line, without its end.

    `wall` is in seconds of the epoch, shown in the zone or else in that of the machine; `node`,
    when it is given, is a column of its own behind the time.
    """
    time = datetime.fromtimestamp(wall, zone).strftime(TIME_FORMAT)
    words = [time, *([node] if node else ()), event.name]
    words += (f"{key}='{value}'" for key, value in event.environment)
    return printable(" ".join(words))


def monitor_record(event: EventFinished, wall: float, *, node: str) -> Record:
    """The same event as a value."""
    return Record(
        time=wall,
        node=node,
        event=event.name,
        environment=dict(event.environment),
        failed=event.failed,
    )


def job_of(event: EventFinished) -> str:
    """The job whose event it is; empty when it is none's."""
    return next((value for key, value in event.environment if key == "JOB"), "")


def printable(text: str) -> str:
    """A text that stays on its line, whatever an event's emitter put there."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _any(patterns: Iterable[str], text: str) -> bool:
    found = [matches(pattern, text) for pattern in patterns]
    return any(found) or not found
