"""Checklist §1.7: instances and descriptions that change, as far as no file or socket is needed."""

from __future__ import annotations

import pytest

from hostlab.errors import UsageError
from hostlab.jobs import effects, facts
from tests.unit.jobs.jobs_world import World

pytestmark = pytest.mark.unit


def test_instance_name_is_expanded_and_an_empty_one_is_a_singleton() -> None:
    world = World(j="instance ${A}-$B\nexec x\n", s="exec x\n")
    world.start("j", A="1", B="2")
    assert world.status("j", "1-2") == "start/spawned"
    world.start("s")
    assert world.status("s") == "start/spawned"


def test_start_of_a_started_one_is_already_started() -> None:
    world = World(j="exec x\n")
    world.start("j")
    with pytest.raises(UsageError, match="Job is already running: j") as caught:
        world.start("j")
    assert caught.value.code == "already-started"


def test_start_without_the_instances_variable_tells_the_usage() -> None:
    world = World(j='instance $DEV\nusage "DEV=eth0 - the device"\nexec x\n')
    with pytest.raises(UsageError, match="unknown parameter: DEV") as caught:
        world.start("j")
    assert caught.value.hint == "Usage: DEV=eth0 - the device"


def test_stop_of_what_does_not_run() -> None:
    world = World(j="exec x\n")
    with pytest.raises(UsageError, match="Unknown instance: j"):
        world.stop("j")
    with pytest.raises(UsageError, match="Unknown job: k"):
        world.stop("k")
    world.running("j")
    world.stop("j")
    with pytest.raises(UsageError, match="already been stopped"):
        world.stop("j")
    with pytest.raises(UsageError, match="already been stopped"):
        world.restart("j")


def test_refused_requests_change_nothing() -> None:
    world = World(j="exec x\n")
    world.running("j")
    before = len(world.effects)
    with pytest.raises(UsageError):
        world.start("j", request="r", A="1")
    assert len(world.effects) == before
    assert world.instance("j").start_environment is None


def test_running_instances_keep_their_class_until_they_end() -> None:
    world = World(j="exec old\nrespawn\nstop on a\n")
    world.running("j")
    world.load("j", "exec new\nrespawn\nstop on b\n")
    world.exits("j")
    assert world.spawns()[-1].process.exec == "old"
    world.runs("j")
    world.emit("b")
    assert world.status("j") == "start/running"
    world.emit("a")
    world.killed("j")
    world.start("j")
    assert world.spawns()[-1].process.exec == "new"


def test_a_class_that_is_deleted_goes_with_its_last_instance() -> None:
    world = World(j="exec x\nstart on a\n")
    world.running("j")
    world.tell(facts.Unload(name="j"))
    assert world.status("j") == "start/running"
    world.stop("j")
    world.killed("j")
    assert world.engine.classes == {}
    world.emit("a")
    with pytest.raises(UsageError, match="Unknown job"):
        world.start("j")


def test_a_changed_description_takes_over_the_events_it_still_wants() -> None:
    world = World(j="start on a and b\nexec old\n")
    world.emit("a", request="r")
    world.load("j", "start on a and c\nexec new\n")
    assert world.blocked() == ["a"]
    world.emit("c")
    assert world.spawns()[-1].process.exec == "new"
    world.runs("j")
    assert world.replies() == {"r": True}


def test_a_changed_description_lets_go_of_the_events_it_does_not_want() -> None:
    world = World(j="start on a and b\nexec old\n")
    world.emit("a", request="r")
    world.load("j", "start on b\nexec new\n")
    assert world.replies() == {"r": True}
    world.load("j", "start on c and d\nexec new\n")
    world.emit("c", request="s")
    world.tell(facts.Unload(name="j"))
    assert world.replies() == {"r": True, "s": True}


def test_loading_the_same_description_keeps_what_has_matched() -> None:
    world = World(j="start on a and b\nexec x\n")
    world.emit("a")
    world.load("j", "start on a and b\nexec x\n")
    world.emit("b")
    assert world.status("j") == "start/spawned"


def test_an_instance_can_be_named_itself() -> None:
    world = World(j="instance $I\nexec x\npost-stop exec y\n")
    world.start("j", I="one")
    world.runs("j", name="one")
    world.tell(facts.Stop(job="j", instance="one"))
    world.killed("j", name="one")
    world.tell(facts.Start(job="j", instance="one"))
    assert world.instance("j", "one").environment["I"] == "one"
    with pytest.raises(UsageError, match="Unknown instance: two"):
        world.tell(facts.Start(job="j", instance="two"))


def test_set_env_counts_for_new_instances() -> None:
    world = World(j="exec x\n")
    world.tell(facts.SetVariable(name="NEW", value="1"))
    world.start("j")
    assert world.instance("j").environment["NEW"] == "1"
    world.tell(facts.SetVariable(name="NEW", value=None))
    assert "NEW" not in world.engine.environment


def test_instances_are_announced_when_they_come_and_go() -> None:
    world = World(j="")
    world.start("j")
    world.stop("j")
    kinds = [type(each) for each in world.effects]
    assert kinds.index(effects.InstanceAdded) < kinds.index(effects.InstanceRemoved)


def test_a_second_request_answers_the_first() -> None:
    world = World(j="exec x\n")
    world.start("j", request="start")
    world.stop("j", request="stop")
    assert world.replies() == {"start": True}
    world.runs("j")
    world.killed("j")
    assert world.replies() == {"start": True, "stop": True}


def test_an_instance_that_leaves_lets_go_of_what_its_stop_on_held() -> None:
    world = World(j="stop on a and b\nexec x\n")
    world.running("j")
    world.emit("a", request="r")
    world.stop("j")
    assert world.replies() == {}
    world.killed("j")
    assert world.replies() == {"r": True}
    assert world.engine.index.find("a", ()) == []
    assert world.engine.spawns == {}


def test_a_class_that_was_deleted_and_came_back_stays() -> None:
    world = World(j="exec x\n")
    world.running("j")
    world.tell(facts.Unload(name="j"))
    world.load("j", "exec y\n")
    world.stop("j")
    world.killed("j")
    world.start("j")
    assert world.spawns()[-1].process.exec == "y"
