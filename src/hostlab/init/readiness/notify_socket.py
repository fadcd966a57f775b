"""The socket that $NOTIFY_SOCKET names: who sent what, looked at before it is taken.

Each process has a socket of its own, so a message needs no telling whose it is, only whether its
sender may speak: the kernel says its pid (SO_PASSCRED) and, where it can, gives a pidfd that still
tells the cgroup of a sender that has ended since, as `systemd-notify` has.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
from typing import Final

import msgspec

from hostlab.init.readiness.notify import MAX_DATAGRAM_BYTES, Message, parse
from hostlab.linux.pidfd import SCM_PIDFD, SO_PASSPIDFD, cgroup_id

MAX_DESCRIPTORS: Final = 253
"""Of one datagram: the kernel's SCM_MAX_FD."""
_ROOM: Final = socket.CMSG_SPACE(12) + socket.CMSG_SPACE(4) + socket.CMSG_SPACE(4 * MAX_DESCRIPTORS)


class Datagram(msgspec.Struct, frozen=True):
    """A message that has been looked at; its descriptors are the receiver's to close."""

    message: Message
    pid: int
    """The sender, as this pid namespace numbers it; 0 when it is not in it."""
    uid: int
    group: int | None
    """The sender's v2 cgroup, as `cgroup_id` has it."""
    descriptors: tuple[int, ...]


def bind(path: str) -> socket.socket:
    """A new socket that every user may send to; a name that begins with `@` is an abstract one.

    OSError when it cannot be made, as when the path is longer than 107 bytes (unix(7)).
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        with contextlib.suppress(OSError):  # Linux before 6.5.
            sock.setsockopt(socket.SOL_SOCKET, SO_PASSPIDFD, 1)
        if path.startswith("@"):
            sock.bind(b"\0" + path[1:].encode())
            return sock
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        sock.bind(path)
        os.chmod(path, 0o666)
    except BaseException:
        sock.close()
        raise
    return sock


def peek(sock: socket.socket) -> Datagram | None:
    """The next datagram, which stays where it is; None when there is none."""
    flags = socket.MSG_PEEK | socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
    try:
        data, ancillary, _, _ = sock.recvmsg(MAX_DATAGRAM_BYTES + 1, _ROOM, flags)
    except (BlockingIOError, InterruptedError):
        return None
    pid = uid = 0
    group: int | None = None
    descriptors = array.array("i")
    for level, kind, value in ancillary:
        if level != socket.SOL_SOCKET:
            continue
        if kind == socket.SCM_CREDENTIALS and len(value) >= 12:
            pid, uid, _gid = struct.unpack("=iII", value[:12])
        elif kind == SCM_PIDFD and len(value) >= 4:
            group = _group_of(struct.unpack("=i", value[:4])[0])
        elif kind == socket.SCM_RIGHTS:
            descriptors.frombytes(value[: len(value) - len(value) % descriptors.itemsize])
    return Datagram(parse(data), pid, uid, group, tuple(descriptors))


def take(sock: socket.socket) -> None:
    """Have the datagram that was looked at go, and with it its descriptors."""
    with contextlib.suppress(BlockingIOError):
        sock.recv(1, socket.MSG_DONTWAIT)


def _group_of(pidfd: int) -> int | None:
    if pidfd < 0:
        return None
    try:
        return cgroup_id(pidfd)
    finally:
        os.close(pidfd)
