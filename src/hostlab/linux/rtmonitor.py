"""What rtnetlink(7) tells everybody: links, addresses, routes and neighbours that come and go.

A socket joins the groups that are wanted and is read without blocking. When messages come faster
than they are read the kernel drops some and says so once, by ENOBUFS: then whoever reads asks for
everything (`dump`). A change is told in the same form as an entry of a dump.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from typing import Final, NamedTuple

from hostlab.errors import DecodeError
from hostlab.linux.netlink import RECEIVE_BYTES, Netlink, Request, attributes, messages
from hostlab.linux.rtnetlink import (
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELNEIGH,
    RTM_DELROUTE,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_GETROUTE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWNEIGH,
    RTM_NEWROUTE,
    Link,
    decode_link,
)

RTNLGRP_LINK: Final = 1
RTNLGRP_NEIGH: Final = 3
RTNLGRP_IPV4_IFADDR: Final = 5
RTNLGRP_IPV4_ROUTE: Final = 7
RTNLGRP_IPV6_IFADDR: Final = 9
RTNLGRP_IPV6_ROUTE: Final = 11
RTNLGRP_IPV4_NETCONF: Final = 24
RTM_GETNEIGH: Final = 30
RTM_NEWNETCONF, RTM_GETNETCONF = 80, 82
NLM_F_REPLACE: Final = 0x100
IFF_UP: Final = 0x1
IFF_LOWER_UP: Final = 0x10000
"""The cable is plugged in and the other end is up."""
IFA_F_TENTATIVE: Final = 0x40
IFA_F_OPTIMISTIC: Final = 0x04
NUD_KNOWN: Final = 0x9E
"""permanent, reachable, probe, stale or delay: who answers is known (neighbour.h). Not noarp, by
which the kernel notes multicast groups."""
RT_TABLE_LOCAL: Final = 255
RTM_F_CLONED: Final = 0x200
"""An entry of a cache, not of a table."""
RECEIVE_BUFFER_BYTES: Final = 1 << 20
MOST_DISCARDED: Final = 1 << 16
"""Datagrams: more than the largest receive buffer holds."""
_NETLINK_ADD_MEMBERSHIP: Final = 1
_SOL_NETLINK: Final = 270
_IFADDR: Final = struct.Struct("=BBBBI")
_RTMSG: Final = struct.Struct("=BBBBBBBBI")
_NDMSG: Final = struct.Struct("=BxxxiHBB")
_NEXTHOP: Final = struct.Struct("=HBBi")
_U32: Final = struct.Struct("=I")
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_MULTIPATH = 1, 4, 5, 6, 9
_RTA_TABLE, _RTA_VIA = 15, 18
_NDA_DST, _NDA_LLADDR = 1, 2
_NETCONFA_IFINDEX, _NETCONFA_MC_FORWARDING = 1, 4
_S32: Final = struct.Struct("=i")
_FAMILIES: Final = {socket.AF_INET: "inet", socket.AF_INET6: "inet6"}


class LinkTold(NamedTuple):
    """A link is there, or no more."""

    link: Link
    is_gone: bool


class AddressTold(NamedTuple):
    """An address is there, or no more."""

    ifindex: int
    address: str
    """With the length of its prefix."""
    family: str
    scope: int
    is_tentative: bool
    """Whether others have it is still being found out: it cannot be used yet."""
    is_gone: bool


class RouteTold(NamedTuple):
    """A route is there, or no more."""

    family: str
    to: str
    """A prefix, or `default`."""
    hops: tuple[tuple[str, int], ...]
    """(gateway, index) of each next hop; the gateway is empty on a link of one's own."""
    metric: int
    table: int
    type: int
    protocol: int
    replaces: bool
    """Instead of another of the same prefix and metric."""
    is_gone: bool


class NeighbourTold(NamedTuple):
    """What is known of a neighbour."""

    ifindex: int
    address: str
    mac: str
    is_valid: bool
    """False: it does not answer, or is not known any more."""


class ForwardingTold(NamedTuple):
    """Whether IPv4 multicast is routed on a link."""

    ifindex: int
    """Negative: of all links together, or of those to come."""
    forwards_multicast: bool


Told = LinkTold | AddressTold | RouteTold | NeighbourTold | ForwardingTold


class Monitor:
    """A socket that is told of changes, in the network namespace where it is made."""

    def __init__(self, groups: Iterable[int] = (), *, adopted: socket.socket | None = None) -> None:
        """`adopted` is a Monitor's `socket`, made elsewhere and now this one's."""
        if adopted is not None:
            self.socket = adopted
            return
        self.socket = socket.socket(
            socket.AF_NETLINK,
            socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
            socket.NETLINK_ROUTE,
        )
        with contextlib.ExitStack() as stack:
            stack.callback(self.socket.close)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            self.socket.bind((0, 0))
            for group in groups:
                self.socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
            stack.pop_all()

    def read(self) -> list[Told] | None:
        """The changes of one datagram; None when the kernel had to drop some."""
        try:
            data, (sender, _) = self.socket.recvfrom(RECEIVE_BYTES)
        except BlockingIOError:
            return []
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                return None
            raise
        if sender:
            # Anybody in the namespace may send; the kernel alone is number 0 (netlink(7)).
            return []
        found = (decode(kind, flags, body) for kind, flags, _, body in messages(data))
        return [told for told in found if told is not None]

    def discard(self) -> None:
        """Throw away what was told up to now, for one who asks for everything."""
        for _ in range(MOST_DISCARDED):
            try:
                if not self.socket.recv(1):
                    return
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise

    def close(self) -> None:
        """Hear no more."""
        self.socket.close()


def dump(netlink: Netlink, what: int) -> Iterator[Told]:
    """Everything of one sort: RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE, RTM_GETNEIGH or
    RTM_GETNETCONF, which is IPv4's."""
    sizes = {RTM_GETLINK: 16, RTM_GETADDR: 8, RTM_GETROUTE: 12, RTM_GETNEIGH: 12}
    body = bytes([socket.AF_INET]) if what == RTM_GETNETCONF else bytes(sizes[what])
    request = Request(what, 0, body, "list what is there")
    for kind, body in netlink.dump(request):
        told = decode(kind, 0, body)
        if told is not None:
            yield told


def decode(kind: int, flags: int, body: bytes) -> Told | None:
    """A message; None of another sort, or of what no table has. DecodeError of a broken one."""
    try:
        if kind in (RTM_NEWLINK, RTM_DELLINK):
            # Bridges tell of their ports in messages of a family of their own.
            return LinkTold(decode_link(body), kind == RTM_DELLINK) if body[:1] == b"\0" else None
        if kind in (RTM_NEWADDR, RTM_DELADDR):
            return _address(body, is_gone=kind == RTM_DELADDR)
        if kind in (RTM_NEWROUTE, RTM_DELROUTE):
            replaces = bool(flags & NLM_F_REPLACE)
            return _route(body, replaces=replaces, is_gone=kind == RTM_DELROUTE)
        if kind in (RTM_NEWNEIGH, RTM_DELNEIGH):
            return _neighbour(body, is_gone=kind == RTM_DELNEIGH)
        if kind == RTM_NEWNETCONF:
            return _forwarding(body)
        return None
    except (struct.error, ValueError) as error:
        raise DecodeError("netlink", f"message {kind} of {len(body)} bytes: {error}") from None


def _address(body: bytes, *, is_gone: bool) -> AddressTold | None:
    family, prefix, flags, scope, index = _IFADDR.unpack_from(body)
    values = dict(attributes(body[_IFADDR.size :]))
    packed = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
    if packed is None or family not in _FAMILIES:
        return None
    if _IFA_FLAGS in values:
        (flags,) = _U32.unpack(values[_IFA_FLAGS])
    is_tentative = bool(flags & IFA_F_TENTATIVE) and not flags & IFA_F_OPTIMISTIC
    address = f"{ip_address(packed)}/{prefix}"
    return AddressTold(index, address, _FAMILIES[family], scope, is_tentative, is_gone)


def _route(body: bytes, *, replaces: bool, is_gone: bool) -> RouteTold | None:
    route = decode_route(body, replaces=replaces, is_gone=is_gone)
    return None if route is None or route.table == RT_TABLE_LOCAL else route


def decode_route(body: bytes, *, replaces: bool = False, is_gone: bool = False) -> RouteTold | None:
    """A route of any table; None of a family that is none of ours, or of a cache.

    struct.error or ValueError when the message is broken.
    """
    family, length, _, _, table, protocol, _, type_, flags = _RTMSG.unpack_from(body)
    values = dict(attributes(body[_RTMSG.size :]))
    if _RTA_TABLE in values:
        (table,) = _U32.unpack(values[_RTA_TABLE])
    if family not in _FAMILIES or flags & RTM_F_CLONED:
        return None
    to = f"{ip_address(values[_RTA_DST])}/{length}" if _RTA_DST in values else "default"
    metric = _U32.unpack(values[_RTA_PRIORITY])[0] if _RTA_PRIORITY in values else 0
    if _RTA_MULTIPATH in values:
        hops = tuple(_hops(values[_RTA_MULTIPATH]))
    else:
        index = _U32.unpack(values[_RTA_OIF])[0] if _RTA_OIF in values else 0
        hops = ((_gateway(values), index),)
    name = _FAMILIES[family]
    return RouteTold(name, to, hops, metric, table, type_, protocol, replaces, is_gone)


def _hops(data: bytes) -> Iterator[tuple[str, int]]:
    """Next hops: each a length, flags, a weight and an index, with attributes of its own."""
    offset = 0
    while offset + _NEXTHOP.size <= len(data):
        length, _, _, index = _NEXTHOP.unpack_from(data, offset)
        if length < _NEXTHOP.size:
            raise ValueError(f"a next hop of {length} bytes")
        values = dict(attributes(data[offset + _NEXTHOP.size : offset + length]))
        yield _gateway(values), index
        offset += length + (-length & 3)


def _gateway(values: dict[int, bytes]) -> str:
    if _RTA_GATEWAY in values:
        return str(ip_address(values[_RTA_GATEWAY]))
    # A gateway of the other family (RFC 5549) has that family before it.
    return str(ip_address(values[_RTA_VIA][2:])) if _RTA_VIA in values else ""


def _forwarding(body: bytes) -> ForwardingTold | None:
    # Behind the family of one byte attributes are at the next multiple of four.
    values = dict(attributes(body[4:]))
    has_all = {_NETCONFA_IFINDEX, _NETCONFA_MC_FORWARDING} <= values.keys()
    if body[:1] != bytes([socket.AF_INET]) or not has_all:
        return None
    (index,) = _S32.unpack(values[_NETCONFA_IFINDEX])
    (forwards,) = _S32.unpack(values[_NETCONFA_MC_FORWARDING])
    return ForwardingTold(index, bool(forwards))


def _neighbour(body: bytes, *, is_gone: bool) -> NeighbourTold | None:
    family, index, state, _, _ = _NDMSG.unpack_from(body)
    values = dict(attributes(body[_NDMSG.size :]))
    if family not in _FAMILIES or _NDA_DST not in values:
        return None
    mac = values.get(_NDA_LLADDR, b"").hex(":")
    is_valid = not is_gone and bool(state & NUD_KNOWN) and bool(mac)
    return NeighbourTold(index, str(ip_address(values[_NDA_DST])), mac, is_valid)
