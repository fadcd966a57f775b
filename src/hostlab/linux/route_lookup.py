"""Which way a packet would go, asked of the kernel itself without sending one: RTM_GETROUTE.

The question goes through the kernel's own rules and tables, as a packet's would (rtnetlink(7);
`inet_rtm_getroute` of net/ipv4/route.c and `inet6_rtm_getroute` of net/ipv6/route.c). It is
answered with the whole entry of the table and so with every next hop of equal cost
(RTM_F_FIB_MATCH, Linux 4.13 for IPv4 and 4.18 for IPv6), not with the one that a hash picks. Nobody
needs a capability.
"""

from __future__ import annotations

import errno
import socket
import struct
from enum import StrEnum
from ipaddress import ip_address
from typing import Final, NamedTuple

from hostlab.errors import DecodeError
from hostlab.linux.netlink import Netlink, Request, attribute, attributes
from hostlab.linux.rtmonitor import RouteTold, decode_route
from hostlab.linux.rtnetlink import RTA_DST, RTM_GETROUTE

RTM_F_FIB_MATCH: Final = 0x2000
RTA_SRC, RTA_IIF, RTA_PREFSRC = 2, 3, 7
RTM_GETNETCONF: Final = 82
NETCONFA_IFINDEX, NETCONFA_FORWARDING = 1, 2
NETCONFA_IFINDEX_ALL: Final = -1
RTN_UNICAST, RTN_LOCAL, RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_PROHIBIT = 1, 2, 6, 7, 8
RTN_THROW: Final = 9

_RTMSG: Final = struct.Struct("=BBBBBBBBI")
_NETCONFMSG: Final = struct.Struct("=Bxxx")
_I32: Final = struct.Struct("=i")
_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}

PROTOCOLS: Final = {
    0: "unspec",
    1: "redirect",
    2: "kernel",
    3: "boot",
    4: "static",
    9: "ra",
    11: "zebra",
    12: "bird",
    16: "dhcp",
    17: "mrouted",
    18: "keepalived",
    42: "babel",
    186: "bgp",
    187: "isis",
    188: "ospf",
    189: "rip",
    190: "ripng",
    191: "nhrp",
    192: "eigrp",
    194: "sharp",
    195: "pbr",
    196: "static",
    197: "openfabric",
}
"""Who put a route there, by rtm_protocol: uapi/linux/rtnetlink.h, and from 190 on FRR's
zebra/rt_netlink.h. FRR's static routes are 196 and called `static` as everyone's."""

KINDS: Final = {
    RTN_UNICAST: "unicast",
    RTN_LOCAL: "local",
    3: "broadcast",
    4: "anycast",
    5: "multicast",
    RTN_BLACKHOLE: "blackhole",
    RTN_UNREACHABLE: "unreachable",
    RTN_PROHIBIT: "prohibit",
    RTN_THROW: "throw",
}
"""What a route does with packets, by rtm_type."""


class Refusal(StrEnum):
    """Why a kernel sends a packet nowhere."""

    NO_ROUTE = "no-route"
    BLACKHOLE = "blackhole"
    UNREACHABLE = "unreachable"
    PROHIBIT = "prohibit"
    REVERSE_PATH = "reverse-path"
    """The way back to its source is by another interface (`rp_filter`)."""
    OWN_SOURCE = "own-source"
    """It comes from outside with a source that this host has itself."""


_REFUSALS: Final = {
    errno.ENETUNREACH: Refusal.NO_ROUTE,
    errno.ESRCH: Refusal.NO_ROUTE,
    errno.EINVAL: Refusal.BLACKHOLE,
    errno.EHOSTUNREACH: Refusal.UNREACHABLE,
    errno.EACCES: Refusal.PROHIBIT,
    errno.EXDEV: Refusal.REVERSE_PATH,
}
"""What the kernel answers instead of an entry: `fib_props` of net/ipv4/fib_semantics.c."""

_REFUSING: Final = {
    RTN_BLACKHOLE: Refusal.BLACKHOLE,
    RTN_UNREACHABLE: Refusal.UNREACHABLE,
    RTN_PROHIBIT: Refusal.PROHIBIT,
    RTN_THROW: Refusal.NO_ROUTE,
}


class Answer(NamedTuple):
    """What a kernel would do with a packet: an entry of its tables, or a refusal, or both."""

    route: RouteTold | None
    refusal: Refusal | None = None


def protocol_name(number: int) -> str:
    """Who gave a route, as `ip route` says it; the number of one that nobody has named."""
    return PROTOCOLS.get(number, str(number))


def look_up(
    netlink: Netlink, to: str, *, source: str | None = None, arriving_on: int = 0
) -> Answer:
    """What the kernel of the socket's namespace does with a packet to an address.

    With `arriving_on`, the index of an interface, the packet comes from outside and is to be
    forwarded; without, it is one of the host's own. OSError for what is no answer (a wrong index).
    """
    try:
        route = _ask(netlink, to, source, arriving_on, RTM_F_FIB_MATCH)
    except OSError as error:
        refusal = _REFUSALS.get(error.errno or 0)
        if refusal is None:
            raise
        if refusal is Refusal.BLACKHOLE and arriving_on and source is not None:
            refusal = _refused_on_arrival(netlink, to, source)
        return Answer(None, refusal)
    told = _decoded(route)
    return Answer(told, _REFUSING.get(told.type))


def _refused_on_arrival(netlink: Netlink, to: str, source: str) -> Refusal:
    """What EINVAL means of a packet from outside: since Linux 6.13 its source's refusals, too."""
    if look_up(netlink, to).refusal is Refusal.BLACKHOLE:
        return Refusal.BLACKHOLE
    back = look_up(netlink, source).route
    is_own = back is not None and back.type == RTN_LOCAL
    return Refusal.OWN_SOURCE if is_own else Refusal.REVERSE_PATH


def source_for(netlink: Netlink, to: str) -> str | None:
    """The source address that the host would give a packet to `to`; None where it sends none."""
    try:
        body = _ask(netlink, to, None, 0, 0)
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        return None
    packed = dict(attributes(body[_RTMSG.size :])).get(RTA_PREFSRC)
    return None if packed is None else str(ip_address(packed))


def _ask(netlink: Netlink, to: str, source: str | None, arriving_on: int, flags: int) -> bytes:
    target = ip_address(to)
    length = target.max_prefixlen
    source_length = 0 if source is None else length
    family = _FAMILIES[target.version]
    body = _RTMSG.pack(family, length, source_length, 0, 0, 0, 0, 0, flags)
    body += attribute(RTA_DST, target.packed)
    if source is not None:
        body += attribute(RTA_SRC, ip_address(source).packed)
    if arriving_on:
        body += attribute(RTA_IIF, _I32.pack(arriving_on))
    answers = list(netlink.ask(Request(RTM_GETROUTE, 0, body, f"look up {to}")))
    if not answers:
        raise DecodeError("netlink", f"no answer where {to} is")
    return answers[0]


def _decoded(body: bytes) -> RouteTold:
    try:
        # The answer to one question is marked as if it were of a cache.
        clear = body[:8] + bytes(4) + body[12:]
        told = decode_route(clear)
    except (struct.error, ValueError) as error:
        raise DecodeError("netlink", f"a route of {len(body)} bytes: {error}") from None
    if told is None:
        raise DecodeError("netlink", "a route of another family than asked for")
    return told


def forwards(netlink: Netlink, version: int, index: int) -> bool:
    """Whether packets of a family that arrive on an interface are passed on.

    IPv4 has this for each interface, IPv6 for the whole host (ip-sysctl, `forwarding`).
    """
    which = index if version == 4 else NETCONFA_IFINDEX_ALL
    body = _NETCONFMSG.pack(_FAMILIES[version])
    body += attribute(NETCONFA_IFINDEX, _I32.pack(which))
    for answer in netlink.ask(Request(RTM_GETNETCONF, 0, body, f"ask for forwarding of {index}")):
        values = dict(attributes(answer[_NETCONFMSG.size :]))
        if len(values.get(NETCONFA_FORWARDING, b"")) == _I32.size:
            return bool(_I32.unpack(values[NETCONFA_FORWARDING])[0])
    return False
