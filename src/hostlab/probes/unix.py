"""A Unix socket, whose type is found by trying; unix(7)."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import stat
import struct
import time
from collections.abc import Sequence
from typing import Final

import msgspec

from hostlab.linux import scm_rights

TYPES: Final = {
    "stream": socket.SOCK_STREAM,
    "seqpacket": socket.SOCK_SEQPACKET,
    "datagram": socket.SOCK_DGRAM,
}
RECEIVED_FDS: Final = 64
MESSAGE_BYTES: Final = 1 << 16
_UCRED: Final = struct.Struct("3i")
_ACCESS: Final = {os.O_RDONLY: "to read", os.O_WRONLY: "to write", os.O_RDWR: "to read and write"}


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Who has the other end of a connection; numbers as this namespace has them."""

    pid: int
    uid: int
    gid: int


def sockaddr(path: str) -> str:
    """The address of a path; `@name` is the abstract one."""
    return "\0" + path[1:] if path.startswith("@") else path


def connect(path: str, *, timeout_s: float) -> tuple[socket.socket, str]:
    """A connected socket and its type: stream, seqpacket or datagram; OSError with the path.

    A datagram socket is bound to a name that the kernel chooses (autobind), so that it can be
    answered.
    """
    for kind, number in TYPES.items():
        sock = socket.socket(socket.AF_UNIX, number | socket.SOCK_CLOEXEC)
        sock.settimeout(timeout_s)
        try:
            if kind == "datagram":
                sock.bind("")
            sock.connect(sockaddr(path))
        except OSError as error:
            sock.close()
            if error.errno == errno.EPROTOTYPE and kind != "datagram":
                continue  # it is there, and is of another type
            raise OSError(error.errno, error.strerror or str(error), path) from error
        return sock, kind
    raise AssertionError("the last type returns or raises")


def peer(sock: socket.socket) -> Peer:
    """Who listens (of a datagram socket, nobody is known: pid 0)."""
    value = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, gid = _UCRED.unpack(value)
    return Peer(pid=pid, uid=uid, gid=gid)


def receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    """What comes next, with its descriptors, which are the caller's; empty at the end."""
    return scm_rights.receive(sock, MESSAGE_BYTES, most=RECEIVED_FDS)


def describe(fds: Sequence[int]) -> list[str]:
    """What received descriptors are, a line each."""
    return [_described(fd) for fd in fds]


def _described(fd: int) -> str:
    try:
        where = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        where = "something"
    mode = os.fstat(fd).st_mode
    kinds = (
        (stat.S_ISREG, "file"),
        (stat.S_ISDIR, "directory"),
        (stat.S_ISSOCK, "socket"),
        (stat.S_ISFIFO, "pipe"),
        (stat.S_ISCHR, "character device"),
        (stat.S_ISBLK, "block device"),
    )
    kind = next((word for test, word in kinds if test(mode)), "anonymous file")
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    return f"{kind} {where}, open {_ACCESS.get(flags & os.O_ACCMODE, 'for nothing')}"


def converse(sock: socket.socket, wanted: bytes, until: float) -> tuple[bytes, list[str]]:
    """Read until the answer has what is wanted, ends, or is late; and what descriptors came."""
    data, described = b"", list[str]()
    while re.search(wanted, data) is None and len(data) < MESSAGE_BYTES:
        left_s = until - time.monotonic()
        if left_s <= 0:
            break
        sock.settimeout(left_s)
        try:
            more, fds = receive(sock)
        except (TimeoutError, ConnectionError):
            break
        described += describe(fds)
        for fd in fds:
            os.close(fd)
        if not more:
            break
        data += more
    return data, described
