"""Work in another process' namespaces, done by a thread of this one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from hostlab.linux.entering import NotAdmitted, in_thread

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root goes there without a user namespace"),
]

READY = "mount -t tmpfs none /mnt && echo ready && read line"


@contextmanager
def holder(*options: str, script: str = READY) -> Iterator[int]:
    """A process with namespaces of its own, and a file system on /mnt that only it sees."""
    argv = ["unshare", *options, "sh", "-c", script]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        try:
            yield process.pid
        finally:
            process.stdin.close()


def test_only_the_thread_is_there() -> None:
    here = os.getcwd(), os.stat("/proc/self/ns/mnt").st_ino

    def work() -> int:
        Path("/mnt/written").write_text("there")
        os.chdir("/mnt")
        return os.stat("/proc/thread-self/ns/mnt").st_ino

    with holder("--mount", "--net") as pid:
        there = in_thread(pid, ["mnt", "net"], work)
        assert there == os.stat(f"/proc/{pid}/ns/mnt").st_ino != here[1]
        assert Path(f"/proc/{pid}/root/mnt/written").read_text() == "there"
    assert not os.path.exists("/mnt/written")
    assert (os.getcwd(), os.stat("/proc/self/ns/mnt").st_ino) == here


def test_what_it_raises_is_raised_here() -> None:
    def work() -> None:
        raise FileExistsError(17, "said by the work")

    with holder("--mount") as pid, pytest.raises(FileExistsError, match="said by the work"):
        in_thread(pid, ["mnt"], work)


@pytest.mark.parametrize(("mapped", "admitted"), [("0 0 1", True), ("0 1000 1", False)])
def test_who_is_another_root_there_is_not_admitted(mapped: str, admitted: bool) -> None:
    """What it made would belong to nobody there."""
    ran: list[int] = []
    with holder("--user", "--mount", script="echo ready && read line") as pid:
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{pid}/{name}").write_text(mapped)
        with nullcontext() if admitted else pytest.raises(NotAdmitted):
            in_thread(pid, ["mnt"], lambda: ran.append(1))
    assert ran == [1] * admitted


def test_a_process_that_is_gone_is_told() -> None:
    with holder("--mount") as pid:
        pass
    with pytest.raises(ProcessLookupError):
        in_thread(pid, ["mnt"], lambda: None)
