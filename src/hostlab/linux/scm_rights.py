"""Descriptors that come over a Unix socket: SCM_RIGHTS of unix(7)."""

from __future__ import annotations

import array
import socket
from typing import Final

MAX_DESCRIPTORS: Final = 250
"""So many fit into one message; the kernel's SCM_MAX_FD is 253."""


def receive(
    sock: socket.socket, size: int, *, most: int = MAX_DESCRIPTORS
) -> tuple[bytes, list[int]]:
    """One recvmsg(2): the bytes, and the descriptors that came with them, now the caller's.

    No program that is started later has them. `socket.recv_fds` drops the flag for that: whatever
    runs another thread meanwhile, or forgets to close them, would hand them on.
    """
    found = array.array("i")
    room = socket.CMSG_SPACE(most * found.itemsize)
    data, ancillary, _, _ = sock.recvmsg(size, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, value in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(value[: len(value) - len(value) % found.itemsize])
    return data, list(found)
