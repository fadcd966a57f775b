"""What a supervisor that died may have left undone."""

from __future__ import annotations

import pytest

from hostlab.jobs import effects, facts
from hostlab.jobs.restored import unsent, unspawned
from hostlab.jobs.snapshot import capture, decode, encode, restore
from hostlab.spec.job import Step
from tests.unit.jobs.jobs_world import World

pytestmark = pytest.mark.unit


def after(world: World) -> World:
    """The same world with the next supervisor in it."""
    world.engine = restore(decode(encode(capture(world.engine))))
    return world


def kills(world: World) -> list[tuple[int, int | None, int, str]]:
    return [(each.spawn, each.pid, each.signal, each.scope.value) for each in unsent(world.engine)]


def test_processes_that_nobody_told_of_are_to_be_started() -> None:
    world = World(
        one="env A=1\npre-start exec p\nexec x\n", two="instance $I\nexec y\n", three="exec z\n"
    )
    world.start("one")
    world.start("two", I="1")
    world.running("three")
    first, second, _ = wanted = world.spawns()
    assert unspawned(after(world).engine) == (first, second)
    world.does("one", Step.PRE_START)
    assert unspawned(after(world).engine) == (second, world.spawns()[-1])
    assert len(wanted) == 3


def test_a_script_on_the_way_down_gets_what_stopped_the_job() -> None:
    world = World(j="exec x\npost-stop exec p\nstop on go\n")
    world.running("j")
    world.emit("go", A="1")
    world.killed("j")
    assert unspawned(after(world).engine) == (world.spawns()[-1],)
    assert ("UPSTART_STOP_EVENTS", "go") in unspawned(world.engine)[0].environment


@pytest.mark.parametrize(
    ("mode", "first", "last"),
    [
        ("process-group", "process-group", "process-group"),
        ("mixed", "process", "control-group"),
        ("control-group", "control-group", "control-group"),
    ],
)
def test_a_signal_that_ends_a_job_is_sent_again(mode: str, first: str, last: str) -> None:
    world = World(j=f"exec x\nkill mode {mode}\nkill signal INT\n")
    world.running("j")
    assert kills(after(world)) == []
    world.stop("j")
    pid = world.pid
    assert kills(after(world)) == [(1, pid, 2, first)]
    world.elapse(5.0)
    assert kills(after(world)) == [(1, pid, 9, last)]
    assert _last_kill(world) == unsent(world.engine)[0]


@pytest.mark.parametrize(("mode", "signal"), [("control-group", 15), ("mixed", 9)])
def test_the_rest_of_a_cgroup_is_signalled_again(mode: str, signal: int) -> None:
    world = World(j=f"exec x\nkill mode {mode}\n")
    world.running("j")
    world.stop("j")
    world.killed("j")
    assert kills(after(world)) == [(1, None, signal, "control-group")]
    world.tell(facts.Emptied(spawn=1))
    assert kills(after(world)) == []


def test_the_rest_of_a_cgroup_whose_main_process_died_by_itself() -> None:
    world = World(j="exec x\nkill mode mixed\n")
    world.running("j")
    world.killed("j")
    assert world.status("j") == "stop/killed"
    assert kills(after(world)) == [(1, None, 9, "control-group")]
    assert _last_kill(world) == unsent(world.engine)[0]


def test_a_process_that_stopped_to_say_ready_goes_on() -> None:
    world = World(j="exec x\nexpect stop\npost-start exec p\n")
    world.start("j")
    world.runs("j")
    assert kills(after(world)) == []
    world.tell(facts.Stopped(spawn=1))
    assert kills(after(world)) == [(1, world.pid, 18, "process")]
    assert _last_kill(world) == unsent(world.engine)[0]


def _last_kill(world: World) -> effects.Kill:
    return [each for each in world.effects if isinstance(each, effects.Kill)][-1]
