"""Jobs that a timer starts, in an init that runs; its supervisor may die between two beats."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.netns.init.job_site import wait_until
from tests.netns.init.standalone_site import Alone, standing

pytestmark = pytest.mark.netns

TASK = "task\nscript\necho $NAME at $AT\nend script\n"
JOBS = {
    "beat": f"start on timer EVERY=500ms\n{TASK}",
    "second": f'start on timer CALENDAR="*:*:*"\n{TASK}',
    "minute": f'start on timer CRON="* * * * *"\n{TASK}',
    "once": f"start on timer AFTER=1s\n{TASK}",
}


def lines(alone: Alone, job: str) -> list[str]:
    path = alone.logs / f"{job}.log"
    return path.read_text().splitlines() if path.exists() else []


def wait_lines(alone: Alone, job: str, count: int) -> list[str]:
    wait_until(lambda: len(lines(alone, job)) >= count, f"{count} runs of {job}")
    return lines(alone, job)


def test_timers_start_jobs(tmp_path: Path) -> None:
    with standing(tmp_path, JOBS) as alone:
        assert wait_lines(alone, "beat", 2)[0].startswith("EVERY=500ms at 20")
        assert wait_lines(alone, "second", 1)[0].startswith("CALENDAR=*:*:* at 20")
        (once,) = wait_lines(alone, "once", 1)
        assert once.startswith("AFTER=1s at ")
        assert lines(alone, "minute") in ([], lines(alone, "minute")[:1])
        # A job that comes later, and one that goes.
        alone.job("late", f"start on timer EVERY=300ms\n{TASK}")
        wait_lines(alone, "late", 1)
        for name in ("late", "beat", "second"):
            (alone.jobs / f"{name}.conf").unlink()
        wait_until(lambda: "late" not in [row["name"] for row in alone.table()], "a job to go")
        assert len(lines(alone, "once")) == 1
        assert "timer" not in alone.own_log


def test_a_supervisor_dies_between_two_beats(tmp_path: Path) -> None:
    with standing(tmp_path, {name: JOBS[name] for name in ("beat", "once")}) as alone:
        wait_lines(alone, "once", 1)
        for _ in range(3):
            before = len(lines(alone, "beat"))
            os.kill(alone.supervisor, signal.SIGKILL)
            wait_lines(alone, "beat", before + 2)
        assert len(lines(alone, "once")) == 1, "what has come is not repeated"
