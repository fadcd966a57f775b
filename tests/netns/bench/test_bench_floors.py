"""The floors make what they say, and leave nothing; neighbours are asked for real."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from dataclasses import replace

import pytest

from bench import kernel, rtnl
from bench.floors import FloorLab
from bench.memory import pss_mb_per_node
from bench.reach import verify

pytestmark = pytest.mark.netns

DEADLINE_S = 60.0


def _probe() -> str:
    try:
        kernel.forked(lambda: kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNET))
    except RuntimeError as error:
        return str(error)
    return ""


REFUSED = _probe()
needs_namespaces = pytest.mark.skipif(bool(REFUSED), reason=f"no namespaces: {REFUSED}")


def _wait_ended(fd: int) -> None:
    assert select.select([fd], [], [], DEADLINE_S)[0], "the process did not end"
    os.close(fd)


@needs_namespaces
def test_every_node_answers_those_on_its_own_segment() -> None:
    with FloorLab(6, 2, addressed=True) as lab:
        found = verify(lab.members, deadline_s=DEADLINE_S)
    assert (found.asked, found.answered, found.silent) == (12, 12, ())


@needs_namespaces
def test_a_node_that_is_not_there_is_silent_and_named() -> None:
    with FloorLab(3, 1, addressed=True) as lab:
        first, *others = lab.members
        absent = replace(first, address="10.0.1.1")
        for deadline_s in (2.0, 10.0, 40.0):  # The others may be slow to answer.
            found = verify((absent, *others), deadline_s=deadline_s)
            if len(found.silent) == 2:
                break
    assert not found.complete
    assert set(found.silent) == {("1", "0"), ("2", "0")}


@needs_namespaces
def test_neighbours_round_the_ring_ask_and_are_asked_equally() -> None:
    with FloorLab(5, 1, addressed=True) as lab:
        found = verify(lab.members, deadline_s=DEADLINE_S, neighbours=2)
    assert (found.asked, found.answered) == (10, 10)


@needs_namespaces
def test_nodes_have_namespaces_of_their_own() -> None:
    with FloorLab(2) as lab:
        for kind in ("net", "mnt", "uts", "ipc", "pid", "cgroup"):
            ids = {os.stat(f"/proc/{pid}/ns/{kind}").st_ino for pid in lab.started.pids}
            ids.add(os.stat(f"/proc/self/ns/{kind}").st_ino)
            assert len(ids) == 3, kind
        assert 0.01 < pss_mb_per_node(lab.started.pids, 2) < 100


@needs_namespaces
def test_stopping_ends_every_node_and_waits_for_its_port() -> None:
    with FloorLab(4) as lab:
        ends = [os.pidfd_open(pid) for pid in lab.started.pids]
        stopped = lab.stop()
    for fd in ends:
        _wait_ended(fd)
    assert 0 < stopped.reaped_s < stopped.settled_s


@needs_namespaces
def test_nodes_end_with_a_hub_that_is_killed() -> None:
    with FloorLab(2) as lab:
        ends = [os.pidfd_open(pid) for pid in lab.started.pids]
        os.kill(lab.hub_pid, signal.SIGKILL)
        for fd in ends:
            _wait_ended(fd)


@needs_namespaces
def test_a_refusal_of_the_kernel_is_an_error_with_the_call() -> None:
    def make_twice() -> None:
        kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNET)
        with contextlib.closing(rtnl.Rtnl()) as route:
            route.create(rtnl.bridge("s0"))
            route.create(rtnl.bridge("s0"))

    with pytest.raises(RuntimeError, match=r"FileExistsError.* rtnetlink message 16"):
        kernel.forked(make_twice)
