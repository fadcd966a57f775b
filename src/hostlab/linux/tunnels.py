"""Links that lie over others: VXLAN, GRE, IPIP, VLAN, macvlan (rtnetlink(7), linux/if_link.h).

Builders as in `rtnetlink`. An end of a tunnel is bound to no device unless it is in a multicast
group: where its packets leave is then what the routes say.
"""

from __future__ import annotations

import struct
from ipaddress import ip_address
from typing import Final

import msgspec

from hostlab.linux.netlink import NLM_F_CREATE, NLM_F_EXCL, Request, attribute
from hostlab.linux.rtnetlink import (
    IFLA_ADDRESS,
    IFLA_IFNAME,
    IFLA_INFO_DATA,
    IFLA_INFO_KIND,
    IFLA_LINK,
    IFLA_LINKINFO,
    IFLA_MTU,
    IFLA_NET_NS_FD,
    RTM_NEWLINK,
    mac_bytes,
)

IFLA_VXLAN_ID, IFLA_VXLAN_GROUP, IFLA_VXLAN_LINK, IFLA_VXLAN_LOCAL = 1, 2, 3, 4
IFLA_VXLAN_TTL, IFLA_VXLAN_LEARNING, IFLA_VXLAN_PORT = 5, 7, 15
IFLA_VXLAN_GROUP6, IFLA_VXLAN_LOCAL6 = 16, 17
IFLA_GRE_IFLAGS, IFLA_GRE_OFLAGS, IFLA_GRE_IKEY, IFLA_GRE_OKEY = 2, 3, 4, 5
IFLA_GRE_LOCAL, IFLA_GRE_REMOTE, IFLA_GRE_TTL = 6, 7, 8
GRE_KEY: Final = 0x2000
IFLA_IPTUN_LOCAL, IFLA_IPTUN_REMOTE, IFLA_IPTUN_TTL = 2, 3, 4
IFLA_VLAN_ID: Final = 1
IFLA_MACVLAN_MODE: Final = 1
MACVLAN_MODES: Final = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
IFLA_NEW_IFINDEX: Final = 49

_IFINFO: Final = struct.Struct("=BxHiII")
_U16: Final = struct.Struct("=H")
_U32: Final = struct.Struct("=I")
_BE16: Final = struct.Struct(">H")
_BE32: Final = struct.Struct(">I")


class NewLink(msgspec.Struct, frozen=True):
    """What every new link has; IPIP has no MAC address."""

    name: str
    index: int
    mtu: int
    mac: str | None = None

    def request(self, kind: str, data: bytes, more: bytes = b"") -> Request:
        """The request that makes it, of this kind and with the kind's own attributes."""
        body = _IFINFO.pack(0, 0, self.index, 0, 0)
        body += attribute(IFLA_IFNAME, self.name.encode() + b"\0")
        body += attribute(IFLA_MTU, _U32.pack(self.mtu))
        if self.mac is not None:
            body += attribute(IFLA_ADDRESS, mac_bytes(self.mac))
        info = attribute(IFLA_INFO_KIND, kind.encode()) + attribute(IFLA_INFO_DATA, data)
        body += more + attribute(IFLA_LINKINFO, info)
        return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"add {kind} {self.name}")


def vxlan_add(
    link: NewLink,
    *,
    vni: int,
    local: str,
    ttl: int,
    port: int,
    learning: bool,
    group: str | None = None,
    over: int | None = None,
) -> Request:
    """One end of a VXLAN, RFC 7348; `group` needs `over`, the index of the link to join it on."""
    data = attribute(IFLA_VXLAN_ID, _U32.pack(vni))
    for address, v4, v6 in (
        (local, IFLA_VXLAN_LOCAL, IFLA_VXLAN_LOCAL6),
        (group, IFLA_VXLAN_GROUP, IFLA_VXLAN_GROUP6),
    ):
        if address is not None:
            parsed = ip_address(address)
            data += attribute(v4 if parsed.version == 4 else v6, parsed.packed)
    if over is not None:
        data += attribute(IFLA_VXLAN_LINK, _U32.pack(over))
    data += attribute(IFLA_VXLAN_TTL, bytes([ttl]))
    data += attribute(IFLA_VXLAN_LEARNING, bytes([learning]))
    data += attribute(IFLA_VXLAN_PORT, _BE16.pack(port))
    return link.request("vxlan", data)


def gretap_add(link: NewLink, *, local: str, remote: str, ttl: int, key: int = 0) -> Request:
    """An end of a tunnel that carries Ethernet in GRE over IPv4; key 0 is none."""
    data = attribute(IFLA_GRE_LOCAL, ip_address(local).packed)
    data += attribute(IFLA_GRE_REMOTE, ip_address(remote).packed)
    data += attribute(IFLA_GRE_TTL, bytes([ttl]))
    if key:
        flags, number = _BE16.pack(GRE_KEY), _BE32.pack(key)
        data += attribute(IFLA_GRE_IFLAGS, flags) + attribute(IFLA_GRE_OFLAGS, flags)
        data += attribute(IFLA_GRE_IKEY, number) + attribute(IFLA_GRE_OKEY, number)
    return link.request("gretap", data)


def ipip_add(link: NewLink, *, local: str, remote: str, ttl: int) -> Request:
    """An end of a tunnel that carries IPv4 in IPv4."""
    data = attribute(IFLA_IPTUN_LOCAL, ip_address(local).packed)
    data += attribute(IFLA_IPTUN_REMOTE, ip_address(remote).packed)
    data += attribute(IFLA_IPTUN_TTL, bytes([ttl]))
    return link.request("ipip", data)


def vlan_add(link: NewLink, *, over: int, vlan: int) -> Request:
    """The packets of the link `over` that have this tag."""
    more = attribute(IFLA_LINK, _U32.pack(over))
    return link.request("vlan", attribute(IFLA_VLAN_ID, _U16.pack(vlan)), more)


def macvlan_add(link: NewLink, *, over: int, mode: str, namespace_fd: int) -> Request:
    """A link on the link `over` of the socket's namespace, made in another namespace at once.

    Needs CAP_NET_ADMIN over both. The lower link's end ends it, and so does its namespace's.
    """
    more = attribute(IFLA_LINK, _U32.pack(over))
    more += attribute(IFLA_NET_NS_FD, _U32.pack(namespace_fd))
    data = attribute(IFLA_MACVLAN_MODE, _U32.pack(MACVLAN_MODES[mode]))
    return link.request("macvlan", data, more)


def link_move(
    index: int,
    *,
    namespace_fd: int,
    name: str,
    new_index: int,
    mac: str | None = None,
    mtu: int | None = None,
) -> Request:
    """Put a link that is down into another namespace, under a name and number there (Linux 5.13).

    Its alternative names go with it. Needs CAP_NET_ADMIN over both.
    """
    body = _IFINFO.pack(0, 0, index, 0, 0) + attribute(IFLA_IFNAME, name.encode() + b"\0")
    if mac is not None:
        body += attribute(IFLA_ADDRESS, mac_bytes(mac))
    if mtu is not None:
        body += attribute(IFLA_MTU, _U32.pack(mtu))
    body += attribute(IFLA_NET_NS_FD, _U32.pack(namespace_fd))
    body += attribute(IFLA_NEW_IFINDEX, _U32.pack(new_index))
    return Request(RTM_NEWLINK, 0, body, f"move link {index} to {name}")
