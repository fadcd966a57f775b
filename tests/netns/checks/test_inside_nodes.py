"""A process inside a node: where it is, what it holds, and that it never outlives its use."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from hostlab.checks.inside import Crew, Gone, Inside
from hostlab.checks.judge import judge
from hostlab.errors import Problem
from hostlab.spec.model import Check

if TYPE_CHECKING:
    from tests.netns.checks.conftest import Lab

pytestmark = pytest.mark.netns

DEADLINE_S = 60.0
NOBODY = 65534
SO_NETNS_COOKIE = 71  # include/uapi/asm-generic/socket.h


def say(request: bytes) -> bytes:
    """The handler of these tests: what it finds inside."""
    match request.split():
        case [b"net"]:
            return network()
        case [b"hosts"]:
            return Path("/etc/hosts").read_bytes()
        case [b"fds"]:
            return b" ".join(str(fd).encode() for fd in open_fds())
        case [b"ids"]:
            return f"{os.getuid()} {os.getgid()}".encode()
        case [b"pid"]:
            return str(os.getpid()).encode()
        case [b"import"]:
            import colorsys  # noqa: F401 (an import that nobody has done before)

            return b"imported"
        case [b"wait"]:
            select.select([], [], [])
            return b""
        case _:
            raise ValueError("what?")


def network() -> bytes:
    """Which one this process is in, without /proc, which is the node's: SO_NETNS_COOKIE."""
    with socket.socket() as sock:
        return sock.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8).hex().encode()


def open_fds() -> list[int]:
    """Found by trying, since /proc is the node's."""
    found = []
    for fd in range(256):
        try:
            os.fstat(fd)
        except OSError:
            continue
        found.append(fd)
    return found


def ask(crew: Crew, pid: int, request: bytes) -> bytes:
    with crew.enter(pid) as inside:
        answer = inside.call(request, DEADLINE_S)
    assert answer is not None
    return answer


def test_it_is_inside_and_holds_nothing_else(lab: Lab) -> None:
    held = os.open("/", os.O_RDONLY)
    try:
        with Crew(say) as crew:
            web, db = lab["web"].pid, lab["db"].pid
            cookies = {ask(crew, web, b"net"), ask(crew, db, b"net"), network()}
            assert len(cookies) == 3
            assert b"10.9.0.2 db" in ask(crew, web, b"hosts")
            assert ask(crew, web, b"ids") == b"0 0"
            fds = [int(fd) for fd in ask(crew, web, b"fds").split()]
            assert fds[:3] == [0, 1, 2]
            assert len(fds) == 4  # its socket
    finally:
        os.close(held)


def test_nothing_is_imported_inside_and_an_error_is_told(lab: Lab) -> None:
    with Crew(say) as crew:
        with pytest.raises(Problem, match="ModuleNotFoundError"):
            ask(crew, lab["web"].pid, b"import")
        with pytest.raises(Problem, match="ValueError: what"):
            ask(crew, lab["web"].pid, b"?")


def test_one_that_hangs_is_left_and_ends_with_the_crew(lab: Lab) -> None:
    with Crew(say) as crew:
        with crew.enter(lab["web"].pid) as inside:
            assert inside.call(b"wait", 0.05) is None
            answer = inside.call(b"pid", DEADLINE_S)  # others are answered meanwhile
            assert answer is not None
            watch = os.pidfd_open(int(answer))
        wait_ended(watch)  # hanging up was enough
        inside = crew.enter(lab["web"].pid)
        answer = inside.call(b"pid", DEADLINE_S)
        assert answer is not None
        watch = os.pidfd_open(int(answer))
    wait_ended(watch)  # nobody hung up, but the crew is gone
    inside.close()


def test_none_outlives_a_caller_that_is_killed(lab: Lab) -> None:
    reader, writer = os.pipe()
    caller = os.fork()
    if caller == 0:
        with Crew(say) as crew, crew.enter(lab["web"].pid) as inside:
            os.write(writer, inside.call(b"pid", DEADLINE_S) or b"")
            signal.pause()
        os._exit(1)
    os.close(writer)
    watch = os.pidfd_open(int(os.read(reader, 64)))
    os.close(reader)
    os.kill(caller, signal.SIGKILL)
    os.waitpid(caller, 0)
    wait_ended(watch)


def test_a_node_that_ends_is_gone(own_lab: Lab) -> None:
    holder = own_lab.holders["db"]
    with Crew(say) as crew:
        with crew.enter(holder.pid) as inside:
            assert inside.call(b"pid", DEADLINE_S)
            inside.submit(b"wait")
            holder.kill()
            with pytest.raises(Gone):
                inside.receive(DEADLINE_S)
        holder.wait()
        with pytest.raises(ProcessLookupError):
            crew.enter(holder.pid)


def test_why_a_child_could_not_enter_is_told_even_when_it_left_a_request_unread() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.send(b"a request")
    theirs.send(b"!1 no way in")
    theirs.close()
    inside = Inside(ours, os.pidfd_open(os.getpid()))
    with inside, pytest.raises(PermissionError, match="no way in"):
        inside.receive(DEADLINE_S)


def test_a_node_that_may_not_be_entered_says_so(lab: Lab) -> None:
    def attempt() -> None:
        with Crew(say) as crew, pytest.raises(PermissionError):
            ask(crew, lab["db"].pid, b"ids")

    as_nobody(attempt)


def test_an_unprivileged_user_judges_nodes_of_a_user_namespace_of_its_own() -> None:
    def attempt() -> None:
        ready, told = os.pipe()
        holder = os.fork()
        if holder == 0:
            words = ["unshare", "-U", "-r", "-n", "-m", "sh", "-c"]
            os.dup2(told, 1)
            os.execvp(words[0], [*words, "ip link set lo up && echo up && exec sleep 60"])
        os.close(told)
        assert os.read(ready, 3) == b"up\n"

        said = {"host": "127.0.0.1", "port": None, "protocol": "icmp"}
        check = Check(nodes=("own",), kind="reaches", arguments=said, within_s=DEADLINE_S)
        node: Any = SimpleNamespace(name="own", pid=holder)
        try:
            report = judge([check], {"own": node})
        finally:
            os.kill(holder, signal.SIGKILL)
            os.waitpid(holder, 0)
        assert report.ok, str(report.rows[0])

    as_nobody(attempt)


def as_nobody(attempt: Callable[[], None]) -> None:
    """Run in a child without privileges; skip when this process cannot give its own up."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            try:
                os.setgroups([])
                os.setresgid(NOBODY, NOBODY, NOBODY)
                os.setresuid(NOBODY, NOBODY, NOBODY)
            except PermissionError:
                os._exit(2)
            attempt()
            status = 0
        except BaseException as error:
            os.write(writer, repr(error).encode()[:4096])
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, "rb") as said:
        text = said.read().decode()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status == 2:
        pytest.skip("another user cannot be become")
    assert status == 0, text


def wait_ended(watch: int) -> None:
    """Wait until the process of a pidfd has ended, and close the pidfd."""
    poller = select.poll()
    poller.register(watch, select.POLLIN)
    started = time.monotonic()
    ended = poller.poll(DEADLINE_S * 1000)
    os.close(watch)
    assert ended, f"still there after {time.monotonic() - started:.1f} s"
