"""lanĉo's quick tour, from the post that presented it, with `hostlab task` for `lanco`."""

from __future__ import annotations

import re

import pytest

from tests.netns.tasks.task_site import MESSAGE_TIME, TaskSite, wait_until

pytestmark = pytest.mark.netns

FORKS_AWAY = "while true; do (sleep 30 &)& sleep 1; done"


def test_the_quick_tour(tasks: TaskSite) -> None:
    # "Let's run some task"
    tasks("run", "first-task", "openssl", "speed", "aes")
    tasks("check", "first-task")
    name = re.escape(tasks.name)
    assert re.fullmatch(
        rf"{name}\n ├ first-task\n │  → +\d+ openssl speed aes\n ╯\n", tasks("ls").stdout
    )
    # "The output of the task is logged into a file"
    log = tasks.log / "task-first-task.log"
    wait_until(lambda: log.read_text().startswith("Doing aes-128-cbc for 3s"), "the log")
    # "You cannot run a task that already exists or kill a task that does not exist"
    again = tasks("run", "first-task", "openssl", "speed", "aes", status=1)
    said = rf"{MESSAGE_TIME} \[WARN/run\] task first-task is already running\n"
    assert re.fullmatch(said, again.stderr)
    other = tasks("stop", "second-task", status=1)
    said = rf"{MESSAGE_TIME} \[WARN/stop\] task second-task is not running\n"
    assert re.fullmatch(said, other.stderr)
    # "Track multiple processes even when they are forking away"
    tasks("run", "second-task", "sh", "-c", FORKS_AWAY)
    wait_until(lambda: len(tasks.processes("second-task")) >= 4, "two that were left behind")
    # By pid, which wraps; between fork and execve a process is called as its parent is.
    listed = re.compile(
        rf"""{name}
 ├ first-task
 │  → +\d+ openssl speed aes
 ├ second-task
( │  → +\d+ (sleep (1|30)|sh -c {re.escape(FORKS_AWAY)})\n){{3,}} ╯
"""
    )
    assert listed.fullmatch(tasks("ls").stdout)
    # "If the task is too long, we can kill it"
    for task in ("first-task", "second-task"):
        assert (tasks("stop", task).stdout, tasks("check", task, status=1).stdout) == ("", "")
    assert tasks("ls").stdout == f"{tasks.name}\n ╯\n"
    wait_until(lambda: not tasks.left(), "all of them cleared away")
    # The log of a run that is over is kept beside that of the next.
    tasks("run", "first-task", "echo", "anew")
    wait_until(lambda: log.read_text() == "anew\n", "the new log")
    assert (tasks.log / "task-first-task.log.1").read_text().startswith("Doing aes-128-cbc")
