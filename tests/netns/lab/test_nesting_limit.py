"""The kernel's limit of 32 nested user and PID namespaces, and what is said at it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from hostlab.errors import Unsupported
from hostlab.lab.nesting import explained
from hostlab.linux.clone import CLONE_NEWPID, CLONE_NEWUSER, clone3
from hostlab.observe.finding import tried

pytestmark = pytest.mark.netns


def descend(depth: int, report: int) -> None:
    """Make a namespace in a namespace until the kernel refuses; report (depth, errno) then."""
    uid, gid = os.geteuid(), os.getegid()
    try:
        pid, _ = clone3(CLONE_NEWUSER | CLONE_NEWPID)
    except OSError as error:
        os.write(report, f"{depth} {error.errno}".encode())
        return
    if pid == 0:
        try:
            # Without a map in the one above the kernel makes no further user namespace.
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
            Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
            descend(depth + 1, report)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def test_the_kernel_stops_at_32_and_it_is_said() -> None:
    if not tried(lambda: None, flags=CLONE_NEWUSER | CLONE_NEWPID).is_ok:
        pytest.skip("this user cannot have user and PID namespaces")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            descend(0, writer)
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as answer:
        depth, number = map(int, answer.read().split())
    os.waitpid(child, 0)
    assert number in (errno.ENOSPC, errno.EUSERS)
    assert 0 < depth <= 32
    problem = explained(OSError(number, os.strerror(number)))
    assert isinstance(problem, Unsupported)
    assert "32 levels" in problem.message
