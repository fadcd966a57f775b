"""Who waits for whom, and why: the answer when a start, a stop or an `emit` hangs.

The usual reason is half of an `and`: a condition that an event made true in part holds that event
until the other part comes, and with it whoever emitted the event.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from hostlab.jobs.classes import JobClass
from hostlab.jobs.engine import Engine
from hostlab.jobs.events import Blocker, BlockerKind, Event
from hostlab.jobs.instance import Instance
from hostlab.jobs.states import TABLE, Action, State
from hostlab.spec.condition import print_condition
from hostlab.spec.job import Expression


class Party(StrEnum):
    """Who can wait, or be waited for."""

    EVENT = "event"
    JOB = "job"
    REQUEST = "request"
    CONDITION = "condition"
    PROCESS = "process"
    TIME = "time"


class Wait(msgspec.Struct, frozen=True, kw_only=True):
    """One waits for another."""

    who: Party
    name: str
    """An event's name and number (`starting #12`), a job with its instance, a request."""
    on: Party
    on_name: str
    why: str


def waits(engine: Engine) -> tuple[Wait, ...]:
    """Everything that waits, events first, in the order in which they came."""
    found: list[Wait] = []
    for event in engine.queue.events.values():
        found += _event_waits(engine, event)
    for each in engine.classes.values():
        for instance in each.instances.values():
            found += _instance_waits(engine, instance)
    return tuple(found)


def circle(found: tuple[Wait, ...]) -> tuple[Wait, ...]:
    """Waits that close a circle, so that none of them ever ends; empty when there is none.

    Two jobs that each stop on the other's `starting` can come to that, in Upstart too: each
    start waits until the other job has stopped, which waits for its own `starting`.
    """
    ahead: dict[tuple[Party, str], list[Wait]] = {}
    for wait in found:
        ahead.setdefault((wait.who, wait.name), []).append(wait)
    seen: set[tuple[Party, str]] = set()
    for start in ahead:
        path: list[Wait] = []
        branches = [iter(ahead[start])] if start not in seen else []
        seen.add(start)
        while branches:
            following = next(branches[-1], None)
            if following is None:
                branches.pop()
                del path[-1:]
                continue
            path.append(following)
            target = (following.on, following.on_name)
            for place, before in enumerate(path):
                if (before.who, before.name) == target:
                    return tuple(path[place:])
            if target in seen:
                del path[-1:]
                continue
            seen.add(target)
            branches.append(iter(ahead.get(target, ())))
    return ()


def event_name(event: Event) -> str:
    """An event as a person can tell it from its like."""
    return f"{event.name} #{event.serial}"


def _event_waits(engine: Engine, event: Event) -> list[Wait]:
    name = event_name(event)
    found = [
        Wait(who=Party.EVENT, name=name, on=party, on_name=on_name, why=why)
        for party, on_name, why in (_blocker(engine, blocker) for blocker in event.blockers)
    ]
    if event.request is not None:
        found.append(
            Wait(
                who=Party.REQUEST,
                name=event.request,
                on=Party.EVENT,
                on_name=name,
                why="until the event is finished",
            )
        )
    return found


def _blocker(engine: Engine, blocker: Blocker) -> tuple[Party, str, str]:
    """What holds an event, and what for."""
    found = engine.classes[blocker.job]
    if blocker.kind is BlockerKind.START_ON:
        return Party.CONDITION, f"{blocker.job} start on", _missing(found)
    instance = found.instances[blocker.instance]
    if blocker.kind is BlockerKind.STOP_ON:
        return Party.CONDITION, f"{instance} stop on", _missing(instance)
    if instance.job.task or instance.goal != "start":
        return Party.JOB, str(instance), "until it has stopped"
    return Party.JOB, str(instance), "until it is running"


def _missing(owner: JobClass | Instance) -> str:
    """What a half-satisfied condition still wants."""
    progress = owner.stop_on if isinstance(owner, Instance) else owner.start_on
    assert progress is not None
    wanted = ", ".join(print_condition(Expression((match,))) for match in progress.missing())
    return f"still without: {wanted}"


def _instance_waits(engine: Engine, instance: Instance) -> list[Wait]:
    """What an instance waits for, and the requests that wait for it."""
    name = str(instance)
    found: list[Wait] = []
    if instance.blocker is not None:
        event = engine.queue.events[instance.blocker]
        found.append(
            Wait(
                who=Party.JOB,
                name=name,
                on=Party.EVENT,
                on_name=event_name(event),
                why=f"until the event is finished, in {instance.state}",
            )
        )
    elif instance.hold_at is not None:
        why = "until its respawn is due"
        found.append(
            Wait(who=Party.JOB, name=name, on=Party.TIME, on_name=f"{instance.hold_at:g}", why=why)
        )
    elif (step := TABLE[instance.state].step) is not None and step in instance.processes:
        found.append(
            Wait(
                who=Party.JOB,
                name=name,
                on=Party.PROCESS,
                on_name=f"{step} ({instance.processes[step].pid or 'starting'})",
                why=_until(instance),
            )
        )
    elif instance.state is State.KILLED:
        found.append(
            Wait(
                who=Party.JOB,
                name=name,
                on=Party.PROCESS,
                on_name="the rest of its cgroup",
                why=_until(instance),
            )
        )
    for held in instance.blocking:
        if not isinstance(held, int):
            request, verb = held
            why = f"until the {verb} is done"
            found.append(Wait(who=Party.REQUEST, name=request, on=Party.JOB, on_name=name, why=why))
    return found


def _until(instance: Instance) -> str:
    if TABLE[instance.state].action is Action.AWAIT_READY:
        return f"until it is ready ({instance.job.readiness.kind})"
    if instance.state is State.KILLED:
        return "until it has ended, as it was told"
    return "until it has ended"
