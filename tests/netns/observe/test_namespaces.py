"""The survey of namespaces, against namespaces made here."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from hostlab.linux import clone, mounts
from hostlab.linux.libc import unshare
from hostlab.observe.namespaces import Holder, NamespaceInfo, namespaces

pytestmark = pytest.mark.netns


def _started(flags: int) -> tuple[int, int, int, int]:
    reader, writer = os.pipe()
    try:
        return (*clone.clone3(flags), reader, writer)
    except OSError:
        os.close(reader)
        os.close(writer)
        raise


@contextmanager
def process(flags: int, before: Callable[[], object] = lambda: None) -> Iterator[int]:
    """A process in new namespaces that has run `before`, and ends with the block."""
    try:
        pid, pidfd, reader, writer = _started(flags)
    except PermissionError as error:
        pytest.skip(f"no user namespaces here: {error}")
    if pid == 0:
        try:
            before()
            os.write(writer, b"+")
            signal.pause()
        finally:
            os._exit(1)
    try:
        os.close(writer)
        assert os.read(reader, 1) == b"+", "the child failed before it was ready"
        yield pid
    finally:
        os.close(reader)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)


def inode(kind: str, pid: int | str = "self") -> int:
    return os.stat(f"/proc/{pid}/ns/{kind}").st_ino


def entry(found: tuple[NamespaceInfo, ...], number: int) -> NamespaceInfo:
    (one,) = [info for info in found if info.inode == number]
    return one


ALL = clone.CLONE_NEWUSER | clone.CLONE_NEWNET | clone.CLONE_NEWPID | clone.CLONE_NEWUTS


def test_a_process_in_new_namespaces_is_in_each_of_them() -> None:
    with process(ALL) as pid:
        found = namespaces([pid])
        for kind in clone.NAMESPACE_FLAGS:
            info = entry(found, inode(kind, pid))
            assert (info.kind, info.pids) == (kind, (pid,))
        net = entry(found, inode("net", pid))
        assert (net.owner, net.owner_uid) == (inode("user", pid), os.geteuid())
        assert net.command == Path(f"/proc/{pid}/comm").read_text().strip()


def test_parents_and_depth() -> None:
    with process(ALL) as pid:
        found = namespaces([os.getpid(), pid])
        outer, inner = entry(found, inode("user")), entry(found, inode("user", pid))
        assert (inner.parent, inner.owner_uid) == (outer.inode, os.geteuid())
        assert outer.depth is not None
        assert inner.depth == outer.depth + 1
        assert entry(found, inode("pid", pid)).parent == inode("pid")
        assert entry(found, inode("net", pid)).depth == inner.depth
        assert entry(found, inode("net")).depth == outer.depth


def test_who_shares_it() -> None:
    with process(0) as first, process(clone.CLONE_NEWUSER) as second:
        found = namespaces([second, first])
        assert entry(found, inode("net")).pids == tuple(sorted((first, second)))


def test_an_ancestor_with_nobody_in_it_is_listed() -> None:
    uid, gid = os.geteuid(), os.getegid()

    def deeper() -> None:
        # The kernel nests only for a user and group who have a number in the outer one.
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
        unshare(clone.CLONE_NEWUSER)

    with process(clone.CLONE_NEWUSER, deeper) as pid:
        found = namespaces([pid])
        inner = entry(found, inode("user", pid))
        assert inner.parent is not None
        between = entry(found, inner.parent)
        assert (between.pids, between.parent) == ((), inode("user"))
        assert between.row()[-1] == "held by its children"


def test_a_descriptor_holds_a_namespace_without_processes() -> None:
    with process(clone.CLONE_NEWUSER | clone.CLONE_NEWNET) as pid:
        fd = clone.namespace_fd(pid, "net")
        number = inode("net", pid)
    try:
        info = entry(namespaces([os.getpid()]), number)
        assert (info.kind, info.pids) == ("net", ())
        assert info.holders == (Holder("fd", os.getpid(), str(fd)),)
        assert "held by fd" in info.row()[-1]
    finally:
        os.close(fd)
    assert not [info for info in namespaces([os.getpid()]) if info.inode == number]


def test_a_bind_mount_holds_a_namespace(tmp_path: Path) -> None:
    point = tmp_path / "a held one"
    point.touch()

    def hold() -> None:
        mounts.make_private()
        with open("/proc/self/ns/uts") as old:
            mounts.bind(b"/proc/self/ns/uts", os.fsencode(point))
            unshare(clone.CLONE_NEWUTS)
            assert old

    flags = clone.CLONE_NEWUSER | clone.CLONE_NEWNS | clone.CLONE_NEWUTS
    with process(flags, hold) as pid:
        held = [i for i in namespaces([pid]) if any(h.how == "mount" for h in i.holders)]
        assert [(i.kind, i.pids, i.owner) for i in held] == [("uts", (), inode("user", pid))]
        assert held[0].holders == (Holder("mount", pid, str(point)),)


def test_where_children_will_be() -> None:
    with process(clone.CLONE_NEWUSER, lambda: unshare(clone.CLONE_NEWTIME)) as pid:
        info = entry(namespaces([pid]), inode("time_for_children", pid))
        assert (info.pids, info.holders) == ((), (Holder("children", pid, ""),))


def test_what_may_not_be_read_is_an_entry() -> None:
    def nobody() -> None:
        unshare(clone.CLONE_NEWUSER)

    with process(0) as target:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                nobody()  # without capabilities over the target, ptrace access is gone
                os.write(writer, msgspec.json.encode(namespaces([target])))
            finally:
                os._exit(0)
        os.close(writer)
        with open(reader, "rb") as answer:
            found = msgspec.json.decode(answer.read(), type=tuple[NamespaceInfo, ...])
        os.waitpid(child, 0)
        assert {info.kind for info in found if info.problem} == set(clone.NAMESPACE_FLAGS)
        assert all(info.pids == (target,) and info.inode is None for info in found)
        assert found[0].row()[-1] == "Permission denied"


def test_the_whole_machine_includes_the_caller_and_skips_what_has_gone() -> None:
    found = namespaces()
    assert os.getpid() in entry(found, inode("net")).pids
    assert namespaces([2**22 + 1]) == ()


def test_no_descriptor_is_left_open() -> None:
    before = set(os.listdir("/proc/self/fd"))
    namespaces()
    assert set(os.listdir("/proc/self/fd")) == before
