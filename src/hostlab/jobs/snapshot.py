"""The engine's whole state as one value, for the supervisor that comes after this one.

It is stored after every change and taken up after a crash, a kill or a change to another version.
`VERSION` counts changes that an older reader would misread; a field that is only added keeps it,
because a reader keeps what it does not know (`extra`) and writes it again.

Times are the monotonic clock's, which goes on while the machine does.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hostlab import typed
from hostlab.errors import DecodeError
from hostlab.jobs.classes import JobClass, Last
from hostlab.jobs.engine import Engine
from hostlab.jobs.events import Blocker, BlockerKind, Event
from hostlab.jobs.expression import Environment, Progress
from hostlab.jobs.instance import Instance, Running
from hostlab.jobs.soundness import check_sound, unsound
from hostlab.jobs.states import Goal, State
from hostlab.spec.job import Job, Step

VERSION = 1
LATER_VERSION = "state-version"
"""Code of the DecodeError for a state that a later version has written."""
TIMES = ("kill_at", "ready_at", "hold_at")


class Part(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Base of the parts; `extra` holds the fields that this version does not know."""

    extra: dict[str, Any] = {}


class HeldEvent(msgspec.Struct, frozen=True, array_like=True):
    """An operand that is TRUE, by its place in the expression, and the event that did it."""

    node: int
    event: int


class StoredBlocker(msgspec.Struct, frozen=True, array_like=True):
    """Who blocks an event and how often."""

    kind: BlockerKind
    job: str
    instance: str
    count: int


class StoredEvent(Part, kw_only=True):
    """An event that is not finished."""

    serial: int
    name: str
    environment: Environment = ()
    handled: bool = False
    failed: bool = False
    blockers: tuple[StoredBlocker, ...] = ()
    holds: tuple[str, str] | None = None
    request: str | None = None
    timeout_at: float | None = None
    fds: tuple[int, ...] = ()


class StoredProcess(msgspec.Struct, frozen=True, array_like=True):
    """A process of an instance."""

    step: Step
    spawn: int
    pid: int | None


class StoredInstance(Part, kw_only=True):
    """An instance of a job."""

    name: str
    serial: int
    goal: Goal
    state: State
    environment: Environment = ()
    start_environment: Environment | None = None
    stop_environment: Environment | None = None
    stop_on: tuple[HeldEvent, ...] = ()
    processes: tuple[StoredProcess, ...] = ()
    group: int | None = None
    blocker: int | None = None
    blocking_events: tuple[tuple[int, int], ...] = ()
    """(place in the list, event)."""
    blocking_requests: tuple[tuple[int, str, str], ...] = ()
    """(place in the list, request, verb)."""
    reloading: tuple[str, ...] = ()
    fds: tuple[int, ...] = ()
    failed: bool = False
    skipped: bool = False
    failed_step: Step | None = None
    exit_status: int | None = None
    main_status: int | None = None
    trouble: str = ""
    kill_at: float | None = None
    ready_at: float | None = None
    hold_at: float | None = None
    respawn_since: float | None = None
    respawn_count: int = 0
    main_since: float | None = None
    last_delay_s: float = 0.0
    delay_s: float = 0.0


class StoredClass(Part, kw_only=True):
    """A job, what has matched of its `start on`, and its instances."""

    job: Job
    serial: int
    start_on: tuple[HeldEvent, ...] = ()
    instances: tuple[StoredInstance, ...] = ()
    successor: Job | None = None
    deleted: bool = False
    last: Last | None = None


class Snapshot(Part, kw_only=True):
    """Everything that an engine remembers."""

    version: int = VERSION
    now: float
    apparmor: bool
    environment: Environment = ()
    next_event: int
    next_spawn: int
    next_class: int
    next_instance: int
    events: tuple[StoredEvent, ...] = ()
    classes: tuple[StoredClass, ...] = ()


_PLAIN = ("name", "serial", "goal", "state", "group", "blocker", "reloading", "fds", "failed",
          "skipped", "failed_step", "exit_status", "main_status", "trouble", "respawn_since",
          "respawn_count", "main_since", "last_delay_s", "delay_s", *TIMES, "extra")  # fmt: skip
"""Fields of an instance that are stored as they are."""
_PLAIN_EVENT = ("name", "serial", "environment", "handled", "failed", "holds", "request",
                "timeout_at", "fds", "extra")  # fmt: skip


def capture(engine: Engine) -> Snapshot:
    """The engine's state; it shares nothing with the engine that can change."""
    return Snapshot(
        extra=dict(engine.extra),
        now=engine.now,
        apparmor=engine.apparmor,
        environment=tuple(engine.environment.items()),
        next_event=engine.queue.next_serial,
        next_spawn=engine.next_spawn,
        next_class=engine.next_class,
        next_instance=engine.next_instance,
        events=tuple(map(_store_event, engine.queue.events.values())),
        classes=tuple(map(_store_class, engine.classes.values())),
    )


def restore(snapshot: Snapshot, *, own_environment: dict[str, str] | None = None) -> Engine:
    """An engine that goes on where that one stood; call `handle(Elapsed())` to set it going.

    Whoever restores it tells it afterwards what became of the processes meanwhile. DecodeError
    when the parts of the state do not fit together.
    """
    engine = Engine(
        environment=dict(snapshot.environment),
        own_environment=own_environment,
        apparmor=snapshot.apparmor,
    )
    engine.extra = dict(snapshot.extra)
    engine.now = snapshot.now
    engine.next_spawn = snapshot.next_spawn
    engine.next_class = snapshot.next_class
    engine.next_instance = snapshot.next_instance
    for stored in snapshot.events:
        engine.adopt_event(_load_event(stored))
    engine.queue.next_serial = snapshot.next_event
    for stored_class in snapshot.classes:
        if stored_class.job.name in engine.classes:
            raise unsound(f"the job {stored_class.job.name} is there twice")
        engine.adopt_class(_load_class(stored_class))
    check_sound(engine)
    return engine


def encode(snapshot: Snapshot) -> bytes:
    """The state as JSON, with the fields that a later version put there."""
    # A default is left away, but this one is another in every reader.
    raw = {"version": snapshot.version, **msgspec.to_builtins(snapshot)}
    _spill(raw)
    return msgspec.json.encode(raw)


def decode(data: bytes) -> Snapshot:
    """The state from JSON; DecodeError when it is none, or of a version that cannot be read."""
    try:
        raw = typed.decode(data, Any)
        if not isinstance(raw, dict) or not isinstance(version := raw.get("version"), int):
            raise DecodeError("state", "The stored state is not one")
        if version > VERSION:
            raise DecodeError(LATER_VERSION, f"The stored state has version {version}")
        _gather(raw)
        return typed.convert(raw, Snapshot)
    except msgspec.MsgspecError as error:
        raise DecodeError("state", f"The stored state cannot be read: {error}") from None


def _spill(raw: dict[str, Any]) -> None:
    """Put the unknown fields of each part back beside the known ones."""
    for part in _walk(raw):
        part.update(part.pop("extra", {}))


def _gather(raw: dict[str, Any]) -> None:
    """Put the unknown fields of each part into its `extra`."""
    kinds = {id(raw): Snapshot}
    for part in _walk(raw, kinds):
        known = kinds[id(part)].__struct_fields__
        unknown = [key for key in part if key not in known]
        if unknown:
            part["extra"] = {key: part.pop(key) for key in unknown}


def _walk(raw: dict[str, Any], kinds: dict[int, Any] | None = None) -> list[dict[str, Any]]:
    """Every part of a state, and in `kinds` which type each is."""
    kinds = {} if kinds is None else kinds
    found = [raw]
    for key, kind, within in (
        ("events", StoredEvent, [raw]),
        ("classes", StoredClass, [raw]),
    ):
        for part in _children(within, key):
            kinds[id(part)] = kind
            found.append(part)
    classes = _children([raw], "classes")
    for part in _children(classes, "instances"):
        kinds[id(part)] = StoredInstance
        found.append(part)
    for last in (each.get("last") for each in classes):
        if isinstance(last, dict):
            kinds[id(last)] = Last
            found.append(last)
    return found


def _children(parts: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    found = []
    for part in parts:
        children = part.get(key, ())
        if isinstance(children, list | tuple):
            found += [child for child in children if isinstance(child, dict)]
    return found


def _store_event(event: Event) -> StoredEvent:
    plain = {name: getattr(event, name) for name in _PLAIN_EVENT}
    blockers = tuple(
        StoredBlocker(blocker.kind, blocker.job, blocker.instance, count)
        for blocker, count in event.blockers.items()
    )
    return StoredEvent(blockers=blockers, **plain)


def _load_event(stored: StoredEvent) -> Event:
    event = Event(stored.serial, stored.name, stored.environment)
    for name in _PLAIN_EVENT:
        setattr(event, name, getattr(stored, name))
    event.blockers = {
        Blocker(blocker.kind, blocker.job, blocker.instance): blocker.count
        for blocker in stored.blockers
    }
    return event


def _held(progress: Progress[int] | None) -> tuple[HeldEvent, ...]:
    if progress is None:
        return ()
    return tuple(HeldEvent(node, event) for node, event in progress.events.items())


def _restore_held(progress: Progress[int] | None, held: tuple[HeldEvent, ...]) -> None:
    leaves = {leaf.index for leaf in progress.tree.leaves} if progress is not None else set()
    if not leaves.issuperset(each.node for each in held):
        raise unsound("an operand is TRUE that a condition does not have")
    if progress is not None:
        progress.restore([(each.node, each.event) for each in held])


def _store_class(found: JobClass) -> StoredClass:
    return StoredClass(
        extra=found.extra,
        job=found.job,
        serial=found.serial,
        start_on=_held(found.start_on),
        instances=tuple(map(_store_instance, found.instances.values())),
        successor=found.successor,
        deleted=found.deleted,
        last=found.last,
    )


def _load_class(stored: StoredClass) -> JobClass:
    found = JobClass(stored.job, stored.serial)
    found.extra = stored.extra
    found.successor = stored.successor
    found.deleted = stored.deleted
    found.last = stored.last
    _restore_held(found.start_on, stored.start_on)
    for each in stored.instances:
        if each.name in found.instances:
            raise unsound(f"an instance of {stored.job.name} is there twice")
        found.instances[each.name] = _load_instance(found, each)
    return found


def _pairs(environment: dict[str, str] | None) -> Environment | None:
    return None if environment is None else tuple(environment.items())


def _store_instance(instance: Instance) -> StoredInstance:
    plain = {name: getattr(instance, name) for name in _PLAIN}
    blocking = list(enumerate(instance.blocking))
    return StoredInstance(
        environment=tuple(instance.environment.items()),
        start_environment=_pairs(instance.start_environment),
        stop_environment=_pairs(instance.stop_environment),
        stop_on=_held(instance.stop_on),
        processes=tuple(
            StoredProcess(step, running.spawn, running.pid)
            for step, running in instance.processes.items()
        ),
        blocking_events=tuple((place, held) for place, held in blocking if isinstance(held, int)),
        blocking_requests=tuple(
            (place, *held) for place, held in blocking if not isinstance(held, int)
        ),
        **plain,
    )


def _load_instance(found: JobClass, stored: StoredInstance) -> Instance:
    instance = Instance(found.job, stored.name, stored.serial, found.stop_tree)
    for name in _PLAIN:
        setattr(instance, name, getattr(stored, name))
    instance.environment = dict(stored.environment)
    if stored.start_environment is not None:
        instance.start_environment = dict(stored.start_environment)
    if stored.stop_environment is not None:
        instance.stop_environment = dict(stored.stop_environment)
    _restore_held(instance.stop_on, stored.stop_on)
    instance.processes = {each.step: Running(each.spawn, each.pid) for each in stored.processes}
    blocking: list[tuple[int, int | tuple[str, str]]] = [*stored.blocking_events]
    blocking += [(place, (request, verb)) for place, request, verb in stored.blocking_requests]
    instance.blocking = [held for _, held in sorted(blocking, key=lambda each: each[0])]
    return instance
