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
    pending = len(world.engine.queue.events)
    assert pending
    world = after(world)
    world.effects.clear()
    world.tell(facts.Elapsed())
    assert len(world.finished()) > pending


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
