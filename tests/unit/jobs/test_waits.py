"""Who waits for whom, and why."""

from __future__ import annotations

import pytest

from hostlab.jobs.waits import Party, Wait, circle, waits
from hostlab.spec.job import Step
from tests.unit.jobs.jobs_world import World

pytestmark = pytest.mark.unit


def told(world: World) -> list[tuple[str, str, str]]:
    return [(wait.name, wait.on_name, wait.why) for wait in waits(world.engine)]


def test_half_an_and_holds_an_emit() -> None:
    world = World(j="start on a and (b X=1 or c)\nexec x\n")
    world.emit("a", request="client 7")
    assert waits(world.engine) == (
        Wait(
            who=Party.EVENT,
            name="a #1",
            on=Party.CONDITION,
            on_name="j start on",
            why="still without: b X=1, c",
        ),
        Wait(
            who=Party.REQUEST,
            name="client 7",
            on=Party.EVENT,
            on_name="a #1",
            why="until the event is finished",
        ),
    )


def test_half_an_and_of_stop_on() -> None:
    world = World(j="stop on a and b\nexec x\n")
    world.running("j")
    world.emit("a")
    assert told(world) == [("a #3", "j stop on", "still without: b")]


def test_jobs_that_wait_for_each_other_are_told_from_those_that_only_wait() -> None:
    half = World(half="start on starting main and later\n", main="exec x\n")
    half.start("main")
    assert waits(half.engine)
    assert circle(waits(half.engine)) == ()
    world = World(
        a="start on go\nstop on starting b\n",
        b="start on go\nstop on starting a\n",
        c="start on starting a and later\n",
    )
    world.emit("go", request="r")
    assert [(each.name, each.on_name) for each in circle(waits(world.engine))] == [
        ("starting #2", "b"),
        ("b", "starting #3"),
        ("starting #3", "a"),
        ("a", "starting #2"),
    ]


def test_a_chain_from_request_to_process() -> None:
    world = World(a="exec x\n", b="start on starting a\npre-start exec y\nexec z\n")
    world.start("a", request="client 1")
    world.runs("b", Step.PRE_START)
    assert told(world) == [
        ("starting #1", "b", "until it is running"),
        ("a", "starting #1", "until the event is finished, in starting"),
        ("client 1", "a", "until the start is done"),
        ("b", "pre-start (1001)", "until it has ended"),
    ]


def test_a_task_holds_until_it_has_stopped() -> None:
    world = World(t="start on a\ntask\nexec x\n")
    world.emit("a")
    world.runs("t")
    assert told(world) == [("a #1", "t", "until it has stopped")]


def test_readiness_kill_and_respawn() -> None:
    world = World(j="exec x\nexpect fork\nrespawn\nrespawn delay 3 3\n")
    world.start("j")
    assert told(world) == [("j", "main (starting)", "until it is ready (fork)")]
    world.runs("j")
    world.exits("j")
    assert told(world) == [("j", "103", "until its respawn is due")]
    world.elapse(3.0)
    world.runs("j")
    world.stop("j")
    assert told(world) == [("j", "main (1002)", "until it has ended, as it was told")]


def test_what_is_left_in_the_cgroup_is_waited_for() -> None:
    world = World(j="exec x\nkill mode control-group\n")
    world.running("j")
    world.stop("j")
    world.killed("j")
    assert told(world) == [("j", "the rest of its cgroup", "until it has ended, as it was told")]
