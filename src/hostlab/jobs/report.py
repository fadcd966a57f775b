"""What a listing says of each job: a row for each instance, and one for a job that has none."""

from __future__ import annotations

from typing import assert_never

import msgspec

from hostlab.jobs.classes import JobClass, Last
from hostlab.jobs.engine import Engine
from hostlab.jobs.instance import Instance
from hostlab.jobs.job_state import JobState
from hostlab.jobs.states import Goal, State
from hostlab.spec.job import Step
from hostlab.spec.signals import signal_name

SIGNALLED = 128
"""A shell's exit status of a command that a signal ended is this and the signal's number."""


class JobRow(msgspec.Struct, frozen=True, kw_only=True):
    """One instance, or a job without any."""

    name: str
    instance: str = ""
    state: JobState
    goal: Goal = Goal.STOP
    stage: State = State.WAITING
    """The machine's own state: `pre-start`, `killed`."""
    pid: int | None = None
    """Its main process, or the process of the script that runs instead."""
    processes: dict[str, int] = {}
    """Step -> pid, of all that run."""
    status: int | None = None
    """How the main process of its last run ended: exit status, or 128 + signal."""
    reason: str | None = None
    """Why it failed."""
    description: str | None = None
    task: bool = False
    """It is to come to its end, and is not wrong when it has."""


def report(engine: Engine) -> tuple[JobRow, ...]:
    """Every job in the order in which it was loaded, its instances by name."""
    found: list[JobRow] = []
    for each in engine.classes.values():
        if not each.instances:
            found.append(_idle(each))
        found += (_live(each.instances[name]) for name in sorted(each.instances))
    return tuple(found)


def is_settling(engine: Engine) -> bool:
    """Whether any instance is on its way somewhere."""
    return any(
        _state(instance) is not JobState.RUNNING
        for each in engine.classes.values()
        for instance in each.instances.values()
    )


def _idle(found: JobClass) -> JobRow:
    last, job = found.last, found.job
    if last is None:
        return JobRow(
            name=job.name, state=JobState.WAITING, description=job.description, task=job.task
        )
    return JobRow(
        name=job.name,
        state=JobState.FAILED if last.failed else JobState.STOPPED,
        status=_shell_status(last.main_status),
        reason=_reason(last) if last.failed else None,
        description=job.description,
        task=job.task,
    )


def _live(instance: Instance) -> JobRow:
    processes = {
        step.value: running.pid
        for step, running in instance.processes.items()
        if running.pid is not None
    }
    pid = processes.get(Step.MAIN.value) or next(iter(processes.values()), None)
    return JobRow(
        name=instance.job.name,
        instance=instance.name,
        state=_state(instance),
        goal=instance.goal,
        stage=instance.state,
        pid=pid,
        processes=processes,
        status=_shell_status(instance.main_status),
        description=instance.job.description,
        task=instance.job.task,
    )


def _state(instance: Instance) -> JobState:
    match instance.goal:
        case Goal.STOP:
            return JobState.STOPPING
        case Goal.START | Goal.RESPAWN:
            return JobState.RUNNING if instance.state is State.RUNNING else JobState.STARTING
    assert_never(instance.goal)


def _shell_status(status: int | None) -> int | None:
    if status is None or status <= 0xFF:
        return status
    return SIGNALLED + (status >> 8)


def _reason(last: Last) -> str:
    if last.failed_step is None:
        return "respawning too fast"
    where = "" if last.failed_step is Step.MAIN else f"{last.failed_step}: "
    if last.trouble:
        return f"{where}{last.trouble}"
    status = last.exit_status
    if status is None:
        return f"{where}not ready in time"
    if status > 0xFF:
        return f"{where}ended by SIG{signal_name(status >> 8)}"
    return f"{where}exit status {status}"
