"""What holds of tasks of every kind: one run at a time, whole ends, hooks once, no remains."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import select
import signal
import subprocess
from pathlib import Path

import pytest

from tests.netns.tasks.task_site import DEADLINE_S, MESSAGE_TIME, TaskSite, wait_until

pytestmark = pytest.mark.netns

AT_ONCE = ("--wait", "0,0,60")
"""No time for TERM: what KILL has to do is tested."""
BOMBS = {
    "many": "while :; do sleep 300 & done 2>/dev/null",
    "chain": "exec perl -e 'while (1) { exit if fork }'",
    "hydra": "exec perl -e '$SIG{CHLD} = q(IGNORE); while (1) { fork }'",
    "sessions": "while :; do setsid sleep 300 & wait; done",
    "deaf": "trap '' TERM; while :; do (sleep 300 &) & wait; done",
}
MOST = 40
"""Processes of a bomb, so that the machine is there for others; hydra has a new head for each."""


@pytest.mark.parametrize("bomb", BOMBS)
def test_what_forks_as_fast_as_it_can_is_stopped_whole(tasks: TaskSite, bomb: str) -> None:
    # What has ended counts until its parent has looked, so a chain would be held up by a limit.
    limit = ("--pids", str(MOST)) if tasks.kind != "kept" and bomb != "chain" else ()
    below = ("prlimit", f"--nproc={_threads_of(tasks.user) + MOST}") if tasks.kind == "kept" else ()
    tasks("run", *limit, "bomb", *below, "sh", "-c", BOMBS[bomb])
    if bomb in ("many", "hydra"):
        wait_until(lambda: len(tasks.processes("bomb")) > MOST / 2, "it has exploded")
    tasks("stop", *AT_ONCE, "bomb")
    assert not tasks.is_running("bomb")
    wait_until(lambda: not tasks.left(), "cleared away")
    assert not _with_text("sleep 300", tasks)


def _threads_of(user: int) -> int:
    """What RLIMIT_NPROC counts: all of that user, those too that nobody has reaped yet."""
    found = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{name}").st_uid == user:
                found += len(os.listdir(f"/proc/{name}/task"))
    return found


def _with_text(text: str, tasks: TaskSite) -> list[int]:
    """Processes of the task's user whose command has it."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            environment = Path(f"/proc/{name}/environ").read_bytes()
        except OSError:
            continue
        if text in words and str(tasks.directory).encode() in environment:
            found.append(int(name))
    return found


def test_of_two_at_once_one_wins(tasks: TaskSite) -> None:
    started = [tasks.start("run", "one", "sleep", "300") for _ in range(4)]
    results = [(one.communicate()[1], one.returncode) for one in started]
    assert sorted(status for _, status in results) == [0, 1, 1, 1]
    said = {text.partition("] ")[2] for text, status in results if status}
    assert said == {"task one is already running\n"}
    assert len(tasks.processes("one")) == 1


def test_a_hook_runs_once_when_the_whole_task_has_ended(tasks: TaskSite) -> None:
    hook = f'echo "$HOSTLAB_NAMESPACE $HOSTLAB_TASK" >> {tasks.directory}/told'
    told = tasks.directory / "told"
    tasks("run", "-c", hook, "hooked", "sh", "-c", "sleep 300 & exit 3")
    wait_until(lambda: len(tasks.processes("hooked")) == 1, "the first process has left another")
    assert not told.exists()
    tasks("stop", "hooked")
    wait_until(lambda: told.exists() and not tasks.left(), "the hook")
    assert told.read_text() == f"{tasks.name} hooked\n"
    tasks("release", "hooked", status=1)
    assert told.read_text() == f"{tasks.name} hooked\n"


def test_a_hook_may_start_its_task_again(tasks: TaskSite) -> None:
    again = " ".join(
        tasks.argv("run", "-l", f"{tasks.directory}/second", "phoenix", "sleep", "300")
    )
    tasks("run", "-c", again, "phoenix", "true")
    wait_until(
        lambda: [one["cmdline"] for one in tasks.processes("phoenix")] == ["sleep 300"],
        "it runs once more",
    )


@pytest.mark.parametrize("runs_hook", [True, False])
def test_a_keeper_that_was_killed_costs_neither_task_nor_hook(
    tasks: TaskSite, runs_hook: bool
) -> None:
    tasks("run", "-c", f"touch {tasks.directory}/told", "kept", "sh", "-c", "sleep 300 & sleep 300")
    wait_until(lambda: _asleep(tasks, "kept") == 2, "all that it starts")
    before = {one["pid"] for one in tasks.processes("kept")}
    keeper = tasks.record("kept")["keeper"]["pid"]
    _kill_and_wait(keeper)
    assert {one["pid"] for one in tasks.processes("kept")} == before
    tasks("run", "kept", "true", status=1)
    if runs_hook:
        tasks("stop", "kept")
    else:
        _kill_and_wait(*before)
        assert not (tasks.directory / "told").exists()
        tasks("release", "-n", "kept")
    assert (tasks.directory / "told").exists() is runs_hook
    assert not tasks.left()


def _asleep(tasks: TaskSite, task: str) -> int:
    """How many of its processes sleep; what was forked is not what it will execute at once."""
    return [one["cmdline"] for one in tasks.processes(task)].count("sleep 300")


def _kill_and_wait(*pids: int) -> None:
    """Kill them all; one may end because another has."""
    fds = [os.pidfd_open(pid) for pid in pids]
    try:
        for fd in fds:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        for fd in fds:
            assert select.select([fd], [], [], DEADLINE_S)[0]
    finally:
        for fd in fds:
            os.close(fd)


def test_a_run_that_is_killed_leaves_a_task_or_none(tasks: TaskSite) -> None:
    seed = int(os.environ.get("HOSTLAB_SEED", "7"))
    chance = random.Random(seed)
    for _ in range(12):
        run = tasks.start("run", "-c", "true", "victim", "sleep", "300")
        try:
            run.wait(timeout=chance.uniform(0.02, 0.16))
        except subprocess.TimeoutExpired:
            run.kill()
        run.communicate()
        wait_until(
            lambda: tasks("stop", *AT_ONCE, "victim", status=None).returncode in (0, 1), "stopped"
        )

    def runs_anew() -> bool:
        # What the last one had forked may just have started the task.
        if tasks("run", "victim", "sleep", "300", status=None).returncode == 0:
            return True
        tasks("stop", *AT_ONCE, "victim", status=None)
        return False

    wait_until(runs_anew, "a new one")
    assert len(tasks.processes("victim")) == 1, f"HOSTLAB_SEED={seed}"
    tasks("stop", "victim")
    assert not _with_text("sleep 300", tasks), f"HOSTLAB_SEED={seed}"


def test_in_the_foreground_the_status_is_the_commands(tasks: TaskSite) -> None:
    hook = "echo the hook"
    done = tasks(
        "run", "-f", "-c", hook, "fore", "sh", "-c", "(sleep 0.2; echo later) & exit 7", status=7
    )
    assert done.stdout == "later\nthe hook\n"
    assert not (tasks.log / "task-fore.log").exists()
    done = tasks("run", "-fL", "fore", "echo", "logged")
    assert (done.stdout, (tasks.log / "task-fore.log").read_text()) == ("", "logged\n")
    assert not tasks.left()


def test_in_the_foreground_signals_go_to_the_command(tasks: TaskSite) -> None:
    run = tasks.start(
        "run",
        "-f",
        "fore",
        "sh",
        "-c",
        "trap 'echo heard; exit 4' TERM; echo up; while :; do sleep 0.1; done",
    )
    assert run.stdout is not None
    assert run.stdout.readline() == "up\n"
    run.terminate()
    assert (run.communicate()[0], run.returncode) == ("heard\n", 4)


def test_what_cannot_be_run_leaves_nothing(tasks: TaskSite) -> None:
    for arguments, text in (
        (("nothing",), "unable to run nothing: No such file or directory"),
        (("/etc/passwd",), "unable to run /etc/passwd: Permission denied"),
    ):
        done = tasks("run", "-c", f"touch {tasks.directory}/told", "bad", *arguments, status=1)
        assert re.fullmatch(rf"{MESSAGE_TIME} \[WARN/run\] {text}\n", done.stderr)
    done = tasks("run", "-l", "/nowhere/log", "bad", "true", status=3)
    assert "unable to redirect output to /nowhere/log" in done.stderr
    assert not tasks.left()
    assert not (tasks.directory / "told").exists()


def test_a_name_that_is_none(tasks: TaskSite) -> None:
    for arguments in (("run", "a/b", "true"), ("stop", ".."), ("release", "--", "")):
        done = tasks(*arguments, status=2)
        assert "task should be an alphanumeric ASCII string" in done.stderr
    assert not tasks.left()


def test_a_namespace_goes_when_no_task_runs(tasks: TaskSite) -> None:
    maker = os.stat(tasks.directory / f"run-tasks/{tasks.name}").st_uid
    tasks("run", "last", "sleep", "300")
    done = tasks("release", user=maker, status=1)
    assert f"unable to delete namespace {tasks.name}: task last is running" in done.stderr
    tasks("stop", "last")
    tasks("release", user=maker)
    assert (tasks.log / "task-last.log").exists()
    for arguments in (("run", "last", "true"), ("ls",), ("release",), ("stop", "last")):
        done = tasks(*arguments, status=2)
        assert f"namespace {tasks.name} should be created with init command" in done.stderr


def test_json_and_dump(tasks: TaskSite) -> None:
    tasks("run", "one", "sh", "-c", "sleep 300 & sleep 300")
    wait_until(lambda: _asleep(tasks, "one") == 2, "its processes")
    (task,) = json.loads(tasks("ls", "--json").stdout)
    assert (task["name"], len(task["processes"])) == ("one", 3)
    main = next(p for p in task["processes"] if p["cmdline"].startswith("sh"))
    assert [p["parent"] for p in task["processes"] if p is not main] == [main["pid"]] * 2
    assert json.loads(tasks("check", "--json", "one").stdout) == {"task": "one", "running": True}
    found = json.loads(tasks("dump").stdout)
    assert set(found) - {"cpu"} == {"namespace", "count", "tasks", "nbcpus", "timestamp"}
    assert (found["namespace"], found["count"]) == (tasks.name, 1)
    assert set(found["tasks"]["one"]) - {"cpu"} == {"count", "processes", "memory"}
    assert found["tasks"]["one"]["processes"][0].keys() == {"pid", "cmdline"}


def test_what_is_stopped_hears_that_it_should_end(tasks: TaskSite) -> None:
    tasks(
        "run",
        "still",
        "sh",
        "-c",
        "trap 'echo bye; exit' TERM; echo up; while :; do sleep 0.1; done",
    )
    log = tasks.log / "task-still.log"
    wait_until(lambda: log.read_text() == "up\n", "it is up")
    main = min(one["pid"] for one in tasks.processes("still"))
    os.kill(main, signal.SIGSTOP)
    tasks("stop", "still")
    # A shell may tell that its child was ended, too.
    assert log.read_text().splitlines()[-1] == "bye"
