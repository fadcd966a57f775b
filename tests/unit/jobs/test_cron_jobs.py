"""Lines of cron as jobs."""

from __future__ import annotations

import subprocess

import pytest

from hostlab.errors import SpecError
from hostlab.jobs import crontab, named_event, timer_operand
from hostlab.jobs.cron import Cron
from hostlab.jobs.cron_jobs import job_of
from hostlab.spec.job import Job, Match

pytestmark = pytest.mark.unit


def jobs(text: str, *, has_users: bool = True) -> list[Job]:
    return [job_of(line, "cron.d/a") for line in crontab.parse(text, "a", has_users=has_users)]


def run(job: Job) -> str:
    assert job.script is not None
    done = subprocess.run(
        ["/bin/sh", "-e", "-c", job.script],
        env=dict(job.environment), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=True, timeout=100,
    )  # fmt: skip
    return done.stdout


def test_a_line_of_the_system() -> None:
    (job,) = jobs("\nCRON_TZ=Asia/Tokyo\n17 *\t* * *\tnews\tcd / && run-parts x\n")
    assert (job.name, job.user, job.task, job.instance) == ("cron.d/a.3", "news", True, "$AT")
    assert job.start_on is not None
    (match,) = job.start_on.matches
    assert match == Match("timer", ("CRON=17 * * * *", "ZONE=Asia/Tokyo"))
    timer = timer_operand.parse(named_event.arguments(match))
    assert timer.schedule == Cron("17 * * * *", "Asia/Tokyo")


def test_at_the_start_of_the_machine() -> None:
    (job,) = jobs("@reboot x\n", has_users=False)
    assert job.start_on is not None
    assert job.start_on.matches == (Match("startup"),)
    assert (job.user, job.instance) == ("root", "")


def test_it_runs_as_cron_runs_it() -> None:
    with_input, plain, moved = jobs(
        'A = "it\'s"\n'
        "* * * * * root cat; echo $A $LOGNAME $SHELL%one%%two\n"
        "@daily root pwd; echo \"$HOME\" '\\%'\n"
        "HOME=/usr\n"
        "@daily root pwd\n"
    )
    assert run(with_input) == "one\n\ntwo\nit's root /bin/sh\n"
    assert run(plain) == "/root\n/root %\n"
    assert run(moved) == "/usr\n"


def test_a_user_that_is_none() -> None:
    with pytest.raises(SpecError, match="is no user's name"):
        jobs("* * * * * /usr/bin/x y\n")
