"""The table of connections: ctnetlink, linux/netfilter/nfnetlink_conntrack.h.

Builders return a `Request` for a `Netlink` of NETLINK_NETFILTER. All need CAP_NET_ADMIN over the
network namespace.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from hostlab.errors import DecodeError
from hostlab.linux.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    Netlink,
    Request,
    attribute,
    attributes,
)

NETLINK_NETFILTER: Final = 12
NFNL_SUBSYS_CTNETLINK: Final = 1
IPCTNL_MSG_CT_NEW, IPCTNL_MSG_CT_GET, IPCTNL_MSG_CT_DELETE = 0, 1, 2
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_STATUS, CTA_PROTOINFO = 1, 2, 3, 4
CTA_TIMEOUT, CTA_TUPLE_MASTER = 7, 14
CTA_TUPLE_IP, CTA_TUPLE_PROTO = 1, 2
CTA_IP_V4_SRC, CTA_IP_V4_DST, CTA_IP_V6_SRC, CTA_IP_V6_DST = 1, 2, 3, 4
CTA_PROTO_NUM, CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT = 1, 2, 3
CTA_PROTO_ICMP_ID, CTA_PROTO_ICMP_TYPE, CTA_PROTO_ICMP_CODE = 4, 5, 6
CTA_PROTO_ICMPV6_ID, CTA_PROTO_ICMPV6_TYPE, CTA_PROTO_ICMPV6_CODE = 7, 8, 9
CTA_PROTOINFO_TCP: Final = 1
CTA_PROTOINFO_TCP_STATE: Final = 1
CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, CTA_PROTOINFO_TCP_FLAGS_REPLY = 4, 5
IPS_EXPECTED, IPS_SEEN_REPLY, IPS_ASSURED, IPS_CONFIRMED = 1, 2, 4, 8
TCP_CONNTRACK_ESTABLISHED: Final = 3
IP_CT_TCP_FLAG_BE_LIBERAL: Final = 0x08
IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_ICMPV6 = 1, 6, 58
_WITH_PORTS: Final = frozenset({IPPROTO_TCP, 17, 33, 132, 136})
TIMEOUT_S: Final = 600
_NESTED: Final = 0x8000
_OPPOSITE: Final = {8: 0, 13: 14, 15: 16, 17: 18, 128: 129, 139: 140}
"""A request of ICMP or ICMPv6 -> its answer; nf_conntrack_proto_icmp.c."""
_ANSWERS: Final = {answer: request for request, answer in _OPPOSITE.items()}


class Tuple(NamedTuple):
    """One direction of a connection, as conntrack tells it by a packet."""

    source: bytes
    destination: bytes
    protocol: int
    source_port: int = 0
    """The identifier of an ICMP packet."""
    destination_port: int = 0
    """The type and code of an ICMP packet, in two bytes."""

    @property
    def is_icmp(self) -> bool:
        """Whether it has a type in place of ports."""
        return self.protocol in (IPPROTO_ICMP, IPPROTO_ICMPV6)

    @property
    def is_answer(self) -> bool:
        """Whether it is an ICMP packet that only ever answers another."""
        return self.is_icmp and self.destination_port >> 8 in _ANSWERS

    def opposite(self) -> Tuple:
        """The other direction, without NAT."""
        if not self.is_icmp:
            ports = self.destination_port, self.source_port
        else:
            kind = self.destination_port >> 8
            other = _OPPOSITE.get(kind, _ANSWERS.get(kind, kind))
            ports = self.source_port, other << 8 | self.destination_port & 0xFF
        return Tuple(self.destination, self.source, self.protocol, *ports)

    def encoded(self) -> bytes:
        """As the value of CTA_TUPLE_ORIG and its like."""
        is_v6 = len(self.source) == 16
        ends = (CTA_IP_V6_SRC, CTA_IP_V6_DST) if is_v6 else (CTA_IP_V4_SRC, CTA_IP_V4_DST)
        ip = attribute(ends[0], self.source) + attribute(ends[1], self.destination)
        proto = attribute(CTA_PROTO_NUM, bytes([self.protocol]))
        if self.protocol in _WITH_PORTS:
            proto += attribute(CTA_PROTO_SRC_PORT, self.source_port.to_bytes(2))
            proto += attribute(CTA_PROTO_DST_PORT, self.destination_port.to_bytes(2))
        elif self.is_icmp:
            first = CTA_PROTO_ICMPV6_ID if is_v6 else CTA_PROTO_ICMP_ID
            kind, code = divmod(self.destination_port, 256)
            proto += attribute(first, self.source_port.to_bytes(2))
            proto += attribute(first + 1, bytes([kind])) + attribute(first + 2, bytes([code]))
        return attribute(CTA_TUPLE_IP | _NESTED, ip) + attribute(CTA_TUPLE_PROTO | _NESTED, proto)


class Entry(NamedTuple):
    """A connection of the table."""

    original: Tuple
    reply: Tuple
    status: int
    """IPS_*."""


def _nfgenmsg(family: int) -> bytes:
    return struct.pack("=BBH", family, 0, 0)


def _kind(message: int) -> int:
    return NFNL_SUBSYS_CTNETLINK << 8 | message


def create(original: Tuple, *, status: int, master: Tuple | None = None) -> Request:
    """Add a connection without NAT; IPS_CONFIRMED is always set. OSError EEXIST when it is there.

    With a `master`, itself a connection of the table, the kernel makes it IPS_EXPECTED: its first
    packet is `related`.
    """
    family = socket.AF_INET6 if len(original.source) == 16 else socket.AF_INET
    body = _nfgenmsg(family)
    body += attribute(CTA_TUPLE_ORIG | _NESTED, original.encoded())
    body += attribute(CTA_TUPLE_REPLY | _NESTED, original.opposite().encoded())
    if master is not None:
        body += attribute(CTA_TUPLE_MASTER | _NESTED, master.encoded())
    body += attribute(CTA_STATUS, struct.pack("!I", status | IPS_CONFIRMED))
    body += attribute(CTA_TIMEOUT, struct.pack("!I", TIMEOUT_S))
    if original.protocol == IPPROTO_TCP:
        liberal = bytes([IP_CT_TCP_FLAG_BE_LIBERAL, IP_CT_TCP_FLAG_BE_LIBERAL])
        tcp = attribute(CTA_PROTOINFO_TCP_STATE, bytes([TCP_CONNTRACK_ESTABLISHED]))
        tcp += attribute(CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, liberal)
        tcp += attribute(CTA_PROTOINFO_TCP_FLAGS_REPLY, liberal)
        info = attribute(CTA_PROTOINFO_TCP | _NESTED, tcp)
        body += attribute(CTA_PROTOINFO | _NESTED, info)
    flags = NLM_F_CREATE | NLM_F_EXCL
    return Request(_kind(IPCTNL_MSG_CT_NEW), flags, body, "add a connection")


def flush() -> Request:
    """Forget every connection of the namespace, of both families."""
    return Request(
        _kind(IPCTNL_MSG_CT_DELETE), 0, _nfgenmsg(socket.AF_UNSPEC), "forget connections"
    )


def entries(netlink: Netlink) -> Iterator[Entry]:
    """Every connection of the namespace."""
    request = Request(_kind(IPCTNL_MSG_CT_GET), 0, _nfgenmsg(socket.AF_UNSPEC), "list connections")
    for _, body in netlink.dump(request):
        found = dict(attributes(body[4:]))
        status = found.get(CTA_STATUS, b"")
        if len(status) != 4:
            raise DecodeError("conntrack", "a connection without a status")
        yield Entry(
            _decoded(found.get(CTA_TUPLE_ORIG, b"")),
            _decoded(found.get(CTA_TUPLE_REPLY, b"")),
            int.from_bytes(status),
        )


def _decoded(data: bytes) -> Tuple:
    parts = dict(attributes(data))
    ip = dict(attributes(parts.get(CTA_TUPLE_IP, b"")))
    proto = dict(attributes(parts.get(CTA_TUPLE_PROTO, b"")))
    source = ip.get(CTA_IP_V4_SRC) or ip.get(CTA_IP_V6_SRC)
    destination = ip.get(CTA_IP_V4_DST) or ip.get(CTA_IP_V6_DST)
    number = proto.get(CTA_PROTO_NUM)
    if not source or not destination or not number:
        raise DecodeError("conntrack", "a connection without its ends")
    first = CTA_PROTO_ICMPV6_ID if number[0] == IPPROTO_ICMPV6 else CTA_PROTO_ICMP_ID
    if first in proto:
        kind, code = proto.get(first + 1, b"\0"), proto.get(first + 2, b"\0")
        ports = int.from_bytes(proto[first]), kind[0] << 8 | code[0]
    else:
        ports = (
            int.from_bytes(proto.get(CTA_PROTO_SRC_PORT, b"")),
            int.from_bytes(proto.get(CTA_PROTO_DST_PORT, b"")),
        )
    return Tuple(source, destination, number[0], *ports)
