"""A child of nothing but system calls: done in order, told apart, and harmless to its parent."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.linux import vfork

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(not vfork.prepare(), reason="no stub for this machine"),
]

NO_DESCRIPTOR = 1_000_000
KILL = {"x86_64": 62}


@pytest.fixture
def out() -> Iterator[tuple[int, int]]:
    """The two ends of a pipe."""
    ends = os.pipe2(os.O_CLOEXEC)
    yield ends
    for fd in ends:
        os.close(fd)


class Strings:
    """Addresses that live as long as this does."""

    def __init__(self) -> None:
        self.alive: list[object] = []

    def one(self, text: bytes) -> int:
        buffer = ctypes.create_string_buffer(text)
        self.alive.append(buffer)
        return ctypes.addressof(buffer)

    def many(self, *texts: bytes) -> int:
        pointers = (ctypes.c_char_p * (len(texts) + 1))(*texts, None)
        self.alive.append(pointers)
        return ctypes.addressof(pointers)

    def execute(self, *argv: bytes) -> bytes:
        return vfork.row("execve", self.one(argv[0]), self.many(*argv), self.many(b"HERE=1"))


def run(*rows: bytes) -> tuple[int, list[int]]:
    """The exit code of a child that does these, negative for a signal, and their results."""
    pid, pidfd, results = vfork.run(list(rows), 0, None)
    os.close(pidfd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), results


def test_calls_are_done_in_order_and_the_program_comes_last(out: tuple[int, int]) -> None:
    texts = Strings()
    status, results = run(
        vfork.row("setsid"),
        vfork.row("dup3", out[1], 1, 0),
        vfork.row("umask", 0o017),
        texts.execute(b"/bin/sh", b"-c", b"umask; echo $HERE; exit 3"),
    )
    assert status == 3
    assert len(results) == 3
    assert os.read(out[0], 100).split() == [b"0017", b"1"]


def test_a_call_that_must_not_fail_ends_the_child() -> None:
    texts = Strings()
    status, results = run(
        vfork.row("chdir", texts.one(b"/no/such/place")), texts.execute(b"/bin/true")
    )
    assert (status, results) == (127, [-errno.ENOENT])


def test_a_call_that_may_fail_does_not() -> None:
    texts = Strings()
    status, results = run(
        vfork.row("chdir", texts.one(b"/no/such/place"), must=False), texts.execute(b"/bin/true")
    )
    assert (status, results) == (0, [-errno.ENOENT])


def test_nothing_of_it_stays_with_the_parent() -> None:
    texts = Strings()
    before = (os.getcwd(), os.umask(0o022), os.getsid(0))
    descriptors = os.listdir("/proc/self/fd")
    status, _ = run(
        vfork.row("setsid"),
        vfork.row("umask", 0o077),
        vfork.row("chdir", texts.one(b"/proc")),
        vfork.row("dup3", 2, 77, 0),
        texts.execute(b"/bin/true"),
    )
    assert status == 0
    now = (os.getcwd(), os.umask(0o022), os.getsid(0))
    assert now == before
    assert os.listdir("/proc/self/fd") == descriptors


def test_no_handler_of_the_parent_runs_in_the_child() -> None:
    """A signal before `execve` ends the child; a handler would set the parent's own mark."""
    called: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: called.append(number))
    try:
        # To its whole group, of which it is the only member after setsid(2).
        kill = vfork.ROW.pack(KILL[os.uname().machine], vfork.MUST, 0, signal.SIGUSR1, *[0] * 5)
        status, results = run(vfork.row("setsid"), kill, Strings().execute(b"/bin/true"))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert status == -signal.SIGUSR1
    assert len(results) < 3
    assert not called


def test_a_refused_clone_is_an_error() -> None:
    with pytest.raises(OSError, match="clone3") as caught:
        vfork.run([vfork.row("setsid")], 0, NO_DESCRIPTOR)
    assert caught.value.errno == errno.EBADF


def test_beside_another_thread_there_is_none() -> None:
    may_end = threading.Event()
    other = threading.Thread(target=may_end.wait)
    other.start()
    try:
        assert not vfork.prepare()
    finally:
        may_end.set()
        other.join()
    assert vfork.prepare()


def cloned(*wanted: tuple[int, int | None]) -> vfork.Cloned:
    """Children that end with their number and 40; only the parent comes back."""
    found = vfork.clone_many(wanted)
    if found.child is not None:
        os._exit(40 + found.child)
    return found


def test_each_of_many_children_knows_which_it_is() -> None:
    found = cloned(*[(0, None)] * 20)
    assert found.error is None
    assert len({pid for pid, _ in found.made}) == 20
    for number, (pid, pidfd) in enumerate(found.made):
        assert not os.get_inheritable(pidfd)
        ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        assert ended is not None
        assert (ended.si_pid, ended.si_status) == (pid, 40 + number)
        os.close(pidfd)


def test_the_child_that_cannot_be_made_is_the_last_to_be_tried() -> None:
    found = cloned((0, None), (0, None), (0, NO_DESCRIPTOR), (0, None))
    assert found.error is not None
    assert found.error.errno == errno.EBADF
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid, _ in found.made] == [40, 41]
    for _, pidfd in found.made:
        os.close(pidfd)


def test_none_of_none_is_made() -> None:
    assert cloned() == (None, [], None)


def test_no_process_changes_the_code_of_another() -> None:
    """What is shared by fork is each one's own: a node's init cannot write into its hub's."""
    with open("/proc/self/maps") as lines:
        executable = [line.split()[1] for line in lines if len(line.split()) == 5]
    assert "r-xp" in executable
    assert not [mode for mode in executable if mode.endswith("s")]


def test_calls_in_ones_own_name_stop_at_the_first_that_fails(tmp_path: Path) -> None:
    calls = vfork.Calls()
    for name in ("one", "no/such/place", "two"):
        path = f"{tmp_path}/{name}".encode()
        calls.add("mkdir", path, 0o700, what=path)
    calls.prepare()
    with pytest.raises(OSError, match="mkdir") as caught:
        calls.do()
    assert (caught.value.errno, caught.value.filename) == (
        errno.ENOENT,
        f"{tmp_path}/no/such/place",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
