"""Limits of tasks, and what is said where there can be none."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.netns.tasks.task_site import TaskSite, wait_until

pytestmark = pytest.mark.netns

EATER = "a = bytearray(200 << 20); print('ate')"


def test_limits_hold_and_are_below_the_task(tasks: TaskSite) -> None:
    if tasks.kind == "kept":
        for option in (("-m", "65536"), ("--cpus", "1"), ("--cpuset", "0"), ("--pids", "5")):
            assert (
                "controller for this namespace"
                in tasks("run", *option, "t", "true", status=3).stderr
            )
        assert not tasks.left()
        return
    tasks("run", "-m", str(64 << 20), "eater", "python3", "-c", EATER)
    wait_until(lambda: not tasks.is_running("eater"), "it was killed")
    assert (tasks.log / "task-eater.log").read_text() == ""
    tasks(
        "run", "--pids", "3", "forker", "sh", "-c", "for i in 1 2 3 4 5; do sleep 300 & done; wait"
    )
    wait_until(lambda: "fork" in (tasks.log / "task-forker.log").read_text(), "refused to fork")
    tasks("run", "--cpus", "0.5", "--cpuset", "0", "slow", "sleep", "300")
    (process,) = tasks.processes("slow")
    status = Path(f"/proc/{process['pid']}/status").read_text()
    assert re.search(r"^Cpus_allowed_list:\t0$", status, re.M)
    for task in ("forker", "slow"):
        tasks("stop", task)
    assert "cpuset cannot be 4095" in tasks("run", "--cpuset", "4095", "t", "true", status=2).stderr
    # What has ended by itself is cleared away by whoever runs a task next.
    tasks("run", "next", "true")
    wait_until(lambda: not tasks.is_running("next"), "it has ended")
    assert {path.rpartition("/")[2] for path in tasks.left()} == {"task-next"}


def test_a_log_elsewhere_and_an_inherited_place(tasks: TaskSite) -> None:
    tasks("run", "-l", "here.log", "t", "sh", "-c", "pwd; umask; cat; echo $NAME")
    log = tasks.directory / "here.log"
    wait_until(lambda: log.read_text().endswith("\n\n"), "all its lines")
    lines = log.read_text().splitlines()
    assert lines == [str(tasks.directory), f"{_umask():04o}", ""]


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current
