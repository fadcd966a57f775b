"""Which colour a job has in a drawing of a running init: that of its state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from hostlab.jobs.job_state import JobState

STATE_COLOURS: Final[Mapping[JobState, str]] = {
    JobState.FAILED: "#F4A6A0",
    JobState.STARTING: "#F9CF8F",
    JobState.STOPPING: "#F9CF8F",
    JobState.RUNNING: "#A8DDA8",
    JobState.STOPPED: "#DCDCDC",
    JobState.WAITING: "#DCDCDC",
}
"""Red, orange, green, grey; of a job's instances the one that stands first here is shown."""


def colours_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Job -> colour, of the rows that an init reports."""
    order = list(STATE_COLOURS)
    found: dict[str, JobState] = {}
    for row in rows:
        name, state = row["name"], JobState(row["state"])
        found[name] = min(found.get(name, state), state, key=order.index)
    return {name: STATE_COLOURS[state] for name, state in found.items()}
