"""Order, requirement and stops of systemd units, on the engine."""

from __future__ import annotations

import msgspec
import pytest

from hostlab.jobs import facts
from hostlab.jobs.snapshot import capture, decode, encode, restore
from hostlab.spec.job import Step
from tests.unit.jobs.jobs_world import World
from tests.unit.spec.systemd.unit_site import linked

pytestmark = pytest.mark.unit


def world(**units: str) -> World:
    """An engine with units, `a_service` for `a.service`."""
    found = World()
    for job in linked(**units).values():
        found.tell(facts.Load(job=job))
    return found


def under_way(world: World) -> dict[str, str]:
    """State of every job that has an instance, without its suffix."""
    return {
        name.partition(".")[0]: str(instance.state)
        for name, found in world.engine.classes.items()
        for instance in found.instances.values()
    }


def gone(world: World, job: str, *, status: int | None = None) -> None:
    """A main process ends, by SIGTERM or with a status, and its cgroup is empty."""
    spawn = world.spawn_number(job)
    if status is None:
        world.killed(job)
    else:
        world.exits(job, status=status)
    world.tell(facts.Emptied(spawn=spawn))


def test_wants_start_together_and_the_target_is_reached_when_they_run() -> None:
    target = "Wants=a.service b.service\nAfter=a.service b.service"
    w = world(m_target=target, a_service="", b_service="")
    w.start("m.target", request="r")
    assert under_way(w) == {"m": "starting", "a": "spawned", "b": "spawned"}
    w.runs("a.service")
    assert under_way(w)["m"] == "starting"
    w.runs("b.service")
    assert under_way(w) == {"m": "running", "a": "running", "b": "running"}
    assert w.replies() == {"r": True}


def test_after_waits_for_what_starts_at_the_same_time() -> None:
    w = world(m_target="Wants=a.service b.service", a_service="After=b.service", b_service="")
    w.start("m.target")
    assert under_way(w) == {"m": "starting", "a": "starting", "b": "spawned"}
    w.runs("b.service")
    assert under_way(w)["a"] == "spawned"


def test_after_of_something_deep_in_the_pull_waits_too() -> None:
    w = world(
        m_target="Wants=a.service b.service", a_service="After=c.service",
        b_service="Wants=c.service\nAfter=c.service", c_service="",
    )  # fmt: skip
    w.start("m.target")
    assert under_way(w) == {"m": "starting", "a": "starting", "b": "starting", "c": "spawned"}
    w.runs("c.service")
    assert under_way(w) == {"m": "starting", "a": "spawned", "b": "spawned", "c": "running"}


def test_after_is_nothing_to_what_does_not_start() -> None:
    w = world(a_service="After=b.service", b_service="")
    w.start("a.service")
    assert under_way(w) == {"a": "spawned"}


def test_after_a_oneshot_is_after_its_end() -> None:
    w = world(
        m_target="Wants=a.service t.service", a_service="After=t.service",
        t_service="[Service]\nType=oneshot\nExecStart=/bin/t",
    )  # fmt: skip
    w.start("m.target")
    w.runs("t.service")
    assert under_way(w)["a"] == "starting"
    gone(w, "t.service", status=0)
    assert under_way(w) == {"m": "starting", "a": "spawned"}


def test_after_a_failure_it_goes_on_unless_it_requires_it() -> None:
    w = world(
        m_target="Wants=a.service r.service b.service", a_service="After=b.service",
        r_service="Requires=b.service\nAfter=b.service", b_service="",
    )  # fmt: skip
    w.start("m.target")
    w.tell(facts.SpawnFailed(spawn=w.spawn_number("b.service"), step="execve", errno=2))
    assert under_way(w) == {"m": "starting", "a": "spawned"}
    assert w.logged("r.service is not started: b.service, which it requires, has not started")
    last = w.engine.classes["r.service"].last
    assert last is not None
    assert (last.failed, last.failed_step) == (True, Step.PRE_START)


def test_a_requirement_that_nobody_knows_fails_the_start() -> None:
    w = world(a_service="Requires=b.service\nAfter=b.service")
    w.start("a.service", request="r")
    assert under_way(w) == {}
    assert w.replies() == {"r": False}
    assert w.logged("there is no job b.service")


def test_a_requirement_is_started_and_met_by_a_oneshot_that_ended_well() -> None:
    w = world(
        a_service="Requires=t.service\nAfter=t.service",
        t_service="[Service]\nType=oneshot\nExecStart=/bin/t",
    )
    w.start("a.service")
    w.runs("t.service")
    gone(w, "t.service", status=0)
    assert under_way(w) == {"a": "spawned"}


def test_a_stop_stops_what_requires_it_first_and_a_crash_does_not() -> None:
    w = world(a_service="Requires=b.service\nAfter=b.service", b_service="")
    w.start("a.service")
    w.runs("b.service")
    w.runs("a.service")
    w.stop("b.service")
    assert under_way(w) == {"a": "killed", "b": "stopping"}
    gone(w, "a.service")
    assert under_way(w)["b"] == "killed"

    w = world(a_service="Requires=b.service\nAfter=b.service", b_service="")
    w.start("a.service")
    w.runs("b.service")
    w.runs("a.service")
    w.exits("b.service", status=1)
    assert under_way(w)["a"] == "running"


def test_what_is_bound_to_it_goes_with_it() -> None:
    w = world(a_service="BindsTo=b.service\nAfter=b.service", b_service="")
    w.start("a.service")
    w.runs("b.service")
    w.runs("a.service")
    w.exits("b.service", status=1)
    assert under_way(w)["a"] == "killed"


def test_stops_at_the_same_time_go_the_other_way_round() -> None:
    w = world(
        m_target="Wants=a.service b.service", shutdown_target="",
        a_service="After=b.service\nConflicts=shutdown.target\nBefore=shutdown.target",
        b_service="Conflicts=shutdown.target\nBefore=shutdown.target",
    )  # fmt: skip
    w.start("m.target")
    w.runs("b.service")
    w.runs("a.service")
    w.start("shutdown.target")
    assert under_way(w) == {"m": "running", "shutdown": "starting", "a": "killed", "b": "stopping"}


def test_a_conflict_stops_the_other_before_it_starts() -> None:
    w = world(a_service="Conflicts=b.service", b_service="")
    w.start("b.service")
    w.runs("b.service")
    w.start("a.service")
    assert under_way(w) == {"a": "starting", "b": "killed"}


def test_a_start_waits_for_the_stop_of_what_is_after_it() -> None:
    w = world(a_service="After=b.service", b_service="")
    w.start("a.service")
    w.runs("a.service")
    w.stop("a.service")
    w.start("b.service")
    assert under_way(w) == {"a": "killed", "b": "starting"}


def test_on_failure_starts_when_it_has_failed_for_good() -> None:
    w = world(a_service="OnFailure=f.service", f_service="")
    w.start("a.service")
    w.runs("a.service")
    gone(w, "a.service", status=1)
    assert under_way(w) == {"f": "spawned"}


def test_two_that_are_each_after_the_other_do_not_hang() -> None:
    w = world(m_target="Wants=a.service b.service", a_service="", b_service="")
    for name, other in (("a.service", "b.service"), ("b.service", "a.service")):
        job = w.engine.classes[name].job
        w.tell(facts.Load(job=msgspec.structs.replace(job, after=(other,))))
    w.start("m.target")
    assert "spawned" in under_way(w).values()


def test_an_end_that_never_starts_it_again_is_a_failure() -> None:
    w = world(a_service="[Service]\nExecStart=/bin/a\nRestart=on-abort")
    w.start("a.service")
    w.runs("a.service")
    w.exits("a.service", status=3)
    assert w.instance("a.service").failed
    w = world(a_service="[Service]\nExecStart=/bin/a\nRestart=on-abort")
    w.start("a.service")
    w.runs("a.service")
    w.killed("a.service", signal=6)
    assert not w.instance("a.service").failed


def test_commands_know_the_main_process() -> None:
    w = world(a_service="[Service]\nExecStart=/bin/a\nExecStop=/bin/kill $MAINPID")
    w.start("a.service")
    w.runs("a.service")
    w.stop("a.service")
    spawn = w.spawns()[-1]
    assert spawn.step is Step.PRE_STOP
    assert dict(spawn.environment)["MAINPID"] == str(w.pid)


def test_what_waits_still_waits_after_the_supervisor_was_replaced() -> None:
    w = world(m_target="Wants=a.service b.service", a_service="After=b.service", b_service="")
    w.start("m.target")
    w.engine = restore(decode(encode(capture(w.engine))))
    assert under_way(w)["a"] == "starting"
    w.runs("b.service")
    assert under_way(w)["a"] == "spawned"


def test_a_reload_runs_its_commands_beside_the_main_process() -> None:
    w = world(a_service="[Service]\nExecStart=/bin/a\nExecReload=/bin/a --reload $MAINPID")
    w.start("a.service")
    w.runs("a.service")
    main = str(w.pid)
    for _ in range(2):
        w.tell(facts.Reload(job="a.service", request="r"))
    assert [each.step for each in w.spawns()] == [Step.MAIN, Step.RELOAD]
    assert dict(w.spawns()[-1].environment)["MAINPID"] == main
    assert w.replies() == {}
    w.does("a.service", Step.RELOAD)
    assert w.replies() == {"r": True}
    w.tell(facts.Reload(job="a.service", request="s"))
    w.engine = restore(decode(encode(capture(w.engine))))
    w.does("a.service", Step.RELOAD, status=1)
    assert w.replies() == {"r": True, "s": False}
    assert w.status("a.service") == "start/running"
    assert not w.instance("a.service").failed
    w.tell(facts.Reload(job="a.service", request="t"))
    w.tell(facts.SpawnFailed(spawn=w.spawn_number("a.service", Step.RELOAD), step="x", errno=2))
    assert w.status("a.service") == "start/running"
    assert not w.replies()["t"]
    w.tell(facts.Reload(job="a.service", request="u"))
    w.stop("a.service")
    gone(w, "a.service")
    assert not w.replies()["u"]


def test_a_unit_that_remains_without_a_process_reloads_too() -> None:
    """As postfix.service does, whose instances reload with it."""
    body = "Type=oneshot\nRemainAfterExit=yes\nExecStart=/bin/a\nExecReload=/bin/b"
    w = world(a_service=f"[Service]\n{body}")
    w.start("a.service")
    w.does("a.service", Step.PRE_START)
    assert w.status("a.service") == "start/running"
    w.tell(facts.Reload(job="a.service", request="r"))
    w.does("a.service", Step.RELOAD)
    assert w.replies() == {"r": True}


def test_a_condition_that_does_not_hold_skips_the_start_and_fails_nobody() -> None:
    w = world(
        a_service="Requires=b.service\nAfter=b.service",
        b_service="[Service]\nExecStart=/bin/b\nExecStopPost=/bin/c",
    )
    w.start("a.service", request="r")
    w.tell(facts.Skipped(spawn=w.spawn_number("b.service"), reason="no file"))
    assert [each.step for each in w.spawns()] == [Step.MAIN, Step.MAIN]
    assert under_way(w) == {"a": "spawned"}
    assert w.logged("b.service is skipped: no file")
    assert w.event("stopped")["RESULT"] == "skipped"
    w = world(b_service="[Service]\nExecStart=/bin/b\nExecStopPost=/bin/c")
    w.start("b.service")
    w.runs("b.service")
    gone(w, "b.service", status=0)
    assert w.spawns()[-1].step is Step.POST_STOP


def test_a_oneshot_that_runs_already_is_waited_for_too() -> None:
    w = world(
        a_service="After=t.service", t_service="[Service]\nType=oneshot\nExecStart=/bin/t"
    )  # fmt: skip
    w.start("t.service")
    w.runs("t.service")
    w.start("a.service")
    assert under_way(w) == {"t": "running", "a": "starting"}
    gone(w, "t.service", status=0)
    assert under_way(w) == {"a": "spawned"}


def test_a_requisite_is_not_started_and_must_run() -> None:
    w = world(a_service="Requisite=q.service", q_service="")
    w.start("a.service", request="r")
    assert under_way(w) == {}
    assert w.replies() == {"r": False}
    w.start("q.service")
    w.runs("q.service")
    w.start("a.service")
    assert under_way(w) == {"q": "running", "a": "spawned"}


def test_what_is_not_to_start_any_more_waits_for_nobodys_turn() -> None:
    """unbound's helper: ordered behind the unit that fails, and stopped with it."""
    w = world(
        m_target="Wants=u.service helper.service",
        u_service="[Service]\nExecStart=/bin/u\nRestart=on-failure\nRestartSec=1h",
        helper_service="After=u.service\nPartOf=u.service",
    )
    w.start("m.target", request="r")
    assert under_way(w) == {"m": "starting", "u": "spawned", "helper": "starting"}
    w.tell(facts.Stop(job="helper.service", request="s"))
    assert "helper" not in under_way(w)
    assert w.replies()["s"]


def test_a_unit_that_fails_and_one_ordered_behind_it_do_not_wait_for_each_other() -> None:
    w = world(
        m_target="Wants=u.service helper.service",
        u_service="[Service]\nExecStart=/bin/u\nType=notify\nRestart=on-failure\nRestartSec=1h",
        helper_service="After=u.service\nPartOf=u.service",
    )
    w.start("m.target", request="r")
    w.runs("u.service")
    gone(w, "u.service", status=1)
    assert under_way(w)["u"] == "post-stop"
    assert "helper" not in under_way(w)


def test_what_a_unit_says_of_others_counts_while_they_run() -> None:
    w = world(a_service="", b_service="")
    w.start("a.service")
    w.runs("a.service")
    both = linked(a_service="", b_service="Conflicts=a.service")
    for job in both.values():
        w.tell(facts.Load(job=job, related=True))
    assert w.engine.classes["a.service"].successor is None, "nothing of its own has changed"
    restored = restore(decode(encode(capture(w.engine))))
    assert restored.classes["a.service"].job == both["a.service"]
    w.start("b.service")
    assert under_way(w)["a"] == "killed"
    gone(w, "a.service")
    assert under_way(w) == {"b": "spawned"}


def test_what_a_unit_says_of_itself_waits_until_it_has_ended() -> None:
    w = world(a_service="", b_service="")
    w.start("a.service")
    w.runs("a.service")
    new = linked(
        a_service="[Unit]\nBefore=b.service\n[Service]\nExecStart=/bin/a\nNice=5", b_service=""
    )
    for job in new.values():
        w.tell(facts.Load(job=job, related=True))
    found = w.engine.classes["a.service"]
    assert found.job.nice is None
    assert found.successor == new["a.service"]
    assert w.engine.classes["b.service"].job.after == ("a.service",)


def test_how_a_unit_failed_is_forgotten_when_that_is_asked() -> None:
    w = world(a_service="Requires=no.service")
    w.start("a.service")
    last = w.engine.classes["a.service"].last
    assert last is not None
    assert last.failed
    w.tell(facts.Forget(name="a.service"))
    w.tell(facts.Forget(name="nobody"))
    assert w.engine.classes["a.service"].last is None
