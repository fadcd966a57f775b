"""Dependencies as conditions on events."""

from __future__ import annotations

import pytest

from hostlab.spec.condition import print_condition
from hostlab.spec.job import Job
from hostlab.spec.systemd.dependencies import Dependencies
from hostlab.spec.systemd.linking import link, propagated
from hostlab.spec.systemd.loading import load_units
from hostlab.spec.systemd.unit import read_unit
from tests.unit.spec.systemd.unit_site import linked, loaded

pytestmark = pytest.mark.unit


def plain(condition: str) -> str:
    """Without the parentheses, of which `or` alone needs none."""
    return condition.replace("(", "").replace(")", "")


def start_on(job: Job) -> str:
    return plain(print_condition(job.start_on)) if job.start_on else ""


def stop_on(job: Job) -> str:
    return plain(print_condition(job.stop_on)) if job.stop_on else ""


def test_what_is_wanted_starts_with_it_or_after_it() -> None:
    jobs = linked(
        a_service="Wants=b.service c.service d.service\nAfter=b.service",
        b_service="",
        c_service="After=a.service",
        d_service="",
    )
    assert start_on(jobs["b.service"]) == "starting a.service"
    assert start_on(jobs["c.service"]) == "started a.service"
    assert start_on(jobs["d.service"]) == "starting a.service"
    assert jobs["a.service"].start_on is None
    assert jobs["a.service"].after == ("b.service",)
    assert jobs["c.service"].after == ("a.service",)


def test_everything_of_a_pull_starts_with_its_root() -> None:
    jobs = linked(
        m_target="Wants=a.service", a_service="Requires=b.service", b_service="After=c.service",
        c_service="",
    )  # fmt: skip
    assert start_on(jobs["b.service"]) == "starting m.target or starting a.service"
    assert jobs["c.service"].start_on is None


def test_what_comes_after_a_task_waits_for_its_end() -> None:
    task = "Wants=b.service\n[Service]\nType=oneshot\nExecStart=/bin/true"
    jobs = linked(a_service=task, b_service="After=a.service")
    assert start_on(jobs["b.service"]) == "stopped a.service"


def test_stops() -> None:
    jobs = linked(
        a_service="Requires=r.service\nBindsTo=b.service\nPartOf=p.service\nConflicts=c.service",
        b_service="PropagatesStopTo=r.service", r_service="", p_service="", c_service="",
    )  # fmt: skip
    assert set(stop_on(jobs["a.service"]).split(" or ")) == {
        "stopping b.service",
        "stopping r.service RESULT=ok",
        "stopping p.service RESULT=ok",
        "starting c.service",
    }
    assert stop_on(jobs["c.service"]) == "starting a.service"
    assert stop_on(jobs["r.service"]) == "stopping b.service RESULT=ok"


def test_that_a_required_task_is_over_stops_nothing() -> None:
    jobs = linked(
        a_service="Requires=t.service", t_service="[Service]\nType=oneshot\nExecStart=/bin/true"
    )
    assert jobs["a.service"].stop_on is None


def test_on_failure() -> None:
    jobs = linked(a_service="OnFailure=f.service\nOnSuccess=s.service", f_service="", s_service="")
    assert start_on(jobs["f.service"]) == "stopped a.service RESULT=failed"
    assert start_on(jobs["s.service"]) == "stopped a.service RESULT=ok"


def test_only_an_ordered_requirement_must_have_started() -> None:
    jobs = linked(
        a_service="Requires=b.service c.service missing.service\nRequisite=q.service\n"
        "After=b.service", b_service="", c_service="", q_service="",
    )  # fmt: skip
    assert jobs["a.service"].requires == ("b.service", "missing.service", "q.service")


def test_a_target_is_behind_what_it_wants_unless_that_says_otherwise() -> None:
    texts = {
        "m.target": "[Unit]\nWants=a.service b.service c.service\n",
        "a.service": "[Service]\nExecStart=/a\n",
        "b.service": "[Unit]\nAfter=m.target\n[Service]\nExecStart=/b\n",
        "c.service": "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/c\n",
    }
    found = load_units(read_unit(name, [(text, name)]) for name, text in texts.items())
    jobs = {job.name: job for job in found.jobs}
    assert jobs["m.target"].after == ("a.service",)
    assert found.cycles == ()
    assert start_on(jobs["b.service"]) == "started m.target"


def test_default_dependencies() -> None:
    found = loaded("[Service]\nExecStart=/a\n").dependencies
    assert found.default_after == ("sysinit.target", "basic.target")
    assert (found.conflicts, found.before) == (("shutdown.target",), ("shutdown.target",))
    timer = loaded("[Timer]\nOnCalendar=daily\n", "x.timer").dependencies
    assert timer.before == ("x.service", "shutdown.target", "timers.target")
    assert "time-sync.target" in timer.default_after
    none = loaded("[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/a\n").dependencies
    assert none == Dependencies()


def test_names_are_escaped_where_they_are_globs() -> None:
    job, other = Job(name="a\\x2db.service"), Job(name="c.service")
    linked_jobs = link([(job, Dependencies(wants=("c.service",))), (other, Dependencies())]).jobs
    assert linked_jobs[1].start_on is not None
    assert linked_jobs[1].start_on.matches[0].arguments == ("a\\\\x2db.service",)


def test_mounts_and_devices_are_no_dependencies_here() -> None:
    text = "[Unit]\nAfter=a.mount b.service\nRequires=dev-x.device\n[Service]\nExecStart=/a\n"
    found = loaded(text)
    assert (found.dependencies.after, found.dependencies.requires) == (("b.service",), ())
    assert found.warnings == ()


def test_what_a_restart_and_a_reload_are_passed_on_to() -> None:
    units = {
        "a": Dependencies(propagates_reload_to=("d",)),
        "b": Dependencies(requires=("a",)),
        "c": Dependencies(part_of=("b",)),
        "d": Dependencies(wants=("a",)),
        "e": Dependencies(reload_propagated_from=("d",)),
    }
    assert propagated("restart", "a", units) == ("b", "c")
    assert propagated("reload", "a", units) == ("d", "e")
