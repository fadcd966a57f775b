"""The state that a supervisor leaves to the next one."""

from __future__ import annotations

import json

import pytest

from hostlab.errors import DecodeError
from hostlab.jobs import facts
from hostlab.jobs.snapshot import VERSION, capture, decode, encode, restore
from hostlab.spec.job import Step
from tests.unit.jobs.jobs_world import World

pytestmark = pytest.mark.unit


def busy() -> World:
    """A world with something in every part of its state."""
    world = World(
        half="start on a and b\nexec x\n",
        up="instance $I\nexec x\nstop on a and c\nkill mode control-group\n",
        waits="exec y\n",
        held="start on starting waits\npre-start exec z\n",
        delayed="exec x\nrespawn\nrespawn delay 5 9\n",
        changed="exec old\n",
        ended="exec x\n",
    )
    world.running("ended")
    world.exits("ended", status=1)
    world.start("up", I="1")
    world.runs("up", name="1")
    world.start("waits", request="w")
    world.running("delayed")
    world.exits("delayed", status=1)
    world.running("changed")
    world.load("changed", "exec new\n")
    world.tell(facts.Emit(name="a", environment=(("A", "1"),), request="r", timeout_s=50.0))
    return world


def after(world: World) -> World:
    """The same world with the next supervisor in it."""
    own = dict(world.engine.own_environment)
    state = decode(encode(capture(world.engine)))
    world.engine = restore(state, own_environment=own)
    return world


def test_state_is_equal_after_a_round_trip() -> None:
    state = capture(busy().engine)
    assert decode(encode(state)) == state
    assert capture(restore(state)) == state


def test_the_next_supervisor_goes_on_where_this_one_stood() -> None:
    world = after(busy())
    world.emit("b")
    assert world.status("half") == "start/spawned"
    assert world.instance("half").environment["A"] == "1"
    world.does("held", Step.PRE_START)
    assert world.status("waits") == "start/spawned"
    world.runs("waits")
    assert world.replies()["w"]
    world.emit("c")
    assert world.status("up", "1") == "stop/killed"
    assert world.kills()[-1] == (15, "control-group")
    assert world.engine.next_deadline() == 105.0
    world.elapse(5.0)
    assert world.status("delayed") == "start/spawned"
    assert world.kills()[-1] == (9, "control-group")
    world.stop("changed")
    world.killed("changed")
    world.start("changed")
    assert world.spawns()[-1].process.exec == "new"


def test_the_next_supervisor_keeps_deadlines_of_requests() -> None:
    world = after(busy())
    world.elapse(50.0)
    assert world.replies()["r"] is False


def test_events_that_were_not_yet_handled_are_handled_by_the_next() -> None:
    world = World(j="start on go or stopped j\nstop on started j\n")
    world.emit("go")
    pending = {event.serial for event in world.engine.queue.events.values() if not event.handled}
    assert pending
    world = after(world)
    world.tell(facts.Elapsed())
    events = world.engine.queue.events
    assert all(events[serial].handled for serial in pending & set(events))


def test_numbers_are_not_used_again() -> None:
    world = busy()
    spawn, serial = world.engine.next_spawn, world.engine.queue.next_serial
    world = after(world)
    assert (world.engine.next_spawn, world.engine.queue.next_serial) == (spawn, serial)


def test_unknown_fields_are_kept_in_every_part() -> None:
    raw = json.loads(encode(capture(busy().engine)))
    raw["later"] = [1]
    raw["events"][0]["later"] = {"a": 2}
    raw["classes"][1]["later"] = 3
    raw["classes"][1]["instances"][0]["later"] = 4
    raw["classes"][6]["last"]["later"] = 5
    state = decode(json.dumps(raw).encode())
    again = json.loads(encode(capture(restore(state))))
    assert again == raw


def test_a_state_of_a_later_version_is_refused() -> None:
    raw = json.loads(encode(capture(busy().engine)))
    raw["version"] = VERSION + 1
    with pytest.raises(DecodeError, match="version 2"):
        decode(json.dumps(raw).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"version": "x"}', b'{"events": [1]}'])
def test_what_is_no_state_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(data)


def test_what_is_due_at_one_time_is_done_in_one_order() -> None:
    """Whatever order the times were set in: numbers of events and processes depend on it."""
    world = World(
        a="exec x\nrespawn\nrespawn delay 5 9\n", b="exec x\nrespawn\nrespawn delay 5 9\n"
    )
    world.running("a")
    world.running("b")
    world.exits("b", status=1)
    world.exits("a", status=1)
    twin = restore(decode(encode(capture(world.engine))))
    world.now += 5.0
    wanted = world.tell(facts.Elapsed())
    assert [each.job.name for each in world.spawns()[-2:]] == ["a", "b"]
    assert twin.handle(facts.Elapsed(), world.now) == wanted


@pytest.mark.parametrize("at_once", range(1, 12))
def test_a_pass_that_was_cut_short_goes_on_in_the_same_way(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(
        j="start on go\nexec x\n",
        k="start on starting j\ntask\n",
        m="start on go\nstop on starting k\n",
    )
    monkeypatch.setattr("hostlab.jobs.engine.MAX_EVENTS_AT_ONCE", at_once)
    world.emit("go")
    while world.engine.next_deadline() is not None:
        state = capture(world.engine)
        twin = restore(decode(encode(state)))
        assert twin.handle(facts.Elapsed(), world.now) == world.tell(facts.Elapsed())
