"""`top` in a terminal of its own."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time

import pytest

from tests.netns.tasks.task_site import DEADLINE_S, TaskSite

pytestmark = pytest.mark.netns


def _read_until(fd: int, text: str) -> str:
    deadline = time.monotonic() + DEADLINE_S
    found = b""
    while text.encode() not in found:
        left = deadline - time.monotonic()
        assert left > 0, f"no {text!r} in {found.decode()!r}"
        if select.select([fd], [], [], left)[0]:
            found += os.read(fd, 65536)
    return found.decode()


def test_top_is_live_until_q(tasks: TaskSite) -> None:
    tasks("run", "busy", "sh", "-c", "while :; do :; done")
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            tasks.argv("top", "-d", "0.3"),
            env={**tasks.environment, "TERM": "xterm"},
            user=tasks.user,
            extra_groups=[],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        try:
            shown = _read_until(ours, "||")
            assert f"Namespace: {tasks.name}   Tasks: 1" in shown
            assert "busy                         1 " in shown
            os.write(ours, b"q")
            assert process.wait(timeout=DEADLINE_S) == 0
            assert _read_until(ours, "\x1b[?1049l")
        finally:
            process.kill()
            process.wait()
    finally:
        os.close(ours)
        os.close(theirs)
    tasks("stop", "busy")


def test_top_wants_a_terminal(tasks: TaskSite) -> None:
    assert "top needs a terminal" in tasks("top", status=2).stderr
