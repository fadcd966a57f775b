"""Who waits at a listening socket: the connections that nobody has accepted yet.

TCP tells their number in TCP_INFO of the listener (`tcpi_unacked` is `sk_ack_backlog` there,
net/ipv4/tcp.c, tcp_get_info()) and each of them by sock_diag(7), without an inode; a Unix socket
tells the inodes of its own (UNIX_DIAG_ICONS).
"""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
import termios
from collections.abc import Iterator
from typing import Any, Final

from hostlab.linux.netlink import NLM_F_ACK, Netlink, Request, attributes
from hostlab.linux.sockdiag import NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY

TCP_INFO_BYTES: Final = 32
_UNACKED: Final = struct.Struct("=24xI4x")
UNIX_DIAG_ICONS: Final = 3
UDIAG_SHOW_ICONS: Final = 1 << 3
TCP_UNACCEPTED: Final = 1 << 1 | 1 << 8
"""ESTABLISHED and CLOSE_WAIT (include/net/tcp_states.h): one without an inode that was accepted has
been closed here too, and is beyond these."""
TCP_CONNECTED: Final = TCP_UNACCEPTED | sum(1 << state for state in (4, 5, 9, 11))
"""And FIN_WAIT1, FIN_WAIT2, LAST_ACK, CLOSING."""
_INET: Final = struct.Struct("=BBBBI2s2s16s16sI8s")
"""inet_diag_req_v2: family, protocol, extensions, padding, states; ports, addresses, interface,
cookie."""
_INET_MESSAGE: Final = struct.Struct("=BBBB4s16s16sI8sIIIII")
_UNIX: Final = struct.Struct("=BBHIII8s")
"""unix_diag_req: family, protocol, padding, states, inode, show, cookie."""
_UNIX_MESSAGE: Final = struct.Struct("=BBBxI8s")
_NO_COOKIE: Final = b"\xff" * 8

Waiting = frozenset[bytes]
"""Connections that wait, each by what tells it from all others."""


def count(listener: socket.socket) -> int:
    """How many connections wait; of a socket without connections, the bytes that do."""
    if not _listens(listener):
        return readable_bytes(listener.fileno())
    if listener.family in (socket.AF_INET, socket.AF_INET6):
        info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
        return int(_UNACKED.unpack(info)[0])
    return len(waiting(listener))


def readable_bytes(fd: int) -> int:
    """FIONREAD: of a datagram socket the size of the first datagram; 0 where nobody can say."""
    buffer = array.array("i", [0])
    try:
        fcntl.ioctl(fd, termios.FIONREAD, buffer)
    except OSError:
        return 0
    return buffer[0]


def waiting(listener: socket.socket) -> Waiting:
    """The connections that wait; empty where the kernel cannot tell."""
    try:
        if not _listens(listener):
            return frozenset()
        if listener.family == socket.AF_UNIX:
            return _unix(os.fstat(listener.fileno()).st_ino)
        if listener.family in (socket.AF_INET, socket.AF_INET6):
            return _inet(listener)
    except OSError:
        # A kernel without the diag module.
        return frozenset()
    return frozenset()


def _listens(made: socket.socket) -> bool:
    return bool(made.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _inet(listener: socket.socket) -> Waiting:
    return frozenset(
        message[4] + message[5] + message[6]
        for message in _dump(listener, TCP_UNACCEPTED)
        if message[-1] == 0
    )


def _dump(listener: socket.socket, states: int) -> Iterator[tuple[Any, ...]]:
    """The connections of a listener's port in these states."""
    port = int(listener.getsockname()[1]).to_bytes(2, "big")
    families: tuple[int, ...] = (socket.AF_INET,)
    if listener.family == socket.AF_INET6:
        families = (socket.AF_INET6, socket.AF_INET)
    with Netlink(NETLINK_SOCK_DIAG) as netlink:
        for family in families:
            body = _INET.pack(family, socket.IPPROTO_TCP, 0, 0, states, port, bytes(2),
                              bytes(16), bytes(16), 0, _NO_COOKIE)  # fmt: skip
            request = Request(SOCK_DIAG_BY_FAMILY, 0, body, "list connections")
            for _, answer in netlink.dump(request):
                if len(answer) < _INET_MESSAGE.size:
                    continue
                message = _INET_MESSAGE.unpack_from(answer)
                if message[4][:2] == port:
                    yield message


def connections(listener: socket.socket) -> int:
    """How many TCP connections a listener's port has, accepted or not; those in TIME_WAIT are over.

    OSError where the kernel cannot tell.
    """
    return len(tuple(_dump(listener, TCP_CONNECTED)))


def _unix(inode: int) -> Waiting:
    body = _UNIX.pack(socket.AF_UNIX, 0, 0, 0xFFFFFFFF, inode, UDIAG_SHOW_ICONS, _NO_COOKIE)
    with Netlink(NETLINK_SOCK_DIAG) as netlink:
        for answer in netlink.ask(Request(SOCK_DIAG_BY_FAMILY, NLM_F_ACK, body, "ask of a socket")):
            for kind, value in attributes(answer[_UNIX_MESSAGE.size :]):
                if kind == UNIX_DIAG_ICONS:
                    return frozenset(value[at : at + 4] for at in range(0, len(value), 4))
    return frozenset()
