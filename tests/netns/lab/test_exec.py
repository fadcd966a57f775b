"""Commands in a node: status, streams, terminal, many at once."""

from __future__ import annotations

import contextlib
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hostlab.errors import Problem
from hostlab.sync import Lab, Node
from tests.netns.lab.lab_site import Site, wait_until

pytestmark = pytest.mark.netns


@pytest.fixture(name="node")
def _node(place: Site) -> Node:
    lab: Lab = place.up("nodes: {one: {users: [alice], jobs: {idle: sleep 1000}}}")
    return lab["one"]


def test_status_streams_environment_and_directory(node: Node) -> None:
    done = node.execute(["sh", "-c", "cat; echo error >&2; exit 3"], stdin=b"typed")
    assert (done.status, done.stdout, done.stderr) == (3, b"typed", b"error\n")
    done = node.shell("echo $A; pwd", environment={"A": "b c"}, directory="/usr")
    assert done.stdout == b"b c\n/usr\n"
    assert node.execute(["sh", "-c", "kill -TERM $$"]).signal == signal.SIGTERM
    big = node.execute(["head", "-c", "10000000", "/dev/zero"])
    assert len(big.stdout) == 10_000_000


@pytest.mark.parametrize(
    ("argv", "options", "step"),
    [
        (["no-such-program"], {}, "exec"),
        (["true"], {"user": "nobody-knows"}, "user"),
        (["true"], {"directory": "/no/such"}, "directory"),
        (["tr\0ue"], {}, "exec"),
        ([], {}, "nothing to run"),
    ],
)
def test_the_step_that_failed_is_named(
    node: Node, argv: list[str], options: dict[str, Any], step: str
) -> None:
    with pytest.raises(Problem, match=step):
        node.execute(argv, timeout_s=60, **options)
    assert node.execute(["true"]).status == 0


def test_what_comes_in_pieces_is_whole(node: Node) -> None:
    """A slow writer is looked at now and then, a fast one at once, and each at its end."""
    lines = "i=0; while [ $i -lt 300 ]; do echo $i; echo e$i >&2; i=$((i+1)); done"
    fast = "head -c 3000000 /dev/zero"
    said = "".join(f"{n}\n" for n in range(300)).encode()
    assert node.shell(lines).stdout == said
    done = node.shell(f"{lines}; {fast}; {lines}; (sleep 1000 &) ; exit 4")
    assert (done.status, done.stdout) == (4, said + bytes(3_000_000) + said)
    assert done.stderr == 2 * "".join(f"e{n}\n" for n in range(300)).encode()
    with pytest.raises(TimeoutError, match="more than 1000 bytes"):
        node.execute(["sh", "-c", "while :; do echo more; done"], output_limit_bytes=1000)


def test_what_is_read_at_its_end_is_whole(node: Node) -> None:
    script = "cat; head -c 3000000 /dev/zero; echo error >&2; (sleep 1000 &) ; exit 3"
    done = node.execute_unheard(["sh", "-c", script], stdin=b"typed")
    assert (done.status, done.stderr) == (3, b"error\n")
    assert done.stdout == b"typed" + bytes(3_000_000)
    with pytest.raises(TimeoutError, match="not ended in time"):
        node.execute_unheard(["sleep", "1000"], timeout_s=0.01)


def test_many_at_once_get_their_own_output(node: Node) -> None:
    with ThreadPoolExecutor(20) as pool:
        done = list(pool.map(lambda n: node.shell(f"echo {n}; exit {n}"), range(60)))
    assert [(d.status, d.stdout) for d in done] == [(n, b"%d\n" % n) for n in range(60)]


def test_a_client_that_goes_away_hangs_up(node: Node) -> None:
    null = os.open("/dev/null", os.O_RDWR)
    with node.control() as control:
        script = "trap 'touch /tmp/hung-up; exit' HUP; touch /tmp/ready; while :; do sleep 1; done"
        control.send("exec", (null, null, null), argv=["sh", "-c", script])
        wait_until(lambda: not node.shell("test -e /tmp/ready").status, "the command runs")
    os.close(null)
    wait_until(lambda: not node.shell("test -e /tmp/hung-up").status, "SIGHUP arrives")


def test_a_terminal_has_its_size(node: Node) -> None:
    with node.control() as control:
        number = control.send(
            "exec", argv=["sh", "-c", "stty size; tty"], tty={"rows": 33, "columns": 101}
        )
        control.receive()
        (master,) = control.take(1)
        assert control.receive()["id"] == number
    shown = b""
    with contextlib.suppress(OSError):  # EIO: nobody has the other side any more.
        while data := os.read(master, 1000):
            shown += data
    os.close(master)
    assert shown.split(b"\r\n")[:2] == [b"33 101", b"/dev/pts/0"]


def test_a_job_s_end_is_remembered_when_the_supervisor_is_killed(place: Site) -> None:
    lab = place.up("nodes: {one: {jobs: {once: sh -c 'echo ran; exit 7', idle: sleep 1000}}}")
    node = lab["one"]
    wait_until(lambda: node.job_table()[0]["status"] == 7, "the job ends")
    wait_until(lambda: bool(node.job_table()[1]["pid"]), "the other one runs")
    idle = node.job_table()[1]["pid"]
    for _ in range(3):
        with node.control() as control:
            inner = control.call("ping")["pid"]
        kill(node, inner)
        once, still = node.job_table()
        assert (once["state"], once["status"], still["pid"]) == ("failed", 7, idle)
    wait_until(lambda: node.log_tail("once") == ("ran",), "its log")


def kill(node: Node, inner: int) -> None:
    """Kill the holder's child of this number in the node."""
    children = Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text().split()
    for pid in children:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # Another has ended.
            if f"NSpid:\t{pid}\t{inner}\n" in Path(f"/proc/{pid}/status").read_text():
                os.kill(int(pid), signal.SIGKILL)
                return
    raise AssertionError(f"no child {inner}")
