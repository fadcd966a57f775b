"""How a unit stands, in systemd's words, from the engine's (org.freedesktop.systemd1(5)).

| the job's instance | ActiveState | SubState |
|---|---|---|
| none; its last run failed | failed | failed |
| none | inactive | dead |
| is going down | deactivating | stop, stop-post … |
| runs | active | running, exited, listening … |
| waits for its respawn | activating | auto-restart |
| is coming up | activating | start-pre, start, start-post |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hostlab.jobs.classes import JobClass, Last
from hostlab.jobs.engine import Engine
from hostlab.jobs.instance import Instance
from hostlab.jobs.states import Goal, State
from hostlab.spec.job import Step
from hostlab.spec.systemd.loading import LoadedUnit
from hostlab.spec.systemd.unit_names import UnitType

RUNNING: Final = frozenset({"active", "reloading"})
_AT_REST: Final = {
    UnitType.TARGET: "active",
    UnitType.SOCKET: "listening",
    UnitType.TIMER: "waiting",
    UnitType.PATH: "waiting",
    UnitType.SLICE: "active",
}
_GOING_UP: Final = {
    State.SECURITY: "start-pre",
    State.PRE_STARTING: "start-pre",
    State.PRE_START: "start-pre",
    State.POST_START: "start-post",
}
_GOING_DOWN: Final = {
    State.PRE_STOPPING: "stop",
    State.PRE_STOP: "stop",
    State.STOPPING: "stop",
    State.KILLED: "stop-sigterm",
    State.POST_STOPPING: "stop-post",
    State.POST_STOP: "stop-post",
}


@dataclass(frozen=True, slots=True)
class UnitState:
    """How a unit stands."""

    active: str
    sub: str
    result: str = "success"
    pid: int = 0
    """Of the main process; 0: none."""
    control_pid: int = 0
    main_status: int | None = None
    """How the main process ended last: exit status, or signal << 8."""
    condition_held: bool = True
    trouble: str = ""
    """What was wrong, in words."""
    since: float | None = None
    """When its main process was started, by the monotonic clock."""
    respawns: int = 0


def state_of(engine: Engine, name: str, unit: LoadedUnit | None) -> UnitState:
    """A unit's state; of one that is no job it is what systemd says of what it does not run."""
    found = engine.classes.get(name)
    if found is None:
        return UnitState("inactive", "dead")
    instance = next(iter(found.instances.values()), None)
    if instance is None:
        return _gone(found.last)
    running = {step: each.pid for step, each in instance.processes.items() if each.pid}
    pid = running.pop(Step.MAIN, None) or 0
    active, sub = _live(instance, found, unit)
    return UnitState(
        active=active,
        sub=sub,
        result=_result(instance.failed, instance.failed_step, instance.exit_status, ""),
        pid=pid,
        control_pid=next(iter(running.values()), 0),
        main_status=instance.main_status,
        since=instance.main_since,
        respawns=instance.respawn_count,
    )


def _gone(last: Last | None) -> UnitState:
    if last is None:
        return UnitState("inactive", "dead")
    result = _result(last.failed, last.failed_step, last.exit_status, last.trouble)
    state = ("failed", "failed") if last.failed else ("inactive", "dead")
    return UnitState(
        *state,
        result=result,
        main_status=last.main_status,
        condition_held=last.failed or not last.trouble,
        trouble=last.trouble,
    )


def _live(instance: Instance, found: JobClass, unit: LoadedUnit | None) -> tuple[str, str]:
    kind = unit.unit.name.type if unit is not None else UnitType.SERVICE
    if instance.goal is Goal.STOP:
        return "deactivating", _GOING_DOWN.get(instance.state, "stop")
    if instance.hold_at is not None:
        return "activating", "auto-restart"
    if instance.state is State.RUNNING:
        if found.job.task:
            return "activating", "start"
        if kind is not UnitType.SERVICE:
            return "active", _AT_REST.get(kind, "active")
        if Step.RELOAD in instance.processes:
            return "reloading", "reload"
        return "active", "running" if instance.main is not None else "exited"
    if instance.state in _GOING_DOWN:
        return "deactivating", _GOING_DOWN[instance.state]
    if instance.state is State.PRE_START and found.job.process(Step.MAIN) is None:
        # A oneshot that remains is all pre-start.
        return "activating", "start"
    return "activating", _GOING_UP.get(instance.state, "start")


def _result(failed: bool, step: Step | None, status: int | None, trouble: str) -> str:  # noqa: FBT001
    """`Result` of a service (systemd.exec(5), "$SERVICE_RESULT")."""
    if not failed:
        return "success"
    if step is None:
        return "start-limit-hit"
    if trouble:
        return "resources"
    if status is None:
        return "timeout"
    return "signal" if status > 0xFF else "exit-code"
