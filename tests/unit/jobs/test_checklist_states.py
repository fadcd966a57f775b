"""Checklist §1.5: the state machine, one test a line, and what this engine adds to it."""

from __future__ import annotations

import pytest

from hostlab.errors import UsageError
from hostlab.jobs import effects, facts
from hostlab.jobs.states import TABLE, Action, Goal, State, next_state
from hostlab.spec.job import Step
from tests.unit.jobs.jobs_world import World

pytestmark = pytest.mark.unit

ALL = (
    "exec x\npre-start exec a\npost-start exec b\npre-stop exec c\npost-stop exec d\n"
    "apparmor load p\n"
)


def test_every_state_has_a_row_and_is_reached() -> None:
    assert set(TABLE) == set(State)
    reached = {row.start for row in TABLE.values()} | {row.stop for row in TABLE.values()}
    assert reached == set(State)


def test_goals_are_start_stop_and_respawn() -> None:
    assert [goal.value for goal in Goal] == ["stop", "start", "respawn"]
    remembered = {state for state, row in TABLE.items() if row.respawn is not None}
    assert remembered == {State.SPAWNED, State.POST_START, State.PRE_STOP}


def test_way_up_and_down_through_every_state() -> None:
    world = World(j=ALL, apparmor=True)
    world.start("j", request="up")
    for step in (Step.SECURITY, Step.PRE_START):
        world.does("j", step)
    world.runs("j")
    world.does("j", Step.POST_START)
    assert world.replies() == {"up": True}
    world.stop("j", request="down")
    world.does("j", Step.PRE_STOP)
    world.killed("j")
    world.does("j", Step.POST_STOP)
    assert world.replies() == {"up": True, "down": True}
    assert world.states("j") == [
        "starting",
        "security-spawning",
        "security",
        "pre-starting",
        "pre-start",
        "spawning",
        "spawned",
        "post-starting",
        "post-start",
        "running",
        "pre-stopping",
        "pre-stop",
        "stopping",
        "killed",
        "post-stopping",
        "post-stop",
        "waiting",
    ]


@pytest.mark.parametrize(
    "state", [s for s in State if list(State).index(s) < list(State).index(State.RUNNING)][1:]
)
def test_stop_goal_before_running_goes_straight_to_stopping(state: State) -> None:
    assert next_state(state, Goal.STOP, has_main=True) is State.STOPPING


def test_respawn_goes_from_running_to_stopping_without_pre_stop() -> None:
    world = World(j="respawn\nexec x\npre-stop exec c\n")
    world.running("j")
    world.exits("j")
    assert Step.PRE_STOP not in [spawn.step for spawn in world.spawns()]
    assert world.status("j") == "start/spawned"
    assert "stopping" in world.states("j")


def test_a_job_without_main_process_runs_and_stays() -> None:
    world = World(j="pre-start exec a\n")
    world.start("j")
    world.does("j", Step.PRE_START)
    assert world.status("j") == "start/running"
    world.stop("j")
    assert world.status("j") == "stop/waiting"
    assert "pre-stopping" not in world.states("j")


def test_stop_inside_pre_start_cancels_the_start() -> None:
    world = World(j="exec x\npre-start exec a\n")
    world.start("j", request="up")
    world.runs("j", Step.PRE_START)
    world.stop("j")
    assert world.status("j") == "stop/pre-start"
    world.exits("j", Step.PRE_START)
    assert world.status("j") == "stop/waiting"
    assert [spawn.step for spawn in world.spawns()] == [Step.PRE_START]


def test_start_inside_pre_stop_cancels_the_stop() -> None:
    world = World(j="exec x\npre-stop exec c\nstop on x\n")
    world.running("j")
    world.emit("x", A="1")
    world.start("j", request="again")
    assert world.replies() == {}
    world.does("j", Step.PRE_STOP)
    assert world.status("j") == "start/running"
    assert world.instance("j").stop_environment is None
    assert world.replies() == {"again": True}
    assert world.finished().count("started") == 1


def test_pre_start_non_zero_fails_and_stops() -> None:
    world = World(j="exec x\npre-start exec a\n")
    world.start("j", request="r")
    world.does("j", Step.PRE_START, status=1)
    assert world.replies() == {"r": False}
    assert world.status("j") == "stop/waiting"
    assert world.event("stopped")["PROCESS"] == "pre-start"


def test_post_start_and_pre_stop_failures_are_ignored() -> None:
    world = World(j="exec x\npost-start exec b\npre-stop exec c\n")
    world.start("j")
    world.runs("j")
    world.does("j", Step.POST_START, status=1)
    assert world.status("j") == "start/running"
    world.stop("j")
    world.does("j", Step.PRE_STOP, status=1)
    world.killed("j")
    assert world.event("stopped")["RESULT"] == "ok"


def test_post_stop_non_zero_is_failed() -> None:
    world = World(j="exec x\npost-stop exec d\n")
    world.running("j")
    world.stop("j", request="r")
    world.killed("j")
    world.does("j", Step.POST_STOP, status=2)
    assert world.event("stopped")["PROCESS"] == "post-stop"
    assert world.replies() == {"r": False}


def test_security_failure_is_ignored_and_the_step_is_nothing_without_apparmor() -> None:
    world = World(j="exec x\napparmor load p\n", apparmor=True)
    world.start("j")
    world.does("j", Step.SECURITY, status=1)
    assert world.status("j") == "start/spawned"
    without = World(j="exec x\napparmor load p\n")
    without.start("j")
    assert [spawn.step for spawn in without.spawns()] == [Step.MAIN]


def test_security_that_cannot_be_spawned_stops_the_job() -> None:
    world = World(j="exec x\napparmor load p\n", apparmor=True)
    world.start("j")
    spawn = world.spawn_number("j", Step.SECURITY)
    world.tell(facts.SpawnFailed(spawn=spawn, step="execve", errno=2))
    assert world.status("j") == "stop/waiting"


def test_main_exit_in_killed_is_normal() -> None:
    world = World(j="exec x\n")
    world.running("j")
    world.stop("j")
    world.killed("j", signal=9)
    assert world.event("stopped")["RESULT"] == "ok"


def test_main_exit_in_stopping_is_ignored() -> None:
    world = World(j="exec x\n", k="start on stopping j\ntask\nexec y\n")
    world.running("j")
    world.stop("j")
    world.exits("j", status=1)
    assert world.status("j") == "stop/stopping"
    world.runs("k")
    world.exits("k")
    assert world.event("stopped", 0)["JOB"] == "k"
    assert world.event("stopped")["RESULT"] == "ok"
    assert world.kills() == []


def test_main_exit_fails_by_status_unless_normal() -> None:
    for text, status, result in (
        ("exec x\n", 0, "ok"),
        ("exec x\n", 1, "failed"),
        ("exec x\nnormal exit 1\n", 1, "ok"),
        ("exec x\nrespawn\nrespawn limit 1 5\nnormal exit 0\n", 0, "ok"),
    ):
        world = World(j=text)
        world.running("j")
        world.exits("j", status=status)
        assert world.status("j") == "stop/waiting"
        assert world.event("stopped")["RESULT"] == result, text


def test_main_exit_by_signal_is_normal_when_it_says_so() -> None:
    world = World(j="exec x\nnormal exit TERM\n")
    world.running("j")
    world.killed("j", signal=15)
    assert world.event("stopped")["RESULT"] == "ok"


def test_a_respawn_service_that_ends_well_respawns_and_a_task_does_not() -> None:
    world = World(j="exec x\nrespawn\n", t="exec x\nrespawn\ntask\n")
    world.running("j")
    world.exits("j")
    assert world.status("j") == "start/spawned"
    world.start("t")
    world.runs("t")
    world.exits("t")
    assert world.status("t") == "stop/waiting"
    world.start("t")
    world.runs("t")
    world.exits("t", status=1)
    assert world.status("t") == "start/spawned"


def test_respawn_is_immediate_and_keeps_the_environment() -> None:
    world = World(j="exec x\nrespawn\n")
    world.start("j", A="1")
    world.runs("j")
    world.exits("j")
    assert dict(world.spawns()[-1].environment)["A"] == "1"
    assert world.engine.next_deadline() is None


def test_runaway_is_stopped_and_says_respawn() -> None:
    world = World(j="exec x\nrespawn\nrespawn limit 2 5\n")
    world.running("j")
    for _ in range(2):
        world.exits("j", status=1)
        world.runs("j")
    world.exits("j", status=1)
    assert world.status("j") == "stop/waiting"
    assert world.logged("respawning too fast, stopped")
    assert world.event("stopped") == {
        "JOB": "j",
        "INSTANCE": "",
        "RESULT": "failed",
        "PROCESS": "respawn",
    }


def test_runaway_counter_is_reset_when_the_interval_is_over() -> None:
    world = World(j="exec x\nrespawn\nrespawn limit 1 5\n")
    world.running("j")
    for _ in range(5):
        world.exits("j", status=1)
        world.runs("j")
        world.elapse(5.0)
    assert world.status("j") == "start/running"


def test_zero_in_limit_or_interval_is_unlimited() -> None:
    for limit in ("0 5", "1 0", "unlimited"):
        world = World(j=f"exec x\nrespawn\nrespawn limit {limit}\n")
        world.running("j")
        for _ in range(30):
            world.exits("j", status=1)
            world.runs("j")
        assert world.status("j") == "start/running"


def test_respawn_is_remembered_until_post_start_has_ended() -> None:
    world = World(j="exec x\nrespawn\npost-start exec b\n")
    world.start("j")
    world.runs("j")
    world.runs("j", Step.POST_START)
    world.exits("j")
    assert world.status("j") == "respawn/post-start"
    world.exits("j", Step.POST_START)
    assert world.status("j") == "start/spawned"
    assert "running" not in world.states("j")


def test_respawn_is_remembered_until_pre_stop_has_ended() -> None:
    world = World(j="exec x\nrespawn\npre-stop exec c\n")
    world.running("j")
    world.stop("j")
    world.start("j")
    world.exits("j")
    assert world.status("j") == "respawn/pre-stop"
    world.does("j", Step.PRE_STOP)
    assert world.status("j") == "start/spawned"


def test_main_that_dies_before_it_is_ready_is_respawned_from_stopping() -> None:
    world = World(j="exec x\nrespawn\nexpect fork\n")
    world.start("j")
    world.runs("j")
    world.exits("j", status=1)
    assert world.status("j") == "start/spawned"
    assert "running" not in world.states("j")


def test_only_main_is_killed_and_the_signal_goes_to_its_group() -> None:
    world = World(j="exec x\npost-start exec b\nkill signal INT\nkill timeout 7\n")
    world.start("j")
    world.runs("j")
    world.does("j", Step.POST_START)
    world.stop("j")
    assert world.kills() == [(2, "process-group")]
    assert world.engine.next_deadline() == world.now + 7
    world.elapse(7.0)
    assert world.kills() == [(2, "process-group"), (9, "process-group")]
    assert world.engine.next_deadline() is None
    world.killed("j", signal=9)
    assert world.status("j") == "stop/waiting"


def test_kill_timer_does_not_outlive_the_process() -> None:
    world = World(j="exec x\n")
    world.running("j")
    world.stop("j")
    assert world.engine.next_deadline() == world.now + 5
    world.killed("j")
    assert world.engine.next_deadline() is None
    world.elapse(10.0)
    assert len(world.kills()) == 1


def test_scripts_have_no_timeout() -> None:
    world = World(j="exec x\npre-start exec a\n")
    world.start("j")
    world.runs("j", Step.PRE_START)
    world.stop("j")
    assert world.engine.next_deadline() is None


def test_post_stop_runs_even_when_pre_start_never_ran() -> None:
    world = World(
        j="exec x\npre-start exec a\npost-stop exec d\n", k="start on starting j\nexec y\n"
    )
    world.start("j")
    world.stop("j")
    world.runs("k")
    assert [spawn.step for spawn in world.spawns() if spawn.job.name == "j"] == [Step.POST_STOP]


def test_restart_keeps_the_old_configuration_and_stop_then_start_takes_the_new() -> None:
    world = World(j="exec old\n")
    world.running("j")
    world.load("j", "exec new\n")
    world.restart("j", request="r")
    world.killed("j")
    assert world.spawns()[-1].process.exec == "old"
    world.runs("j")
    assert world.replies() == {"r": True}
    world.stop("j")
    world.killed("j")
    world.start("j")
    assert world.spawns()[-1].process.exec == "new"


def test_restart_of_a_job_with_pre_stop_restarts_it() -> None:
    world = World(j="exec x\npre-stop exec c\n")
    world.running("j")
    world.restart("j")
    world.does("j", Step.PRE_STOP)
    world.killed("j")
    assert world.status("j") == "start/spawned"


def test_restart_goes_on_when_main_ends_inside_pre_stop() -> None:
    world = World(j="exec x\npre-stop exec c\n")
    world.running("j")
    world.restart("j", request="r")
    world.exits("j")
    world.does("j", Step.PRE_STOP)
    world.runs("j")
    assert world.replies() == {"r": True}


def test_a_start_event_does_not_disturb_a_respawn_that_is_remembered() -> None:
    for name in ("", "instance ${I:-}\n"):
        world = World(j=f"{name}start on x\nexec x\nrespawn\npost-start exec b\n")
        world.start("j")
        world.runs("j")
        world.runs("j", Step.POST_START)
        world.exits("j")
        world.emit("x")
        assert world.status("j") == "respawn/post-start"


def test_post_stop_of_a_stop_asked_for_has_its_environment() -> None:
    world = World(j="exec x\npost-stop exec d\n")
    world.running("j")
    world.stop("j", WHY="because")
    world.killed("j")
    assert dict(world.spawns()[-1].environment)["WHY"] == "because"


def test_process_environment_names_job_and_instance() -> None:
    world = World(j="instance $I\nexec x\n")
    world.start("j", I="one")
    environment = dict(world.spawns()[-1].environment)
    assert environment == {
        "PATH": "/bin",
        "I": "one",
        "UPSTART_JOB": "j",
        "UPSTART_INSTANCE": "one",
    }


def test_expect_stop_continues_the_process_and_goes_on() -> None:
    world = World(j="exec x\nexpect stop\n")
    world.start("j")
    world.runs("j")
    assert world.status("j") == "start/spawned"
    world.tell(facts.Stopped(spawn=world.spawn_number("j")))
    assert world.kills() == [(18, "process")]
    assert world.status("j") == "start/running"
    world.tell(facts.Stopped(spawn=world.spawn_number("j")))
    assert world.kills() == [(18, "process")]


def test_expect_daemon_is_told_ready_with_the_pid_that_stays() -> None:
    world = World(j="exec x\nexpect daemon\n")
    world.start("j")
    world.runs("j")
    world.tell(facts.Ready(spawn=world.spawn_number("j"), pid=4242))
    assert world.status("j") == "start/running"
    main = world.instance("j").main
    assert main is not None
    assert main.pid == 4242


def test_not_ready_in_time_fails_the_start() -> None:
    world = World(j="exec x\nexpect notify\nexpect timeout 3\n")
    world.start("j", request="r")
    world.runs("j")
    world.elapse(3.0)
    assert world.replies() == {"r": False}
    assert world.status("j") == "stop/killed"
    world.killed("j")
    assert world.event("stopped")["PROCESS"] == "main"


def test_not_ready_in_time_respawns_a_service() -> None:
    world = World(j="exec x\nexpect notify\nexpect timeout 3\nrespawn\nrespawn limit 1 60\n")
    world.start("j")
    for _ in range(2):
        world.runs("j")
        world.elapse(3.0)
        world.killed("j")
    assert world.status("j") == "stop/waiting"
    assert world.event("stopped")["PROCESS"] == "respawn"


def test_more_time_can_be_asked_for() -> None:
    world = World(j="exec x\nexpect notify\nexpect timeout 3\n")
    world.start("j")
    world.runs("j")
    world.tell(facts.ExtendDeadline(spawn=world.spawn_number("j"), seconds=60.0))
    world.elapse(3.0)
    assert world.status("j") == "start/spawned"
    assert world.engine.next_deadline() == 160.0


def test_stop_does_not_wait_for_readiness() -> None:
    world = World(j="exec x\nexpect fork\n")
    world.start("j")
    world.stop("j")
    assert world.status("j") == "stop/spawned"
    world.runs("j")
    assert world.status("j") == "stop/killed"
    again = World(j="exec x\nexpect fork\n")
    again.start("j")
    again.runs("j")
    again.stop("j")
    assert again.status("j") == "stop/killed"


def test_respawn_delay_doubles_up_to_its_maximum() -> None:
    world = World(j="exec x\nrespawn\nrespawn limit unlimited\nrespawn delay 1 5\n")
    world.running("j")
    waits = []
    for _ in range(5):
        world.exits("j", status=1)
        assert world.status("j") == "start/post-stop"
        deadline = world.engine.next_deadline()
        assert deadline is not None
        waits.append(deadline - world.now)
        world.elapse(waits[-1])
        world.runs("j")
    assert waits == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_respawn_delay_is_forgotten_after_a_long_run() -> None:
    world = World(j="exec x\nrespawn\nrespawn limit 5 10\nrespawn delay 1 60\n")
    world.running("j")
    for lived, wait in ((1.0, 1.0), (1.0, 2.0), (10.0, 1.0)):
        world.elapse(lived)
        world.exits("j", status=1)
        assert world.engine.next_deadline() == world.now + wait
        world.elapse(wait)
        world.runs("j")


def test_a_held_respawn_can_be_stopped_and_restarted_at_once() -> None:
    text = "exec x\nrespawn\nrespawn delay 9 9\n"
    world = World(j=text)
    world.running("j")
    world.exits("j")
    world.stop("j", request="down")
    assert world.status("j") == "stop/waiting"
    assert world.replies() == {"down": True}
    again = World(j=text)
    again.running("j")
    again.exits("j")
    again.restart("j")
    assert again.status("j") == "start/spawned"


def test_kill_mode_control_group_waits_for_the_whole_cgroup() -> None:
    world = World(j="exec x\nkill mode control-group\n")
    world.running("j")
    spawn = world.spawn_number("j")
    world.stop("j")
    world.killed("j")
    assert world.status("j") == "stop/killed"
    world.elapse(5.0)
    assert world.kills() == [(15, "control-group"), (9, "control-group")]
    world.tell(facts.Emptied(spawn=spawn))
    assert world.status("j") == "stop/waiting"
    assert not world.engine.spawns


def test_kill_mode_mixed_signals_main_and_kills_the_rest() -> None:
    world = World(j="exec x\nkill mode mixed\n")
    world.running("j")
    spawn = world.spawn_number("j")
    world.stop("j")
    world.killed("j")
    assert world.kills() == [(15, "process"), (9, "control-group")]
    world.tell(facts.Emptied(spawn=spawn))
    assert world.status("j") == "stop/waiting"


def test_kill_mode_control_group_also_ends_what_a_dead_main_left() -> None:
    world = World(j="exec x\nkill mode control-group\n")
    world.running("j")
    spawn = world.spawn_number("j")
    world.exits("j")
    assert world.kills() == [(15, "control-group")]
    world.tell(facts.Emptied(spawn=spawn))
    assert world.status("j") == "stop/waiting"


def test_a_cgroup_that_empties_before_a_respawn_is_forgotten() -> None:
    world = World(j="exec x\nkill mode control-group\nrespawn\n")
    world.running("j")
    spawn = world.spawn_number("j")
    world.exits("j")
    assert world.status("j") == "start/killed"
    world.tell(facts.Emptied(spawn=spawn))
    assert world.status("j") == "start/spawned"
    assert list(world.engine.spawns) == [world.spawn_number("j")]


def test_what_is_told_of_a_cgroup_counts_for_its_own_main_only() -> None:
    world = World(j="exec x\nkill mode control-group\n")
    world.running("j")
    spawn = world.spawn_number("j")
    world.tell(facts.Emptied(spawn=spawn))
    assert world.status("j") == "start/running"
    world.exits("j")
    assert world.status("j") == "stop/waiting"


def test_more_time_to_stop_can_be_asked_for() -> None:
    world = World(j="exec x\n")
    world.running("j")
    world.tell(facts.ExtendDeadline(spawn=world.spawn_number("j"), seconds=60.0))
    assert world.engine.next_deadline() is None
    world.stop("j")
    world.tell(facts.ExtendDeadline(spawn=world.spawn_number("j"), seconds=60.0))
    world.elapse(5.0)
    assert world.kills() == [(15, "process-group")]
    world.elapse(55.0)
    assert world.kills()[-1] == (9, "process-group")


def test_a_readiness_deadline_ends_with_readiness() -> None:
    world = World(j="exec x\nexpect notify\nexpect timeout 3\n")
    world.start("j")
    world.runs("j")
    assert world.engine.next_deadline() == world.now + 3
    world.tell(facts.Ready(spawn=world.spawn_number("j")))
    assert world.engine.next_deadline() is None


def test_a_stop_forgets_the_delay_of_a_respawn_under_way() -> None:
    world = World(j="exec x\nrespawn\nrespawn delay 9 9\n", k="start on stopping j\ntask\nexec y\n")
    world.running("j")
    world.exits("j")
    assert world.status("j") == "start/stopping"
    world.stop("j")
    world.start("j")
    world.runs("k")
    world.exits("k")
    assert world.status("j") == "start/spawned"


def test_ends_are_said_and_louder_when_not_expected() -> None:
    world = World(j="exec x\nrespawn\nnormal exit 3\n")
    world.running("j")
    world.killed("j", signal=11)
    assert world.logged("j main process (1001) killed by SEGV signal")
    assert world.logged("j main process ended, respawning")
    world.runs("j")
    world.exits("j", status=3)
    levels = {each.message: each.level for each in world.effects if isinstance(each, effects.Log)}
    assert levels["j main process (1002) terminated with status 3"] == "info"
    assert levels["j main process (1001) killed by SEGV signal"] == "warning"
    world.running("j")
    world.exits("j")
    assert not world.logged("status 0")


def test_main_process_can_say_that_it_is_another() -> None:
    world = World(j="exec x\n")
    world.running("j")
    world.tell(facts.MainPid(spawn=world.spawn_number("j"), pid=77))
    world.stop("j")
    kill = [each for each in world.effects if isinstance(each, effects.Kill)][-1]
    assert kill.pid == 77


def test_goals_and_states_are_told() -> None:
    world = World(j="")
    world.start("j")
    world.stop("j")
    goals = [each.goal for each in world.effects if isinstance(each, effects.GoalChanged)]
    assert goals == [Goal.START, Goal.STOP]
    failures = World(j="exec x\n")
    failures.running("j")
    failures.exits("j", status=7)
    failed = [each for each in failures.effects if isinstance(each, effects.InstanceFailed)]
    assert [(each.step, each.status) for each in failed] == [(Step.MAIN, 7)]


def test_kill_mode_none_leaves_the_process_alone() -> None:
    world = World(j="exec x\nkill mode none\n")
    world.running("j")
    world.stop("j")
    assert (world.kills(), world.status("j")) == ([], "stop/waiting")


def test_reload_signals_the_main_process_only() -> None:
    world = World(j="exec x\nreload signal USR1\n")
    world.running("j")
    world.tell(facts.Reload(job="j", request="r"))
    assert world.kills() == [(10, "process")]
    assert world.replies() == {"r": True}
    world.stop("j")
    world.killed("j")
    with pytest.raises(UsageError, match="Unknown instance"):
        world.tell(facts.Reload(job="j"))


def test_a_process_that_is_told_of_twice_is_started_once() -> None:
    world = World(j="exec x\nexpect notify\nexpect timeout 5\nkill mode control-group\n")
    world.start("j")
    world.runs("j")
    deadline = world.engine.next_deadline()
    world.tell(facts.Emptied(spawn=1))
    world.now += 1.0
    world.tell(facts.Spawned(spawn=1, pid=9))
    assert world.engine.next_deadline() == deadline
    assert world.instance("j").group is None
    main = world.instance("j").main
    assert main is not None
    assert main.pid == world.pid


def test_facts_about_a_process_that_is_gone_are_ignored() -> None:
    world = World(j="exec x\nrespawn\n")
    world.running("j")
    old = world.spawn_number("j")
    world.exits("j")
    world.runs("j")
    world.tell(facts.Exited(spawn=old, status=1))
    world.tell(facts.Ready(spawn=old))
    world.tell(facts.Emptied(spawn=old))
    assert world.status("j") == "start/running"


def test_every_waiting_action_can_end() -> None:
    for state, row in TABLE.items():
        if row.action in (Action.AWAIT_END, Action.AWAIT_READY, Action.SPAWN, Action.KILL):
            assert row.step is not None, state
        if row.action in (Action.EMIT_AND_WAIT, Action.REST, Action.LEAVE):
            assert row.event is not None, state
