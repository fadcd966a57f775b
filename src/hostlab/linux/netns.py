"""Network namespaces: entering one for the moment in which a socket is made (setns(2)).

A socket belongs for good to the namespace in which socket(2) was called. So one process can own
sockets of many namespaces: it goes there, makes the socket, and comes back.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from hostlab.linux.clone import CLONE_NEWNET
from hostlab.linux.libc import setns


class Home:
    """The network namespace this thread was in at first, to which every visit returns."""

    def __init__(self) -> None:
        self._fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Forget it; visits are no longer possible."""
        os.close(self._fd)

    @contextmanager
    def visit(self, fd: int) -> Iterator[None]:
        """Be in a network namespace for the length of the block.

        `fd` is a file of `/proc/PID/ns`, or (Linux 5.8) a pidfd: the namespace of that process.
        Needs CAP_SYS_ADMIN in that namespace's owning user namespace and in one's own. OSError
        with EPERM without them, ESRCH when the pidfd's process is gone.

        Coming back is not left out for the sake of a system call: a process that stays keeps
        the namespace of a dead node, and its interfaces, alive.
        """
        setns(fd, CLONE_NEWNET)
        try:
            yield
        finally:
            setns(self._fd, CLONE_NEWNET)
