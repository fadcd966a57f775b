"""What a job is doing, in a word."""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """What a job is doing, as far as most people care; the exact state stands beside it."""

    WAITING = "waiting"
    """It has not been started yet."""
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    """Its last run ended well, or was ended on purpose."""
    FAILED = "failed"
    """Its last run did not; it will not be started again by itself."""
