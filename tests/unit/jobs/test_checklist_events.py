"""Checklist §1.3 as far as it needs jobs, and §1.4: one test a line."""

from __future__ import annotations

import pytest

from hostlab.errors import UsageError
from hostlab.jobs import effects, facts
from hostlab.jobs.engine import MAX_EVENTS_AT_ONCE
from hostlab.spec.job import Step
from tests.unit.jobs.jobs_world import World

pytestmark = pytest.mark.unit


def test_stop_on_values_are_expanded_with_the_instances_environment() -> None:
    world = World(j="instance $DEV\nstop on removed DEV=$DEV\nexec x\n")
    for device in ("a", "b"):
        world.start("j", DEV=device)
        world.runs("j", name=device)
    world.emit("removed", DEV="b")
    assert world.status("j", "a") == "start/running"
    assert world.status("j", "b") == "stop/killed"


def test_start_on_values_are_expanded_with_no_environment() -> None:
    world = World(
        a="env X=1\nstart on go X=$X\nexec x\n", b="env X=1\nstart on go X=${X:-1}\nexec x\n"
    )
    world.emit("go", X="1")
    assert world.status("a") == "stop/waiting"
    assert world.status("b") == "start/spawned"


def test_half_an_and_holds_an_emit_until_the_other_half() -> None:
    world = World(j="start on a and b\nexec x\n")
    world.emit("a", request="first")
    assert world.blocked() == ["a"]
    assert world.replies() == {}
    world.emit("b")
    world.runs("j")
    assert world.blocked() == []
    assert world.replies() == {"first": True}


def test_half_an_and_holds_the_starting_of_another_job() -> None:
    world = World(a="exec x\n", b="start on starting a and go\nexec x\n")
    world.start("a")
    assert world.status("a") == "start/starting"
    world.emit("go")
    world.runs("b")
    assert world.status("a") == "start/spawned"


def test_second_event_while_waiting_is_ignored_and_the_firsts_environment_kept() -> None:
    world = World(j="start on foo and bar\nexec x\n")
    world.emit("foo", N="1")
    world.emit("foo", N="2")
    assert world.finished() == ["foo"]
    world.emit("bar")
    assert world.instance("j").environment["N"] == "1"


def test_root_true_environment_is_class_then_events_then_upstart_events() -> None:
    world = World(j="env A=job\nenv B=job\nenv LANG\nstart on foo and bar\nexec x\n")
    world.emit("foo", B="foo", C="foo")
    world.emit("bar", C="bar")
    assert list(world.instance("j").environment.items()) == [
        ("PATH", "/bin"),
        ("LANG", "C"),
        ("A", "job"),
        ("B", "foo"),
        ("C", "bar"),
        ("UPSTART_EVENTS", "foo bar"),
    ]


def test_only_true_branches_contribute_and_all_events_are_let_go() -> None:
    world = World(j="start on (a and b) or c\nexec x\n")
    world.emit("a", A="1")
    world.emit("c", C="1")
    assert world.instance("j").environment["UPSTART_EVENTS"] == "c"
    assert "A" not in world.instance("j").environment
    # `a` became free behind the place of the pass, so `starting` is finished before it.
    assert world.finished() == ["starting", "a"]


def test_start_on_state_is_shared_by_the_class() -> None:
    world = World(j="instance $I\nstart on A and B\nexec x\n")
    world.emit("A", I="eth0")
    world.emit("B", I="eth1")
    assert world.status("j", "eth1") == "start/spawned"
    assert world.status("j", "eth0") == "stop/waiting"


def test_stop_on_state_is_each_instances_own() -> None:
    world = World(j="instance $I\nstop on A and B\nexec x\n")
    world.start("j", I="1")
    world.runs("j", name="1")
    world.emit("A")
    world.start("j", I="2")
    world.runs("j", name="2")
    world.emit("B")
    assert world.status("j", "1") == "stop/killed"
    assert world.status("j", "2") == "start/running"


def test_stop_conditions_come_before_start_so_the_same_event_restarts() -> None:
    world = World(j="start on x\nstop on x\nexec x\n")
    world.emit("x")
    world.runs("j")
    world.emit("x")
    assert world.status("j") == "start/killed"
    world.killed("j")
    assert world.status("j") == "start/spawned"


def test_start_on_true_while_started_only_resets() -> None:
    world = World(j="start on x\nexec x\n")
    world.emit("x", N="1")
    world.runs("j")
    world.emit("x", N="2")
    assert world.status("j") == "start/running"
    assert world.blocked() == []
    assert world.instance("j").environment["N"] == "1"


def test_start_while_stopping_replaces_the_environment_and_restarts_after_post_stop() -> None:
    world = World(j="start on x\nexec x\npost-stop exec y\n")
    world.emit("x", N="1")
    world.runs("j")
    world.stop("j")
    world.emit("x", N="2")
    assert world.status("j") == "start/killed"
    world.killed("j")
    assert world.instance("j").environment["N"] == "1"
    world.does("j", Step.POST_STOP)
    assert world.status("j") == "start/spawned"
    assert world.instance("j").environment["N"] == "2"


def test_start_on_a_and_b_or_c_runs_again_on_a_c() -> None:
    world = World(j="start on A and (B or C)\nexec x\n")
    for second in ("B", "C"):
        world.emit("A")
        world.emit(second)
        world.runs("j")
        world.stop("j")
        world.killed("j")
    assert len(world.spawns()) == 2


def test_event_without_interested_job_is_destroyed_at_once() -> None:
    world = World()
    world.emit("foo", request="r")
    assert world.replies() == {"r": True}
    world.load("j", "start on foo\nexec x\n")
    assert world.status("j") == "stop/waiting"


def test_events_finish_in_the_order_of_a_pass() -> None:
    world = World(j="start on a\n", k="start on started j\n")
    world.emit("a")
    # Both jobs hold what started them until they run; that is behind the place of the pass.
    assert world.finished() == ["starting", "starting", "started", "a", "started"]
    assert world.status("k") == "start/running"


def test_starting_and_stopping_block_their_job_until_services_run() -> None:
    world = World(a="exec x\n", b="start on starting a\nstop on stopping a\nexec x\n")
    world.start("a")
    assert (world.status("a"), world.status("b")) == ("start/starting", "start/spawned")
    world.runs("b")
    assert world.status("a") == "start/spawned"
    world.runs("a")
    world.stop("a")
    assert (world.status("a"), world.status("b")) == ("stop/stopping", "stop/killed")
    world.killed("b")
    assert (world.status("a"), world.status("b")) == ("stop/killed", "stop/waiting")


def test_starting_blocks_until_a_task_has_finished() -> None:
    world = World(a="exec x\n", t="start on starting a\ntask\nexec x\n")
    world.start("a")
    world.runs("t")
    assert (world.status("a"), world.status("t")) == ("start/starting", "start/running")
    world.exits("t")
    assert (world.status("a"), world.status("t")) == ("start/spawned", "stop/waiting")


def test_started_and_stopped_do_not_block() -> None:
    world = World(a="exec x\n", b="start on started a\nstop on stopped a\nexec x\n")
    world.running("a")
    assert world.blocked() == ["started"]
    world.runs("b")
    world.stop("a")
    world.killed("a")
    assert world.status("a") == "stop/waiting"
    assert world.status("b") == "stop/killed"


def test_a_service_unblocks_its_events_at_running() -> None:
    world = World(j="start on x\nexec x\npost-start exec y\n")
    world.emit("x", request="r")
    world.runs("j")
    assert world.replies() == {}
    world.does("j", Step.POST_START)
    assert world.replies() == {"r": True}


def test_a_task_unblocks_its_events_when_it_has_stopped() -> None:
    world = World(j="start on x\ntask\nexec x\npost-stop exec y\n")
    world.emit("x", request="r")
    world.runs("j")
    world.exits("j")
    assert world.replies() == {}
    world.does("j", Step.POST_STOP)
    assert world.replies() == {"r": True}


def test_any_job_unblocks_its_events_at_failure() -> None:
    world = World(j="start on x\ntask\nexec x\npost-stop exec y\n")
    world.emit("x", request="r")
    world.runs("j")
    world.exits("j", status=1)
    assert world.status("j") == "stop/post-stop"
    assert world.replies() == {"r": False}


def test_failed_event_emits_its_failed_event_with_the_same_environment() -> None:
    world = World(j="start on x\ntask\nexec x\n")
    world.emit("x", request="r", A="1")
    world.runs("j")
    world.exits("j", status=1)
    assert world.finished().count("x/failed") == 1
    assert world.event("x/failed") == {"A": "1"}
    assert world.replies() == {"r": False}


def test_a_failed_event_that_fails_makes_no_further_one() -> None:
    world = World(j="start on x/failed\ntask\nexec x\n")
    world.emit("x/failed", request="r")
    world.runs("j")
    world.exits("j", status=1)
    assert "x/failed/failed" not in world.finished()
    assert world.replies() == {"r": False}


def test_job_events_carry_job_instance_result_and_exports() -> None:
    world = World(j="instance $I\nexport E JOB NONE\nenv E=1\nexec x\n")
    world.start("j", I="one")
    world.runs("j", name="one")
    assert world.event("starting") == {"JOB": "j", "INSTANCE": "one", "E": "1"}
    assert world.event("started") == {"JOB": "j", "INSTANCE": "one", "E": "1"}
    world.stop("j", I="one")
    expected = {"JOB": "j", "INSTANCE": "one", "RESULT": "ok", "E": "1"}
    assert world.event("stopping") == expected
    assert list(world.event("stopping")) == ["JOB", "INSTANCE", "RESULT", "E"]
    world.killed("j", name="one")
    assert world.event("stopped") == expected


def test_stop_events_say_which_process_failed_and_how() -> None:
    world = World(j="exec x\n")
    world.running("j")
    world.exits("j", status=3)
    failed = {"JOB": "j", "INSTANCE": "", "RESULT": "failed", "PROCESS": "main"}
    assert world.event("stopping") == failed | {"EXIT_STATUS": "3"}
    assert world.event("stopped") == failed | {"EXIT_STATUS": "3"}
    world.running("j")
    world.killed("j", signal=11)
    assert world.event("stopped") == failed | {"EXIT_SIGNAL": "SEGV"}


def test_spawn_failure_has_neither_status_nor_signal() -> None:
    world = World(j="exec x\n")
    world.start("j", request="r")
    world.tell(facts.SpawnFailed(spawn=world.spawn_number("j"), step="chdir", errno=2))
    assert world.event("stopped") == {
        "JOB": "j",
        "INSTANCE": "",
        "RESULT": "failed",
        "PROCESS": "main",
    }
    assert world.replies() == {"r": False}


def test_emit_with_descriptors_gives_upstart_fds() -> None:
    world = World(j="start on socket\nexec x\n")
    world.tell(facts.Emit(name="socket", environment=(("PROTO", "inet"),), fds=(7, 9)))
    spawn = world.spawns()[-1]
    assert spawn.fds == (7, 9)
    assert dict(spawn.environment)["UPSTART_FDS"] == "7 9"


def test_emit_without_a_name_is_refused() -> None:
    with pytest.raises(UsageError, match="empty"):
        World().emit("")


def test_emit_with_timeout_is_answered_though_the_event_stays() -> None:
    world = World(j="start on a and b\nexec x\n")
    world.tell(facts.Emit(name="a", request="r", timeout_s=5.0))
    assert world.engine.next_deadline() == 105.0
    world.elapse(5.0)
    assert world.replies() == {"r": False}
    assert world.blocked() == ["a"]
    assert world.engine.next_deadline() is None


def test_emit_without_request_waits_for_nothing() -> None:
    world = World(j="start on a and b\nexec x\n")
    world.emit("a")
    assert world.replies() == {}


def test_jobs_that_start_and_stop_each_other_for_ever_do_not_hang_the_engine() -> None:
    world = World(j="start on go or stopped j\nstop on started j\n")
    world.emit("go")
    assert len(world.finished()) <= MAX_EVENTS_AT_ONCE
    assert world.engine.next_deadline() == world.now


def test_an_instance_without_a_name_stops_no_other_class() -> None:
    world = World(a="instance $NONE\nstart on x\nexec x\n", b="start on x\nexec x\n")
    world.emit("x")
    assert world.logged("Failed to obtain a instance: unknown parameter: NONE")
    assert world.status("b") == "start/spawned"


def test_monitor_sees_the_event_handled_then_finished() -> None:
    world = World()
    got = world.tell(facts.Emit(name="e", environment=(("A", "1"),)))
    assert [type(each) for each in got] == [effects.EventHandled, effects.EventFinished]


def test_stop_on_collects_upstart_stop_events() -> None:
    world = World(j="stop on a and b\nexec x\npost-stop exec y\npre-stop exec z\n")
    world.running("j")
    world.emit("a", A="1")
    world.emit("b", A="2", B="1")
    spawn = world.spawns()[-1]
    assert spawn.step is Step.PRE_STOP
    environment = dict(spawn.environment)
    assert environment["UPSTART_STOP_EVENTS"] == "a b"
    assert (environment["A"], environment["B"]) == ("2", "1")
