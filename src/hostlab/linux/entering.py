"""The way into the namespaces of another process: setns(2) with a pidfd, Linux 5.8.

`enter_namespaces` changes the calling process for good; `from_inside` has a child do it, which
brings bytes and descriptors back, and `in_thread` a thread, for root. A descriptor keeps what it
was opened for: a socket opened in a network namespace stays that namespace's, whoever reads it.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NoReturn, TypeVar

from hostlab.linux.clone import CLONE_FS, CLONE_NEWUSER, NAMESPACE_FLAGS, clone3
from hostlab.linux.libc import setns, unshare
from hostlab.linux.scm_rights import receive

T = TypeVar("T")

ANSWER_BYTES: Final = 1 << 16
"""The longest that a child brings back."""
_MAX_FDS: Final = 8

Work = Callable[[], tuple[bytes, Sequence[int]]]
"""What a child does inside: returns bytes and descriptors for its parent."""


def enter_namespaces(pid: int, pidfd: int, kinds: Sequence[str]) -> None:
    """Put this single-threaded process into namespaces of another; it becomes their root.

    Or this thread, when no user namespace is among them and `unshare` gave it files of its own.

    Only those that are not ours already: a user namespace cannot be joined again (setns(2),
    EINVAL), and one of the machine's that the other shares may not be ours to join. `pidfd` is
    what counts: when the process has ended meanwhile, setns(2) fails with ESRCH. Needs
    CAP_SYS_ADMIN over them, which the owner of a user namespace has in it.
    """
    flags = 0
    try:
        for kind in kinds:
            theirs, ours = f"/proc/{pid}/ns/{kind}", f"/proc/self/ns/{kind}"
            if os.stat(theirs).st_ino != os.stat(ours).st_ino:
                flags |= NAMESPACE_FLAGS[kind]
    except FileNotFoundError as error:
        raise ProcessLookupError(errno.ESRCH, "the process has ended") from error
    if flags:
        setns(pidfd, flags)
    if flags & CLONE_NEWUSER:
        # Not every namespace maps its root, nor lets groups be changed: user_namespaces(7).
        with suppress(OSError):
            os.setgroups([])
        with suppress(OSError):
            os.setgid(0)
            os.setuid(0)


def from_inside(pid: int, kinds: Sequence[str], work: Work) -> tuple[bytes, list[int]]:
    """Do `work` in a child that is in these namespaces of process `pid`; what it brought back.

    The descriptors are the caller's. OSError as `work` or the way in raised it; ESRCH when the
    process is not there. `work` must import nothing when it is in another mount namespace.
    """
    pidfd = os.pidfd_open(pid)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        try:
            child, child_pidfd = clone3(0)
            if child == 0:
                _child(pid, pidfd, kinds, work, theirs)
        finally:
            os.close(pidfd)
            theirs.close()
        answer, fds = receive(ours, ANSWER_BYTES, most=_MAX_FDS)
        os.close(child_pidfd)
        os.waitpid(child, 0)
    if answer[:1] == b".":
        return answer[1:], fds
    number, _, rest = answer[1:].decode(errors="replace").partition(" ")
    text, _, name = rest.partition("\0")
    message = text or "the child inside ended without an answer"
    raise OSError(int(number or errno.ECHILD), message, name or None)


class NotAdmitted(PermissionError):
    """This process may not go there as it is."""


def in_thread(pid: int, kinds: Sequence[str], work: Callable[[], T]) -> T:
    """Do `work` in a thread that is in these namespaces of process `pid`; what it returns.

    It costs a tenth of a child, and comes there as who it is: a process with threads joins no user
    namespace (setns(2)). NotAdmitted before anything is done for who has not CAP_SYS_ADMIN over
    the process' user namespace, or is not the same root there as here; ESRCH when the process is
    not there; else errors as of `work`, which must import nothing in another mount namespace.
    """
    if os.geteuid() != 0 or not _is_root_the_same(pid):
        raise NotAdmitted(errno.EPERM, "not the same root")
    pidfd = os.pidfd_open(pid)

    def inside() -> T:
        # Root and working directory are one for all threads otherwise, and setns(2) refuses.
        unshare(CLONE_FS)
        try:
            enter_namespaces(pid, pidfd, kinds)
        except PermissionError as error:
            raise NotAdmitted(error.errno, error.strerror) from error
        return work()

    # It brings logging with it, and most commands go nowhere by a thread.
    from concurrent.futures import ThreadPoolExecutor

    try:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(inside).result()
    finally:
        os.close(pidfd)


def _is_root_the_same(pid: int) -> bool:
    """Whether what root makes here is root's there: user_namespaces(7), "User and group ID"."""
    try:
        with open(f"/proc/{pid}/uid_map") as uids, open(f"/proc/{pid}/gid_map") as gids:
            return all(each.readline().split()[:2] == ["0", "0"] for each in (uids, gids))
    except FileNotFoundError as error:
        raise ProcessLookupError(errno.ESRCH, "the process has ended") from error


def _child(pid: int, pidfd: int, kinds: Sequence[str], work: Work, link: socket.socket) -> NoReturn:
    try:
        try:
            enter_namespaces(pid, pidfd, kinds)
            data, fds = work()
            socket.send_fds(link, [b"." + data], fds)
        except OSError as error:
            name = error.filename or ""
            link.send(f"!{error.errno or 0} {error.strerror or error}\0{name}".encode())
    finally:
        os._exit(0)
