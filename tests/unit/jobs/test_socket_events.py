"""What the engine itself says of sockets: the end of a connection, and a job that cannot work."""

from __future__ import annotations

import pytest

from hostlab.jobs import effects, facts
from tests.unit.jobs.jobs_world import World

pytestmark = pytest.mark.unit

ACCEPTS = "start on socket PROTO=inet PORT=80 ACCEPT=1\ninstance $CONNECTION\nexec x\n"
NAME = "PROTO=inet PORT=80 ACCEPT=1"


def handled(world: World, name: str) -> list[dict[str, str]]:
    return [
        dict(each.environment)
        for each in world.effects
        if isinstance(each, effects.EventHandled) and each.name == name
    ]


def test_the_end_of_a_connection_is_told_with_whose_it_was() -> None:
    world = World(line=ACCEPTS)
    world.emit("socket", PROTO="inet", PORT="80", NAME=NAME, CONNECTION="7")
    (spawn,) = (each for each in world.effects if isinstance(each, effects.Spawn))
    world.tell(facts.Spawned(spawn=spawn.spawn, pid=1))
    peer = facts.SetVariable(name="REMOTE_ADDR", value="192.0.2.1", job="line", instance="7")
    world.tell(peer)
    assert handled(world, "socket-closed") == []
    world.tell(facts.Exited(spawn=spawn.spawn, status=0))
    assert handled(world, "socket-closed") == [
        {"PROTO": "inet", "PORT": "80", "NAME": NAME, "CONNECTION": "7",
         "REMOTE_ADDR": "192.0.2.1", "JOB": "line"}
    ]  # fmt: skip


def test_a_job_without_a_connection_says_nothing_of_one() -> None:
    world = World(line=ACCEPTS.replace("instance $CONNECTION\n", ""), other="exec x\n")
    for job in ("line", "other"):
        world.start(job)
        spawn = [each for each in world.effects if isinstance(each, effects.Spawn)][-1]
        world.tell(facts.Spawned(spawn=spawn.spawn, pid=1))
        world.tell(facts.Exited(spawn=spawn.spawn, status=0))
    assert handled(world, "socket-closed") == []


def test_a_job_that_cannot_work_has_failed_whether_it_ran_or_not() -> None:
    world = World(y="exec y\n")
    world.load("x.socket", "")
    world.start("x.socket")
    for name in ("x.socket", "y"):
        world.tell(facts.Stop(job=name, failure="port in use"))
        last = world.engine.classes[name].last
        assert last is not None
        assert (last.failed, last.trouble) == (True, "port in use")
    (stopped,) = handled(world, "stopped")
    assert (stopped["JOB"], stopped["RESULT"]) == ("x.socket", "failed")
