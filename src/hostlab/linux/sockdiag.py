"""NETLINK_SOCK_DIAG: the sockets of the current network namespace that wait for others.

sock_diag(7). A dump is a request with a family, a protocol and a set of states, answered by one
`inet_diag_msg` a socket. Structures are those of include/uapi/linux/inet_diag.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import msgspec

from hostlab.errors import DecodeError, Unsupported

NETLINK_SOCK_DIAG: Final = 4
SOCK_DIAG_BY_FAMILY: Final = 20
NLM_F_REQUEST: Final = 0x1
NLM_F_DUMP_INTR: Final = 0x10
NLM_F_DUMP: Final = 0x300
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
INET_DIAG_SKV6ONLY: Final = 11
TCP_CLOSE: Final = 7
"""Also the state of a bound, unconnected UDP socket."""
TCP_LISTEN: Final = 10

_HEADER: Final = struct.Struct("=IHHII")
_REQUEST: Final = struct.Struct("=BBBBI48s")
"""inet_diag_req_v2: family, protocol, extensions, padding, states, an inet_diag_sockid."""
_MESSAGE: Final = struct.Struct("=BBBB4s16s16sI8sIIIII")
"""inet_diag_msg: family, state, timer, retransmits; both ports, source, destination, interface and
cookie (inet_diag_sockid); expiry, two queues, uid, inode."""
_ATTRIBUTE: Final = struct.Struct("=HH")
_RECEIVE_BYTES: Final = 1 << 16
_DUMPS: Final = 8
"""How often a dump that changed under our eyes is taken again."""

_PROTOCOLS: Final = {
    "tcp": (socket.IPPROTO_TCP, 1 << TCP_LISTEN),
    "udp": (socket.IPPROTO_UDP, 1 << TCP_CLOSE),
}


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


def listeners(protocol: str) -> tuple[Listener, ...]:
    """Every listening (`tcp`) or bound (`udp`) socket of this namespace, both families.

    No capability is needed. `Unsupported` when the kernel lacks the diag module for the protocol,
    `DecodeError` when it says something that is no dump.
    """
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG
    ) as netlink:
        netlink.bind((0, 0))
        return tuple(
            listener
            for family in (socket.AF_INET, socket.AF_INET6)
            for listener in _dump_family(netlink, family, protocol)
        )


def _dump_family(netlink: socket.socket, family: int, protocol: str) -> list[Listener]:
    """One family's dump, taken again while the table changes during it."""
    number, states = _PROTOCOLS[protocol]
    payload = _REQUEST.pack(family, number, 0, 0, states, bytes(48))
    for sequence in range(1, _DUMPS + 1):
        size = _HEADER.size + len(payload)
        flags = NLM_F_REQUEST | NLM_F_DUMP
        netlink.send(_HEADER.pack(size, SOCK_DIAG_BY_FAMILY, flags, sequence, 0) + payload)
        found: list[Listener] = []
        whole = True
        for kind, message_flags, body in _messages(netlink, sequence):
            whole = whole and not message_flags & NLM_F_DUMP_INTR
            if kind == SOCK_DIAG_BY_FAMILY:
                found.append(decode_listener(protocol, body))
        if whole:
            return found
    return found


def _messages(netlink: socket.socket, sequence: int) -> Iterator[tuple[int, int, bytes]]:
    """(type, flags, body) of each message that answers `sequence`, up to NLMSG_DONE."""
    while True:
        data = netlink.recv(_RECEIVE_BYTES)
        for kind, flags, number, body in split_messages(data):
            if number != sequence:
                continue
            if kind in (NLMSG_DONE, NLMSG_ERROR):
                _raise_error(body)
                yield kind, flags, b""
                return
            yield kind, flags, body


def split_messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """(type, flags, sequence, body) of each netlink message in `data`."""
    offset = 0
    while offset < len(data):
        if len(data) - offset < _HEADER.size:
            raise DecodeError("sock_diag", "a netlink header is cut off")
        size, kind, flags, sequence, _port = _HEADER.unpack_from(data, offset)
        if size < _HEADER.size or size > len(data) - offset:
            raise DecodeError("sock_diag", f"a netlink message claims {size} bytes")
        yield kind, flags, sequence, data[offset + _HEADER.size : offset + size]
        offset += (size + 3) & ~3


def _raise_error(body: bytes) -> None:
    """Both NLMSG_ERROR and NLMSG_DONE begin with a negative errno, or 0."""
    if len(body) < 4:
        return
    number = -struct.unpack_from("=i", body)[0]
    if number in (errno.ENOENT, errno.EOPNOTSUPP):
        raise Unsupported(
            "sock_diag",
            "this kernel cannot list sockets of this kind",
            hint="load the modules tcp_diag and udp_diag (CONFIG_INET_DIAG, CONFIG_INET_UDP_DIAG)",
        )
    if number:
        raise OSError(number, f"sock_diag dump: {os.strerror(number)}")


def decode_listener(protocol: str, body: bytes) -> Listener:
    """One `inet_diag_msg` with its attributes."""
    if len(body) < _MESSAGE.size:
        raise DecodeError("sock_diag", f"an inet_diag_msg of {len(body)} bytes")
    family, _state, _timer, _retrans, ports, source, _dst, interface, *_ = _MESSAGE.unpack_from(
        body
    )
    address = source[:4] if family == socket.AF_INET else source
    v6only = False
    for kind, value in _attributes(body[_MESSAGE.size :]):
        if kind == INET_DIAG_SKV6ONLY:
            v6only = value[:1] == b"\x01"
    return Listener(
        protocol=protocol,
        address=str(ip_address(address)),
        port=int.from_bytes(ports[:2], "big"),
        v6only=v6only,
        interface=interface,
    )


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, offset)
        if size < _ATTRIBUTE.size or offset + size > len(data):
            raise DecodeError("sock_diag", f"an attribute claims {size} bytes")
        yield kind, data[offset + _ATTRIBUTE.size : offset + size]
        offset += (size + 3) & ~3
