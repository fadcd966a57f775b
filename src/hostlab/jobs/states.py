"""The life of a job's instance, as a table.

An instance has a state and a goal. A state says what is going on; the goal says where it should
lead, and is all that a person, an event or a dying process may change. When what a state does is
over, the next state is looked up by (state, goal). So a stop in the midst of a start needs no case
of its own: the goal changes, and the next look-up turns back.

    waiting → starting → security-spawning → security → pre-starting → pre-start
            → spawning → spawned → post-starting → post-start → running
    running → pre-stopping → pre-stop → stopping → killed → post-stopping → post-stop
            → waiting, or starting again when the goal is start

What a state does is one of seven things, done on entering it:

- `emit and wait`: emit an event and stay until it is finished (`starting`, `stopping`);
- `spawn`: start the step's process, if there is one, and go on at once;
- `await end`: stay until that process ends; go on at once when there is none;
- `await ready`: stay until the main process is ready;
- `rest`: emit an event and stay until the goal changes (`running`);
- `kill`: signal the main process and stay until it has ended;
- `leave`: emit an event and take the instance away (`waiting`).

Goal `respawn` is start, remembered until a `post-start` or `pre-stop` script that still runs has
ended; then it becomes start again and the instance goes through `stopping`.

The table is init/job.c's job_next_state() and job_change_state(), but for two cells: see
docs/decisions/state-machine.md.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from hostlab.spec.job import Step


class Goal(StrEnum):
    """Where an instance should go."""

    STOP = "stop"
    START = "start"
    RESPAWN = "respawn"


class State(StrEnum):
    """What is going on with an instance; the names are those that `status` prints."""

    WAITING = "waiting"
    STARTING = "starting"
    SECURITY_SPAWNING = "security-spawning"
    SECURITY = "security"
    PRE_STARTING = "pre-starting"
    PRE_START = "pre-start"
    SPAWNING = "spawning"
    SPAWNED = "spawned"
    POST_STARTING = "post-starting"
    POST_START = "post-start"
    RUNNING = "running"
    PRE_STOPPING = "pre-stopping"
    PRE_STOP = "pre-stop"
    STOPPING = "stopping"
    KILLED = "killed"
    POST_STOPPING = "post-stopping"
    POST_STOP = "post-stop"


class Action(StrEnum):
    """What is done on entering a state."""

    EMIT_AND_WAIT = "emit and wait"
    SPAWN = "spawn"
    AWAIT_END = "await end"
    AWAIT_READY = "await ready"
    REST = "rest"
    KILL = "kill"
    LEAVE = "leave"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One state: what it does, and where each goal leads from it."""

    action: Action
    start: State
    stop: State
    stop_without_main: State | None = None
    """Where stop leads instead when there is no main process."""
    respawn: State | None = None
    """Where goal respawn leads; None: it cannot be the goal here."""
    step: Step | None = None
    event: str | None = None
    induced_by: Goal | None = None
    """This goal moves the instance at once: nothing that goes on here ends by itself."""


TABLE: dict[State, Row] = {
    State.WAITING: Row(
        action=Action.LEAVE,
        event="stopped",
        start=State.STARTING,
        stop=State.WAITING,
        induced_by=Goal.START,
    ),
    State.STARTING: Row(
        action=Action.EMIT_AND_WAIT,
        event="starting",
        start=State.SECURITY_SPAWNING,
        stop=State.STOPPING,
    ),
    State.SECURITY_SPAWNING: Row(
        action=Action.SPAWN,
        step=Step.SECURITY,
        start=State.SECURITY,
        stop=State.STOPPING,
    ),
    State.SECURITY: Row(
        action=Action.AWAIT_END,
        step=Step.SECURITY,
        start=State.PRE_STARTING,
        stop=State.STOPPING,
    ),
    State.PRE_STARTING: Row(
        action=Action.SPAWN,
        step=Step.PRE_START,
        start=State.PRE_START,
        stop=State.STOPPING,
    ),
    State.PRE_START: Row(
        action=Action.AWAIT_END,
        step=Step.PRE_START,
        start=State.SPAWNING,
        stop=State.STOPPING,
    ),
    State.SPAWNING: Row(
        action=Action.SPAWN,
        step=Step.MAIN,
        start=State.SPAWNED,
        stop=State.STOPPING,
    ),
    State.SPAWNED: Row(
        action=Action.AWAIT_READY,
        step=Step.MAIN,
        start=State.POST_STARTING,
        stop=State.STOPPING,
        respawn=State.STOPPING,
        induced_by=Goal.STOP,
    ),
    State.POST_STARTING: Row(
        action=Action.SPAWN,
        step=Step.POST_START,
        start=State.POST_START,
        stop=State.STOPPING,
    ),
    State.POST_START: Row(
        action=Action.AWAIT_END,
        step=Step.POST_START,
        start=State.RUNNING,
        stop=State.STOPPING,
        respawn=State.STOPPING,
    ),
    State.RUNNING: Row(
        action=Action.REST,
        event="started",
        start=State.STOPPING,
        stop=State.PRE_STOPPING,
        stop_without_main=State.STOPPING,
        induced_by=Goal.STOP,
    ),
    State.PRE_STOPPING: Row(
        action=Action.SPAWN,
        step=Step.PRE_STOP,
        start=State.PRE_STOP,
        stop=State.PRE_STOP,
    ),
    State.PRE_STOP: Row(
        action=Action.AWAIT_END,
        step=Step.PRE_STOP,
        start=State.RUNNING,
        stop=State.STOPPING,
        respawn=State.STOPPING,
    ),
    State.STOPPING: Row(
        action=Action.EMIT_AND_WAIT,
        event="stopping",
        start=State.KILLED,
        stop=State.KILLED,
    ),
    State.KILLED: Row(
        action=Action.KILL,
        step=Step.MAIN,
        start=State.POST_STOPPING,
        stop=State.POST_STOPPING,
    ),
    State.POST_STOPPING: Row(
        action=Action.SPAWN,
        step=Step.POST_STOP,
        start=State.POST_STOP,
        stop=State.POST_STOP,
    ),
    State.POST_STOP: Row(
        action=Action.AWAIT_END,
        step=Step.POST_STOP,
        start=State.STARTING,
        stop=State.WAITING,
    ),
}


def next_state(state: State, goal: Goal, *, has_main: bool) -> State:
    """Where an instance goes when what it does is over."""
    row = TABLE[state]
    match goal:
        case Goal.START:
            return row.start
        case Goal.STOP:
            if row.stop_without_main is not None and not has_main:
                return row.stop_without_main
            return row.stop
        case Goal.RESPAWN:
            assert row.respawn is not None, f"goal respawn in state {state}"
            return row.respawn
