"""Whether a stored state can be gone on with.

A state that was cut, mixed up or edited may be readable and still mean nothing: an event held by
a job that does not hold it would fail much later, in the midst of a run. So whoever takes up a
state has it checked first, and learns then that it must begin anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from hostlab.errors import DecodeError
from hostlab.jobs.classes import JobClass
from hostlab.jobs.engine import Engine
from hostlab.jobs.events import Blocker, BlockerKind
from hostlab.jobs.expression import Progress
from hostlab.jobs.instance import Instance
from hostlab.jobs.states import TABLE, Action, Goal


def check_sound(engine: Engine) -> None:
    """DecodeError when the engine's parts do not fit together."""
    _check_numbers(engine)
    for found in engine.classes.values():
        for instance in found.instances.values():
            if not _can_move(instance):
                raise unsound(f"{instance} is in {instance.state} and waits for nothing")
            _check_blocker(engine, instance)
    _check_holders(engine)


def unsound(reason: str) -> DecodeError:
    """An error that says so."""
    return DecodeError("state", f"The stored state does not fit together: {reason}")


def _check_numbers(engine: Engine) -> None:
    """What is counted has another number each, below the next that will be given."""
    classes = list(engine.classes.values())
    instances = [each for found in classes for each in found.instances.values()]
    spawns = [
        running.spawn
        for each in instances
        for running in each.processes.values()
        if running.spawn != each.group
    ] + [each.group for each in instances if each.group is not None]
    for what, numbers, following in (
        ("event", list(engine.queue.events), engine.queue.next_serial),
        ("class", [each.serial for each in classes], engine.next_class),
        ("instance", [each.serial for each in instances], engine.next_instance),
        ("spawn", spawns, engine.next_spawn),
    ):
        if len(set(numbers)) != len(numbers):
            raise unsound(f"one {what} number is there twice")
        if numbers and not 0 < min(numbers) <= max(numbers) < following:
            raise unsound(f"{what} numbers are not below {following}")


def _can_move(instance: Instance) -> bool:
    """Something is bound to move it on, or it rests."""
    row = TABLE[instance.state]
    if instance.goal is Goal.RESPAWN and row.respawn is None:
        return False
    match row.action:
        case Action.EMIT_AND_WAIT:
            return instance.blocker is not None
        case Action.AWAIT_END | Action.AWAIT_READY:
            return row.step in instance.processes or instance.hold_at is not None
        case Action.KILL:
            return instance.main is not None or instance.group is not None
        case Action.REST:
            return True
        case _:
            return False


def _check_blocker(engine: Engine, instance: Instance) -> None:
    if instance.blocker is None:
        return
    event = engine.queue.events.get(instance.blocker)
    if event is None or event.holds != (instance.job.name, instance.name):
        raise unsound(f"{instance} waits for event {instance.blocker}, which does not hold it")


def _check_holders(engine: Engine) -> None:
    """Whoever holds an event finds it, and the event knows exactly these holders."""
    told = {
        (event.serial, blocker): count
        for event in engine.queue.events.values()
        for blocker, count in event.blockers.items()
    }
    holders = Counter(each for found in engine.classes.values() for each in _held_by(found))
    if dict(holders) != told:
        serial, blocker = min({*holders.items()} ^ {*told.items()})[0]
        raise unsound(f"{blocker.kind} of {blocker.job} and event {serial} do not agree")


def _held_by(found: JobClass) -> Iterator[tuple[int, Blocker]]:
    name = found.job.name
    for serial in _taken(found.start_on):
        yield serial, Blocker(BlockerKind.START_ON, name)
    for instance in found.instances.values():
        for serial in _taken(instance.stop_on):
            yield serial, Blocker(BlockerKind.STOP_ON, name, instance.name)
        for held in instance.blocking:
            if isinstance(held, int):
                yield held, Blocker(BlockerKind.JOB, name, instance.name)


def _taken(progress: Progress[int] | None) -> list[int]:
    return list(progress.events.values()) if progress is not None else []
