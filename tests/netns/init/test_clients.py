"""Clients that mean harm or are broken: each gets an error or is cut off, the others are served."""

from __future__ import annotations

import json
import os
import resource
import select
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from hostlab.errors import Failed, Problem, UsageError
from hostlab.init import job_supervisor
from hostlab.init.protocol import CONTROL, connect
from hostlab.init.supervisor import MAX_CONNECTIONS, MAX_REQUESTS
from tests.netns.init.job_site import wait_until
from tests.netns.init.standalone_site import Alone, standing

pytestmark = pytest.mark.netns

NOBODY = 65534
DEADLINE_S = 20
JOBS = {
    "web": "start on startup\nexec sleep 1000",
    "gate": "start on one and two\nexec sleep 1000",
    "one": "task\ninstance $N\nexec true",
}


@contextmanager
def init(root: Path, jobs: dict[str, str] | None = None) -> Iterator[Alone]:
    """An init that lives on with the same supervisor, and still answers."""
    with standing(root, {**JOBS, **(jobs or {})}) as alone:
        supervisor, web = alone.supervisor, alone.pid("web")
        yield alone
        assert alone.pid("web") == web
        assert alone.supervisor == supervisor
        assert "defect" not in alone.own_log
        assert "Traceback" not in alone.said


def reach(alone: Alone) -> socket.socket:
    sock = connect(str(alone.run), CONTROL)
    sock.settimeout(DEADLINE_S)
    return sock


def answers(sock: socket.socket, count: int = 1) -> list[dict[str, Any]]:
    """The next answers; fewer when the other side hangs up."""
    data = b""
    while data.count(b"\n") < count:
        try:
            more = sock.recv(1 << 16)
        except ConnectionError:
            break
        if not more:
            break
        data += more
    return [json.loads(line) for line in data.splitlines()]


def ask(alone: Alone, data: bytes) -> list[dict[str, Any]]:
    """Send it whole, and read the first answer."""
    with reach(alone) as sock:
        sock.sendall(data)
        return answers(sock)


@pytest.mark.parametrize(
    "data",
    [
        b"\0\1\2\xff\n",
        b"hello\n",
        b"[]\n",
        b"{\n",
        b'{"op": "jobs"\n',
        b"\n",
        b"[" * 100_000 + b"\n",
        b'{"a":' * 100_000 + b"\n",
        b'"' + b"\xed\xa0\x80" + b'"\n',
    ],
)
def test_garbage_is_cut_off(tmp_path: Path, data: bytes) -> None:
    with init(tmp_path) as alone, reach(alone) as sock:
        sock.sendall(data)
        (answer,) = answers(sock, 2)
        assert answer["error"]["code"] == "protocol"
        assert sock.recv(1) == b""


def requests() -> list[dict[str, Any]]:
    """Commands with wrong names, types and values."""
    wrong: list[object] = [None, 5, -1, 1.5, True, [], {}, [["a"]], {"a": 1}, [[1, 2]], "x" * 1000]
    names = ["", "/", "..", "../../etc/passwd", "a/../b", "\0", "x" * 100_000, "naïve\n", "%s", "-"]
    times: list[object] = [-1, "1", [], 1e300, True]
    found: list[dict[str, Any]] = [{}, {"op": None}, {"op": ["jobs"]}, {"op": {}}, {"op": "no"}]
    found += [{"op": op} for op in ("job", "emit", "set-variable", "exec", "signal")]
    found += [{"op": "job", "name": each, "action": "start"} for each in [*wrong, *names]]
    found += [{"op": "job", "name": "web", "action": each} for each in [*wrong, "", "kill"]]
    for key in ("environment", "instance"):
        found += [
            {"op": "job", "name": "one", "action": "start", key: each, "wait": False}
            for each in [*wrong[1:], *names]
        ]
    found += [{"op": "emit", "name": each} for each in wrong]
    found += [{"op": "emit", "name": "e", "environment": each} for each in wrong[1:]]
    found += [{"op": "emit", "name": "e", "timeout_s": each} for each in times]
    found += [{"op": "set-variable", "name": "A", "value": each} for each in wrong[1:-1]]
    found += [{"op": "set-variable", "name": each, "value": "v"} for each in wrong[:-1]]
    found += [{"op": "settled", "within_s": each} for each in times]
    found += [{"op": "exec", "argv": each} for each in (*wrong, [], ["true"])]
    found += [{"op": "exec", "argv": ["true"], "tty": each} for each in (1, {}, {"rows": "x"})]
    found += [{"op": "signal", "pid": each, "signal": 9} for each in (1, -1, 0, "1", None)]
    found += [{"op": "signal", "pid": os.getpid(), "signal": each} for each in (9, 10**9, "x")]
    return found


def test_wrong_requests_are_answered(tmp_path: Path) -> None:
    """On one connection, and on ever new ones; and what was taken is read again after a kill."""
    with init(tmp_path) as alone:
        with reach(alone) as sock:
            for number, request in enumerate(requests()):
                sock.sendall(json.dumps({"id": number, **request}).encode() + b"\n")
                (answer,) = answers(sock)
                assert answer["id"] == number, (request, answer)
                assert "error" in answer or "ok" in answer, (request, answer)
                if "error" in answer:
                    assert answer["error"]["code"] != "defect", (request, answer)
        for request in requests()[::7]:
            assert ask(alone, json.dumps(request).encode() + b"\n")
        alone.client.reexec()
        assert "is lost" not in alone.own_log


def test_half_a_line_and_silence(tmp_path: Path) -> None:
    with init(tmp_path) as alone, reach(alone) as half, reach(alone) as silent:
        half.sendall(b'{"op": "jo')
        assert alone.client.job_table()
        half.sendall(b'bs", "id": 1}\n')
        assert len(answers(half)[0]["ok"]) == len(JOBS)
        silent.shutdown(socket.SHUT_WR)
        assert silent.recv(1) == b""


def test_gigabyte(tmp_path: Path) -> None:
    """Without a newline: it is cut off at the bound, and its memory is bounded."""
    with init(tmp_path) as alone:
        piece = b"x" * (1 << 20)
        sent = 0
        with reach(alone) as sock:
            try:
                while sent < 1 << 30:
                    sock.sendall(piece)
                    sent += len(piece)
            except ConnectionError:
                pass
        assert sent < 4 * job_supervisor.MAX_LINE_BYTES
        assert memory(alone.supervisor) < 200 << 20


def memory(pid: int) -> int:
    """The most that a process ever had resident, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no VmHWM")


def test_gigabyte_of_commands(tmp_path: Path) -> None:
    """Whose answers are never read."""
    with init(tmp_path) as alone:
        line = json.dumps({"op": "jobs", "id": 1}).encode() + b"\n"
        sent = 0
        with reach(alone) as sock:
            try:
                while sent < 1 << 30:
                    sock.sendall(line * 1000)
                    sent += 1000 * len(line)
            except (ConnectionError, TimeoutError):
                pass
        assert sent < 1 << 28
        assert memory(alone.supervisor) < 200 << 20


def test_commands_that_wait_are_bounded(tmp_path: Path) -> None:
    with init(tmp_path) as alone, reach(alone) as sock:
        line = json.dumps({"op": "emit", "name": "one", "id": 1}).encode() + b"\n"
        sock.sendall(line * (MAX_REQUESTS + 100))
        found = answers(sock, MAX_REQUESTS + 101)
        assert found[-1]["error"]["code"] == "too-many"
        alone.client.emit("two")


def test_monitor_that_is_not_read(tmp_path: Path) -> None:
    """It is cut off, and what it did not read is let go."""
    with init(tmp_path) as alone, reach(alone) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(b'{"op": "monitor", "id": 1}\n')
        poll = select.poll()
        poll.register(sock, select.POLLRDHUP)
        with alone.client.control() as control:
            for _ in range(2000):
                control.call("emit", name="big", environment=[("A", "x" * 20_000)])
                if poll.poll(0):
                    break
        assert poll.poll(0), "it is connected still"
        assert memory(alone.supervisor) < 200 << 20


def test_two_hundred_at_once(tmp_path: Path) -> None:
    with init(tmp_path) as alone, ExitStack() as stack:
        every = [stack.enter_context(reach(alone)) for _ in range(200)]
        for number, sock in enumerate(every):
            environment = [["N", str(number)]]
            request = {"op": "job", "name": "one", "action": "start", "environment": environment}
            sock.sendall(json.dumps({"id": number, **request}).encode() + b"\n")
        for number, sock in enumerate(every):
            (answer,) = answers(sock)
            assert answer["id"] == number
            assert "ok" in answer, answer


def test_more_clients_than_there_is_room_for(tmp_path: Path) -> None:
    """And with fewer descriptors than clients: it neither dies nor turns round and round."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4 * MAX_CONNECTIONS), hard))
    try:
        with init(tmp_path) as alone, ExitStack() as stack:
            every = [stack.enter_context(reach(alone)) for _ in range(MAX_CONNECTIONS)]
            every[-1].sendall(b'{"op": "ping", "id": 1}\n')
            assert "ok" in answers(every[-1])[0]
            more = stack.enter_context(reach(alone))
            assert answers(more)[0]["error"]["code"] == "too-many"
            assert answers(more) == []
            for sock in every[:10]:
                sock.close()
            wait_until(lambda: is_served(alone), "room for another client")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def is_served(alone: Alone) -> bool:
    try:
        return "ok" in ask(alone, b'{"op": "ping"}\n')[0]
    except ConnectionError:
        return False  # It was sent away before it had asked.


ATTEMPT = """
import os, socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.connect(sys.argv[1])
os.write(1, b"c")
sock.sendall(b'{"op": "job", "name": "web", "action": "stop"}\\n')
os.write(1, b"s" + sock.recv(100))
"""


def test_other_users(open_path: Path) -> None:
    """Refused by credentials, were the directories ever so open; and written down."""
    with init(open_path) as alone:
        path = alone.run / CONTROL
        above = [place for place in path.parents if place.is_relative_to(open_path)]
        modes = {place: place.stat().st_mode for place in (path, *above)}
        try:
            for place in modes:
                place.chmod(0o777 if place == path else 0o755)
            done = subprocess.run(
                [python(), "-c", ATTEMPT, str(path)],
                user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, check=False,
            )  # fmt: skip
        finally:
            for place, mode in modes.items():
                place.chmod(mode & 0o7777)
        assert done.stdout[:1] == b"c", done.stderr
        assert b"ok" not in done.stdout
        said = f"a client of user {NOBODY} was refused"
        wait_until(lambda: said in alone.own_log, said)


def python() -> str:
    from tests.netns.cli.cli_site import plain_users_python

    return plain_users_python()[0]


def test_great_environments(tmp_path: Path) -> None:
    """1 MB in all is taken, one string that execve(2) refuses is the job's failure."""
    with init(tmp_path) as alone:
        many = [("N", "1"), *((f"V{number}", "x" * 1000) for number in range(1000))]
        (row,) = alone.client.job("one", "start", environment=many)
        assert row["status"] == 0
        with pytest.raises(Failed, match="Argument list too long"):
            alone.client.job("one", "start", environment=[("N", "2"), ("BIG", "x" * (1 << 20))])
        alone.client.emit("e", [("BIG", "x" * (1 << 20))])
        status, _, err = alone("job", "start", "--init", "one", "N=\x01\x02/../..")
        assert status == 0, err
        with pytest.raises(Problem):
            alone.client.job("one", "start", environment=[("N", "3"), ("A", "nul\0")])


BROKEN = {
    "no-user": "setuid nobody-has-this-name\nexec true",
    "no-program": "exec /nonexistent/program",
    "no-permission": "exec /etc/passwd",
    "no-directory": "chdir /nonexistent\nexec true",
}
REASONS = {
    "no-user": "find setuid user nobody-has-this-name",
    "no-program": "execute: No such file or directory: /nonexistent/program",
    "no-permission": "execute: Permission denied: /etc/passwd",
    "no-directory": "change working directory: No such file or directory",
}


def test_jobs_that_cannot_start_say_why(tmp_path: Path) -> None:
    with init(tmp_path, BROKEN) as alone:
        for name in BROKEN:
            with pytest.raises(Failed):
                alone.client.job(name, "start")
        reasons = {name: alone.row(name)["reason"] for name in BROKEN}
        assert reasons == REASONS


def test_broken_files_in_a_running_init(tmp_path: Path) -> None:
    """Each is named with file and line, and costs its own job only."""
    broken = {
        "signal": ("exec true\nkill signal SIGNONE\n", ":2:13: "),
        "stanza": ("\n\nexce true\n", ":3:1: "),
        "event": ("start on a and\nexec true\n", ":2:1: "),
        "../escape": ("exec true\n", ""),
    }
    with init(tmp_path) as alone:
        for name, (text, _) in broken.items():
            alone.job(name, text)
        # This is none, however deep it is.
        alone.job("deep", f"start on {'(' * 10_000}a{')' * 10_000}\nexec sleep 1000\n")
        alone.job("good", "exec sleep 1000\n")
        wait_until(lambda: "good" in {row["name"] for row in alone.table()}, "the good one")
        expected = [f"{alone.jobs}/{n}.conf{place}" for n, (_, place) in broken.items() if place]
        wait_until(lambda: all(each in alone.own_log for each in expected), str(expected))
        alone.client.emit("a")
        assert alone.row("deep")["state"] == "running"
        assert {row["name"] for row in alone.table()} == {*JOBS, "good", "deep"}
        with pytest.raises(UsageError, match="no job"):
            alone.client.job("../escape", "start")
        before = alone.own_log
        alone.initctl("reload-configuration")
        assert alone.own_log == before, "what is known is not said twice"
