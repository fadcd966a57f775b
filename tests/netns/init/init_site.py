"""A holder in a process of its own, with a supervisor that a test writes."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hostlab.init.client import Control
from hostlab.init.holder import Holder, Inheritance
from hostlab.init.protocol import listen
from hostlab.init.supervisor import Supervisor
from hostlab.linux.clone import CLONE_NEWPID, CLONE_NEWUSER, clone3

DEADLINE_S = 60.0


def children(pid: int) -> list[int]:
    """The children of a process of one thread, living or dead."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def holding(
    directory: Path,
    make: Callable[[Inheritance], Supervisor],
    *,
    eager: bool = True,
    pid_namespace: bool = False,
) -> Iterator[int]:
    """A holder for the length of the block: the pid that it has here."""
    place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    flags = 0
    if pid_namespace:
        flags = CLONE_NEWPID | (CLONE_NEWUSER if os.geteuid() else 0)
    control = listen(place, "control.sock")
    pid, pidfd = clone3(flags)
    if pid == 0:
        try:
            log = os.open(directory / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(log, 2)
            sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)

            async def live(inheritance: Inheritance) -> None:
                await make(inheritance).run()

            Holder(control, lambda got: asyncio.run(live(got)), eager=eager).hold()
        finally:
            os._exit(1)
    control.close()
    os.close(place)
    try:
        yield pid
    finally:
        if not pid_namespace:
            end_children(pid)
        os.kill(pid, signal.SIGKILL)
        os.close(pidfd)
        os.waitpid(pid, 0)


def end_children(holder: int) -> None:
    """End all below a holder, and wait for that; who loses its parent becomes the holder's child.

    Stopped it reaps none and starts none, and its list is looked at until nobody is new in it.
    """
    os.kill(holder, signal.SIGSTOP)
    os.waitid(os.P_PID, holder, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    ended: set[int] = set()
    while left := set(children(holder)) - ended:
        for child in left:
            pidfd = os.pidfd_open(child)
            try:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                assert select.select([pidfd], [], [], DEADLINE_S)[0], f"{child} does not end"
            finally:
                os.close(pidfd)
        ended |= left


def control_of(directory: Path) -> Control:
    """A connection to the holder's supervisor."""
    control = Control.to(str(directory), "control.sock")
    seconds = struct.pack("ll", int(DEADLINE_S), 0)
    control.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, seconds)
    return control
