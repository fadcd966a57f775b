"""Which init the job commands mean where nobody names one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.init.client import LocalInit
from tests.netns.cli.cli_site import Hostlab
from tests.netns.lab.lab_site import wait_until

pytestmark = pytest.mark.netns


@pytest.fixture
def hostlab(tmp_path: Path) -> Iterator[Hostlab]:
    """A base directory of its own, in which an init without a lab runs, and no lab is up."""
    made = Hostlab(tmp_path / "run")
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    (jobs / "web.conf").write_text("start on startup\nexec sleep 1000\n")
    (jobs / "day.conf").write_text("instance $DAY\ntask\nexec echo today is $DAY\n")
    (jobs / "day-off.conf").write_text("task\nexec echo none\n")
    (jobs / "door.conf").write_text("instance $SIDE\nexec sleep 1000\n")
    with made.start("init", "--confdir", str(jobs), "--logdir", str(tmp_path / "log")) as init:
        alone = LocalInit(str(tmp_path / "run" / ".init"))
        wait_until(alone.is_there, "an init that answers")
        yield made
        init.terminate()


def test_an_init_that_stands_alone_needs_no_name(hostlab: Hostlab) -> None:
    assert "init  web" in hostlab("job", "list").stdout
    assert hostlab("job", "stop", "web").stdout.splitlines()[1].split()[:3] == [
        "init",
        "web",
        "stopped",
    ]


def test_a_job_that_nobody_has(hostlab: Hostlab) -> None:
    done = hostlab("job", "status", "wbe", status=2)
    assert done.stderr.splitlines() == [
        "hostlab: no node has a job 'wbe'",
        "  hint: `hostlab job list` shows which there are",
    ]


def test_a_word_that_is_no_variable(hostlab: Hostlab) -> None:
    done = hostlab("job", "start", "web", "db", status=2)
    assert "'db' is not KEY=VALUE\n  hint: one job or event at a time" in done.stderr


def test_instances_are_told_apart(hostlab: Hostlab) -> None:
    for side in ("left", "right"):
        hostlab("job", "start", "door", f"SIDE={side}")
    rows = hostlab("job", "list").stdout.splitlines()
    assert [row.split()[1:4] for row in rows if " door " in row] == [
        ["door", "(left)", "running"],
        ["door", "(right)", "running"],
    ]


def test_variables_name_the_instance_whose_status_is_asked(hostlab: Hostlab) -> None:
    hostlab("job", "start", "door", "SIDE=left")
    hostlab("job", "start", "door", "SIDE=right")
    named = hostlab("job", "status", "door", "SIDE=left").stdout
    assert named.startswith("door (left) start/running, process ")
    assert len(named.splitlines()) == 1
    assert hostlab("job", "status", "door", "SIDE=none").stdout == "door stop/waiting\n"
    assert len(hostlab("job", "status", "door").stdout.splitlines()) == 2


def test_the_log_of_an_instance(hostlab: Hostlab) -> None:
    for words in (("day", "DAY=one"), ("day", "DAY=two"), ("day-off",)):
        hostlab("job", "start", *words)
    assert hostlab("job", "log", "day", "--instance", "two").stdout == "today is two\n"
    assert hostlab("job", "log", "day-off").stdout == "none\n"
    assert hostlab("job", "log", "web").stdout == ""
    for chosen in ("", "three"):
        done = hostlab("job", "log", "day", "--instance", chosen, status=2)
        assert done.stderr.splitlines() == [
            "hostlab: day has a log for each instance: one, two",
            "  hint: name one: --instance one",
        ]


def test_the_log_of_a_job_that_an_init_has_not(hostlab: Hostlab) -> None:
    assert "no job 'wbe' on init" in hostlab("job", "log", "wbe", "--init", status=2).stderr
