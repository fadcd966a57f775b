"""Links, addresses, routes and neighbours: rtnetlink(7), the part that staging needs.

Builders return a `Request`; a caller gathers as many as it likes and sends them in one batch
through `Netlink.request`. Interface indexes are chosen by the caller where a later request of the
same batch must name a link that an earlier one makes.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address, ip_interface, ip_network
from typing import Final

import msgspec

from hostlab.errors import DecodeError
from hostlab.linux.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Netlink,
    Request,
    attribute,
    attributes,
)

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
RTM_NEWLINKPROP: Final = 108

IFF_UP: Final = 0x1
IFF_NOARP: Final = 0x80
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO = 1, 3, 4, 5, 10, 18
IFLA_NET_NS_PID, IFLA_NET_NS_FD, IFLA_PROP_LIST, IFLA_ALT_IFNAME = 19, 28, 52, 53
IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS = 29, 1 << 3
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFLA_BR_GROUP_FWD_MASK: Final = 9
LLDP_GROUP: Final = 1 << 0x0E
"""The bit of 01:80:c2:00:00:0e, to which LLDP is sent (IEEE 802.1AB)."""
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
IFA_F_NODAD: Final = 0x02
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_TABLE = 1, 4, 5, 6, 15
NDA_DST, NDA_LLADDR = 1, 2
NUD_REACHABLE: Final = 0x02
NTF_EXT_LEARNED: Final = 0x10
NLA_F_NESTED: Final = 0x8000
RT_TABLE_MAIN, RT_TABLE_LOCAL = 254, 255
RTN_UNICAST, RTN_LOCAL = 1, 2
RTPROT_STATIC: Final = 4
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, RT_SCOPE_HOST = 0, 253, 254
RTPROT_KERNEL: Final = 2
RTM_F_CLONED: Final = 0x200
RTNH_F_ONLINK: Final = 4
RTNH_F_DEAD: Final = 1
RTNH_F_LINKDOWN: Final = 16

_IFINFO: Final = struct.Struct("=BxHiII")
_IFADDR: Final = struct.Struct("=BBBBI")
_RTMSG: Final = struct.Struct("=BBBBBBBBI")
_NDMSG: Final = struct.Struct("=BxxxiHBB")
_U16: Final = struct.Struct("=H")
_U32: Final = struct.Struct("=I")


class Link(msgspec.Struct, frozen=True):
    """What the kernel tells of a link."""

    index: int
    name: str
    mac: str
    mtu: int
    flags: int
    master: int
    kind: str
    altnames: tuple[str, ...]
    peer: int
    """A veth's other end: its index in whatever namespace it is."""


def mac_bytes(mac: str) -> bytes:
    """`02:00:00:00:00:01` as six bytes."""
    return bytes.fromhex(mac.replace(":", ""))


def link_local(mac: str) -> str:
    """The link-local address that a kernel makes of a MAC address (RFC 4291, appendix A)."""
    octets = mac_bytes(mac)
    identifier = bytes((octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]))
    return str(IPv6Address(bytes((0xFE, 0x80, *bytes(6))) + identifier))


def _family(version: int) -> int:
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _name(name: str) -> bytes:
    return attribute(IFLA_IFNAME, name.encode() + b"\0")


def _link_kind(kind: bytes, data: bytes = b"") -> bytes:
    info = attribute(IFLA_INFO_KIND, kind)
    if data:
        info += attribute(IFLA_INFO_DATA, data)
    return attribute(IFLA_LINKINFO, info)


def bridge_add(name: str, index: int, *, mtu: int, mac: str) -> Request:
    """A bridge that stays down: ports are added first (see design.md, "Bridges go up last").

    It passes LLDP on, as a cable does and a bridge does not: its ports are to be neighbours.
    """
    body = _IFINFO.pack(0, 0, index, 0, 0) + _name(name) + attribute(IFLA_MTU, _U32.pack(mtu))
    lldp = attribute(IFLA_BR_GROUP_FWD_MASK, _U16.pack(LLDP_GROUP))
    body += attribute(IFLA_ADDRESS, mac_bytes(mac)) + _link_kind(b"bridge", lldp)
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"add bridge {name}")


class VethEnd(msgspec.Struct, frozen=True):
    """One end of a veth pair; `namespace_fd` None is the socket's own namespace."""

    name: str
    index: int
    mac: str | None = None
    namespace_fd: int | None = None
    master: int = 0
    up: bool = False

    def attributes(self, mtu: int) -> bytes:
        """This end's attributes, as the message itself or its nested peer carries them."""
        body = _name(self.name) + attribute(IFLA_MTU, _U32.pack(mtu))
        if self.mac is not None:
            body += attribute(IFLA_ADDRESS, mac_bytes(self.mac))
        if self.namespace_fd is not None:
            body += attribute(IFLA_NET_NS_FD, _U32.pack(self.namespace_fd))
        if self.master:
            body += attribute(IFLA_MASTER, _U32.pack(self.master))
        return body

    def header(self) -> bytes:
        """The ifinfomsg of this end."""
        flags = IFF_UP if self.up else 0
        return _IFINFO.pack(0, 0, self.index, flags, flags)


def veth_add(end: VethEnd, peer: VethEnd, *, mtu: int) -> Request:
    """A veth pair in one request, each end in its namespace, named and numbered.

    The kernel takes the peer's index only where the first end has one too
    (drivers/net/veth.c, veth_newlink).
    """
    nested = attribute(VETH_INFO_PEER, peer.header() + peer.attributes(mtu))
    body = end.header() + end.attributes(mtu) + _link_kind(b"veth", nested)
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"add veth {end.name}")


def link_set(
    index: int,
    *,
    up: bool | None = None,
    arp: bool | None = None,
    mtu: int | None = None,
    master: int | None = None,
) -> Request:
    """Change a link; None leaves a property as it is, master 0 takes it off its bridge.

    Without `arp` nobody is asked for, in IPv6 neither: every neighbour has the link's own address.
    """
    flags = (IFF_UP if up else 0) | (IFF_NOARP if arp is False else 0)
    change = (0 if up is None else IFF_UP) | (0 if arp is None else IFF_NOARP)
    body = _IFINFO.pack(0, 0, index, flags, change)
    if mtu is not None:
        body += attribute(IFLA_MTU, _U32.pack(mtu))
    if master is not None:
        body += attribute(IFLA_MASTER, _U32.pack(master))
    return Request(RTM_NEWLINK, 0, body, f"set link {index}")


def link_delete(index: int) -> Request:
    """Delete a link; a veth takes its peer with it."""
    return Request(RTM_DELLINK, 0, _IFINFO.pack(0, 0, index, 0, 0), f"delete link {index}")


def link_delete_named(altname: str) -> Request:
    """Delete the link of an alternative name (Linux 5.5).

    Its number may be another link's by now: numbers that are asked for are given again.
    """
    body = _IFINFO.pack(0, 0, 0, 0, 0) + attribute(IFLA_ALT_IFNAME, altname.encode() + b"\0")
    return Request(RTM_DELLINK, 0, body, f"delete link {altname}")


def altname_add(index: int, name: str) -> Request:
    """Give a link an alternative name of up to 127 bytes (Linux 5.5)."""
    names = attribute(IFLA_ALT_IFNAME, name.encode() + b"\0")
    body = _IFINFO.pack(0, 0, index, 0, 0) + attribute(IFLA_PROP_LIST | NLA_F_NESTED, names)
    flags = NLM_F_EXCL | NLM_F_CREATE | 0x800
    return Request(RTM_NEWLINKPROP, flags, body, f"name link {index} {name}")


def _address(index: int, address: str) -> bytes:
    parsed = ip_interface(address)
    body = _IFADDR.pack(_family(parsed.version), parsed.network.prefixlen, 0, 0, index)
    packed = parsed.ip.packed
    body += attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed)
    return body + attribute(IFA_FLAGS, _U32.pack(IFA_F_NODAD))


def address_add(index: int, address: str) -> Request:
    """Add `10.0.0.1/24`; v6 without duplicate address detection, so usable at once."""
    flags = NLM_F_CREATE | NLM_F_REPLACE
    return Request(RTM_NEWADDR, flags, _address(index, address), f"add address {address}")


def address_delete(index: int, address: str) -> Request:
    """Take an address off a link."""
    return Request(RTM_DELADDR, 0, _address(index, address), f"delete address {address}")


class Route(msgspec.Struct, frozen=True):
    """What the kernel tells of a unicast route of the main table."""

    to: str
    via: str | None
    index: int
    """Of its interface; 0 where it has several, or none."""
    metric: int
    protocol: int


def _route(
    to: str,
    via: str | None,
    index: int | None,
    metric: int | None,
    kind: int,
    *,
    onlink: bool = False,
) -> bytes:
    prefix = ip_network(to)
    local = kind == RTN_LOCAL
    scope = RT_SCOPE_HOST if local else RT_SCOPE_UNIVERSE if via else RT_SCOPE_LINK
    table = RT_TABLE_LOCAL if local else RT_TABLE_MAIN
    if prefix.version == 6:
        scope = RT_SCOPE_UNIVERSE
    family, protocol = _family(prefix.version), RTPROT_STATIC
    flags = RTNH_F_ONLINK if onlink else 0
    body = _RTMSG.pack(family, prefix.prefixlen, 0, 0, table, protocol, scope, kind, flags)
    if prefix.prefixlen:
        body += attribute(RTA_DST, prefix.network_address.packed)
    if via:
        body += attribute(RTA_GATEWAY, ip_address(via).packed)
    if index is not None:
        body += attribute(RTA_OIF, _U32.pack(index))
    if metric is not None:
        body += attribute(RTA_PRIORITY, _U32.pack(metric))
    return body


def route_add(
    to: str,
    *,
    via: str | None = None,
    index: int | None = None,
    metric: int | None = None,
    onlink: bool = False,
) -> Request:
    """A static route; its next hop must be on a link that is up.

    With `onlink` it is taken to be on the link `index`, whatever the addresses say.
    """
    body = _route(to, via, index, metric, RTN_UNICAST, onlink=onlink)
    how = f"add route {to}" + (f" via {via}" if via else "")
    return Request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, body, how)


def route_delete(
    to: str, *, via: str | None = None, index: int | None = None, metric: int | None = None
) -> Request:
    """Take a static route away."""
    body = _route(to, via, index, metric, RTN_UNICAST)
    return Request(RTM_DELROUTE, 0, body, f"delete route {to}")


def local_route_add(prefix: str, *, index: int = 1) -> Request:
    """Treat `prefix` as this host's own (`ip route add local PREFIX dev lo`)."""
    body = _route(prefix, None, index, None, RTN_LOCAL)
    return Request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body, f"add local {prefix}")


def neighbour_add(index: int, address: bytes, mac: bytes) -> Request:
    """A neighbour learned from outside: not counted by gc_thresh3, never asked for, never aged."""
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    body = _NDMSG.pack(family, index, NUD_REACHABLE, NTF_EXT_LEARNED, 0)
    body += attribute(NDA_DST, address) + attribute(NDA_LLADDR, mac)
    return Request(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, body, "add neighbour")


def learned_neighbours(netlink: Netlink) -> tuple[tuple[int, str, str], ...]:
    """(index, address, MAC) of every neighbour that the kernel was told from outside."""
    request = Request(RTM_GETNEIGH, 0, _NDMSG.pack(0, 0, 0, 0, 0), "list neighbours")
    found = []
    for kind, body in netlink.dump(request):
        if kind != RTM_NEWNEIGH or len(body) < _NDMSG.size:
            continue
        _, index, _, flags, _ = _NDMSG.unpack_from(body)
        values = dict(attributes(body[_NDMSG.size :]))
        if flags & NTF_EXT_LEARNED and NDA_DST in values:
            address = str(ip_address(values[NDA_DST]))
            found.append((index, address, values.get(NDA_LLADDR, b"").hex(":")))
    return tuple(found)


def neighbour_delete(index: int, address: bytes) -> Request:
    """Forget a neighbour."""
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    body = _NDMSG.pack(family, index, 0, 0, 0) + attribute(NDA_DST, address)
    return Request(RTM_DELNEIGH, 0, body, "delete neighbour")


def links(netlink: Netlink) -> tuple[Link, ...]:
    """Every link of the namespace."""
    request = Request(RTM_GETLINK, 0, _IFINFO.pack(0, 0, 0, 0, 0), "list links")
    return tuple(decode_link(body) for kind, body in netlink.dump(request) if kind == RTM_NEWLINK)


def link_of(netlink: Netlink, index: int) -> Link:
    """One link; OSError ENODEV when there is none of this index.

    Asked so, since Linux 6.8, the kernel first does what is still to be done about its carrier
    (rtnl_getlink, linkwatch_sync_dev): then a bridge forwards to it, and what is sent leaves.
    """
    request = Request(RTM_GETLINK, 0, _IFINFO.pack(0, 0, index, 0, 0), f"look at link {index}")
    (body,) = netlink.ask(request)
    return decode_link(body)


def link_named(netlink: Netlink, name: str) -> Link | None:
    """One link, as `link_of` has it, without its counters; None when there is none of this name."""
    body = _IFINFO.pack(0, 0, 0, 0, 0) + _name(name)
    body += attribute(IFLA_EXT_MASK, _U32.pack(RTEXT_FILTER_SKIP_STATS))
    request = Request(RTM_GETLINK, 0, body, f"look at link {name}")
    try:
        (found,) = netlink.ask(request)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        return None
    return decode_link(found)


def decode_link(body: bytes) -> Link:
    """What a message of a link says; DecodeError of a broken one."""
    if len(body) < _IFINFO.size:
        raise DecodeError("netlink", f"link message of {len(body)} bytes")
    _, _, index, flags, _ = _IFINFO.unpack_from(body)
    found = dict(attributes(body[_IFINFO.size :]))
    info = dict(attributes(found.get(IFLA_LINKINFO, b"")))
    return Link(
        index=index,
        name=_text(found.get(IFLA_IFNAME, b"")),
        mac=found.get(IFLA_ADDRESS, b"").hex(":"),
        mtu=_number(found.get(IFLA_MTU)),
        flags=flags,
        master=_number(found.get(IFLA_MASTER)),
        kind=_text(info.get(IFLA_INFO_KIND, b"")),
        altnames=tuple(_alternative_names(found.get(IFLA_PROP_LIST, b""))),
        peer=_number(found.get(IFLA_LINK)),
    )


def _number(value: bytes | None) -> int:
    """An attribute of 32 bits; 0 when there is none."""
    if value is None:
        return 0
    if len(value) != _U32.size:
        raise DecodeError("netlink", f"a number of {len(value)} bytes")
    number: int = _U32.unpack(value)[0]
    return number


def _alternative_names(properties: bytes) -> Iterable[str]:
    return (_text(value) for kind, value in attributes(properties) if kind == IFLA_ALT_IFNAME)


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def addresses(netlink: Netlink) -> tuple[tuple[int, str], ...]:
    """Every (interface index, address/prefix) of the namespace."""
    request = Request(RTM_GETADDR, 0, _IFADDR.pack(0, 0, 0, 0, 0), "list addresses")
    found = (_address_of(body) for _, body in netlink.dump(request))
    return tuple(one for one in found if one is not None)


def routes(netlink: Netlink) -> tuple[Route, ...]:
    """Every unicast route of the main table, of both families."""
    return tuple(route for route, _ in routes_as_told(netlink))


def routes_as_told(netlink: Netlink) -> tuple[tuple[Route, bytes], ...]:
    """The same, each with the kernel's own words, which `route_replay` gives back to it."""
    request = Request(RTM_GETROUTE, 0, _RTMSG.pack(0, 0, 0, 0, 0, 0, 0, 0, 0), "list routes")
    bodies = [body for kind, body in netlink.dump(request) if kind == RTM_NEWROUTE]
    found = ((_route_of(body), body) for body in bodies)
    return tuple((route, body) for route, body in found if route is not None)


def route_replay(body: bytes, *, add: bool) -> Request:
    """Add, or take away, a route in the words in which the kernel told it."""
    flags = _U32.unpack_from(body, _RTMSG.size - _U32.size)[0] & ~(RTNH_F_DEAD | RTNH_F_LINKDOWN)
    body = body[: _RTMSG.size - _U32.size] + _U32.pack(flags) + body[_RTMSG.size :]
    if add:
        return Request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, body, "put a route back")
    return Request(RTM_DELROUTE, 0, body, "withdraw a route")


def _route_of(body: bytes) -> Route | None:
    if len(body) < _RTMSG.size:
        raise DecodeError("netlink", f"route message of {len(body)} bytes")
    family, length, _, _, table, protocol, _, kind, flags = _RTMSG.unpack_from(body)
    if kind != RTN_UNICAST or flags & RTM_F_CLONED:
        return None
    found = dict(attributes(body[_RTMSG.size :]))
    if _number(found.get(RTA_TABLE)) not in (0, RT_TABLE_MAIN) or table != RT_TABLE_MAIN:
        return None
    nothing = bytes(4 if family == socket.AF_INET else 16)
    via = found.get(RTA_GATEWAY)
    try:
        to = f"{ip_address(found.get(RTA_DST, nothing))}/{length}"
        gateway = str(ip_address(via)) if via else None
    except ValueError:
        raise DecodeError("netlink", "a route's address has a wrong length") from None
    index, metric = _number(found.get(RTA_OIF)), _number(found.get(RTA_PRIORITY))
    return Route(to, gateway, index, metric, protocol)


def _address_of(body: bytes) -> tuple[int, str] | None:
    if len(body) < _IFADDR.size:
        raise DecodeError("netlink", f"address message of {len(body)} bytes")
    _, prefix, _, _, index = _IFADDR.unpack_from(body)
    values = dict(attributes(body[_IFADDR.size :]))
    packed = values.get(IFA_LOCAL) or values.get(IFA_ADDRESS)
    if packed is None:
        return None
    if len(packed) not in (4, 16):
        raise DecodeError("netlink", f"an address of {len(packed)} bytes")
    return index, f"{ip_address(packed)}/{prefix}"
