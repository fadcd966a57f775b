"""What the engine wants done: frozen values, in the order in which they must be carried out."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from hostlab.jobs.expression import Environment
from hostlab.jobs.states import Goal, State
from hostlab.spec.job import Job, KillMode, Process, Step


class Effect(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of everything that the engine wants done."""


class Spawn(Effect, frozen=True, kw_only=True):
    """Start a process; tell `Spawned` or `SpawnFailed`, and later its end, by this number."""

    spawn: int
    job: Job
    instance: str
    step: Step
    process: Process
    environment: Environment
    fds: tuple[int, ...] = ()
    beside: int | None = None
    """The main process in whose cgroup it runs: what a reload leaves behind is the main one's."""


class Kill(Effect, frozen=True, kw_only=True):
    """Send a signal to a main process, or to all that belong to it."""

    spawn: int
    pid: int | None
    """None when only the cgroup is left of it."""
    signal: int
    scope: KillMode
    """`process`, `process-group` or `control-group`."""


class Reply(Effect, frozen=True, kw_only=True):
    """A request is done."""

    request: str
    ok: bool
    message: str = ""
    """Why not."""
    job: str = ""
    instance: str = ""


class EventHandled(Effect, frozen=True, kw_only=True):
    """An event has been shown to every job that listens."""

    serial: int
    name: str
    environment: Environment


class EventFinished(Effect, frozen=True, kw_only=True):
    """Nothing blocks an event any more; it is gone. Upstart's monitor prints it now."""

    serial: int
    name: str
    environment: Environment
    failed: bool = False


class InstanceAdded(Effect, frozen=True, kw_only=True):
    """A job has a new instance."""

    job: str
    instance: str


class InstanceRemoved(Effect, frozen=True, kw_only=True):
    """An instance has stopped and is gone."""

    job: str
    instance: str


class GoalChanged(Effect, frozen=True, kw_only=True):
    """An instance's goal has changed."""

    job: str
    instance: str
    goal: Goal


class StateChanged(Effect, frozen=True, kw_only=True):
    """An instance's state has changed."""

    job: str
    instance: str
    state: State


class InstanceFailed(Effect, frozen=True, kw_only=True):
    """An instance has failed; it will stop."""

    job: str
    instance: str
    step: Step | None
    """None: it was respawning too fast."""
    status: int | None
    """Exit status, or signal << 8; None when there was no process."""


class Level(StrEnum):
    """How much a message matters."""

    INFO = "info"
    WARNING = "warning"


class Log(Effect, frozen=True, kw_only=True):
    """Something that a person may want to read."""

    level: Level
    message: str
