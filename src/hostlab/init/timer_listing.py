"""What timers an init has, when they come next and for whom: as `systemctl list-timers` tells."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hostlab.init.sources import waited_for
from hostlab.init.supervisor import Request
from hostlab.jobs import named_event

if TYPE_CHECKING:
    from hostlab.init.job_supervisor import JobSupervisor


async def serve(supervisor: JobSupervisor, request: Request) -> list[dict[str, Any]]:
    """The rows, those that come next first and those that never come last.

    `timer` are the operand's words, `jobs` whose condition names it, `next` and `last` seconds
    since 1970, None where there is none.
    """
    source = supervisor.sources.get(named_event.TIMER) if supervisor.has_begun else None
    if source is None:
        return []
    from hostlab.init.sources.timer import TimerSource

    assert isinstance(source, TimerSource)
    listening: dict[str, list[str]] = {}
    for name, job in _listeners(supervisor):
        listening.setdefault(name, []).append(job)
    now = time.time()
    rows = [
        {
            "timer": each.words,
            "next": each.next,
            "left_s": None if each.next is None else max(0.0, each.next - now),
            "last": each.last,
            "jobs": sorted(set(listening.get(each.name, ()))),
        }
        for each in source.rows()
    ]
    rows.sort(key=lambda row: (row["next"] is None, row["next"], row["timer"]))
    return rows


def _listeners(supervisor: JobSupervisor) -> Iterator[tuple[str, str]]:
    """Names of timers, and the jobs that start or stop on them."""
    for job, found in supervisor.jobs.engine.classes.items():
        for match in waited_for([found.job]):
            if match.name == named_event.TIMER:
                words = dict(named_event.environment(named_event.arguments(match)))
                yield words.get(named_event.NAME, ""), job
