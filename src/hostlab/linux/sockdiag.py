"""NETLINK_SOCK_DIAG: the sockets of the current network namespace that wait for others.

sock_diag(7). A dump is a request with a family, a protocol and a set of states, answered by one
`inet_diag_msg` a socket. Structures are those of include/uapi/linux/inet_diag.h.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import msgspec

from hostlab.errors import DecodeError, Unsupported
from hostlab.linux.netlink import Netlink, Request, attributes

NETLINK_SOCK_DIAG: Final = 4
SOCK_DIAG_BY_FAMILY: Final = 20
INET_DIAG_SKV6ONLY: Final = 11
TCP_CLOSE: Final = 7
"""Also the state of a bound, unconnected UDP socket."""
TCP_LISTEN: Final = 10

_REQUEST: Final = struct.Struct("=BBBBI48s")
"""inet_diag_req_v2: family, protocol, extensions, padding, states, an inet_diag_sockid."""
_MESSAGE: Final = struct.Struct("=BBBB4s16s16sI8sIIIII")
"""inet_diag_msg: family, state, timer, retransmits; both ports, source, destination, interface and
cookie (inet_diag_sockid); expiry, two queues, uid, inode."""

_PROTOCOLS: Final = {
    "tcp": (socket.IPPROTO_TCP, 1 << TCP_LISTEN),
    "udp": (socket.IPPROTO_UDP, 1 << TCP_CLOSE),
}
_DESTROYED: Final = {"tcp": (1, 3), "udp": (2, 4)}
"""SKNLGRP_INET_TCP_DESTROY and its kin (include/uapi/linux/sock_diag.h)."""


class Listener(msgspec.Struct, frozen=True, kw_only=True):
    """A socket that takes what is sent to its port: TCP in LISTEN, UDP bound and unconnected."""

    protocol: str
    address: str
    port: int
    v6only: bool = False
    """An IPv6 socket that does not take IPv4 too."""
    interface: int = 0
    """Index of the interface it is bound to (SO_BINDTODEVICE); 0 is any."""

    def takes(self, address: IPv4Address | IPv6Address) -> bool:
        """Whether a packet to `address` is for this socket, its port aside."""
        own = ip_address(self.address)
        if own.version == 6 and address.version == 4:
            if own.ipv4_mapped is not None:
                return own.ipv4_mapped == address
            return own.is_unspecified and not self.v6only
        return own == address or (own.is_unspecified and own.version == address.version)

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"


def listeners(protocol: str, *, over: Netlink | None = None) -> tuple[Listener, ...]:
    """Every listening (`tcp`) or bound (`udp`) socket of this namespace, both families.

    Of the namespace in which `over` was made, if it is given. No capability is needed.
    `Unsupported` when the kernel lacks the diag module for the protocol, `DecodeError` when it
    says something that is no dump.
    """
    return tuple(listener for _, listener in listeners_by_inode(protocol, over=over))


def listeners_by_inode(
    protocol: str, *, over: Netlink | None = None
) -> tuple[tuple[int, Listener], ...]:
    """What `listeners` finds, each with its inode, by which /proc/PID/fd shows whose it is."""
    found = ((decode_listener(protocol, body), body) for body in _dump(protocol, over))
    return tuple((_MESSAGE.unpack_from(body)[-1], listener) for listener, body in found)


def destruction_socket(protocol: str) -> socket.socket:
    """A socket that becomes readable when a socket of this namespace is destroyed (Linux 4.2).

    Of the `tcp` or `udp` sockets of both families; not of one that was only shut down.
    """
    made = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG
    )
    try:
        made.setblocking(False)  # noqa: FBT003 - that is its signature
        made.bind((0, sum(1 << group - 1 for group in _DESTROYED[protocol])))
    except BaseException:
        made.close()
        raise
    return made


def listening_inodes(protocol: str, port: int) -> frozenset[int]:
    """The inodes of the sockets that `listeners` finds on a port: /proc/PID/fd shows whose.

    A socket that is bound and in a hash, but of no file any more, has inode 0.
    """
    wanted = port.to_bytes(2, "big")
    found = [_MESSAGE.unpack_from(body) for body in _dump(protocol) if len(body) >= _MESSAGE.size]
    return frozenset(message[-1] for message in found if message[4][:2] == wanted)


def _dump(protocol: str, over: Netlink | None = None) -> list[bytes]:
    number, states = _PROTOCOLS[protocol]
    found: list[bytes] = []
    with contextlib.ExitStack() as stack:
        netlink = over or stack.enter_context(Netlink(NETLINK_SOCK_DIAG))
        for family in (socket.AF_INET, socket.AF_INET6):
            body = _REQUEST.pack(family, number, 0, 0, states, bytes(48))
            request = Request(SOCK_DIAG_BY_FAMILY, 0, body, f"list {protocol} sockets")
            try:
                found += [body for _, body in netlink.dump(request)]
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.EOPNOTSUPP):
                    raise
                hint = f"load the module {protocol}_diag (CONFIG_INET_DIAG, CONFIG_INET_UDP_DIAG)"
                message = f"this kernel cannot list its {protocol} sockets"
                raise Unsupported("sock_diag", message, hint=hint) from error
    return found


def decode_listener(protocol: str, body: bytes) -> Listener:
    """One `inet_diag_msg` with its attributes."""
    if len(body) < _MESSAGE.size:
        raise DecodeError("sock_diag", f"an inet_diag_msg of {len(body)} bytes")
    family, _state, _timer, _retrans, ports, source, _dst, interface, *_ = _MESSAGE.unpack_from(
        body
    )
    address = source[:4] if family == socket.AF_INET else source
    v6only = False
    for kind, value in attributes(body[_MESSAGE.size :]):
        if kind == INET_DIAG_SKV6ONLY:
            v6only = value[:1] == b"\x01"
    return Listener(
        protocol=protocol,
        address=str(ip_address(address)),
        port=int.from_bytes(ports[:2], "big"),
        v6only=v6only,
        interface=interface,
    )
