"""Who is behind which link: forwarding tables (bridge(8), `fdb`) and neighbours (arp(7)).

Both are the kernel's neighbour messages of rtnetlink(7); of the family AF_BRIDGE they tell of MAC
addresses, those of a bridge behind which port, those of a VXLAN behind which other end.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final, NamedTuple

from hostlab.errors import DecodeError
from hostlab.linux.netlink import NLM_F_CREATE, Netlink, Request, attribute, attributes
from hostlab.linux.rtnetlink import (
    NDA_DST,
    NDA_LLADDR,
    NTF_EXT_LEARNED,
    RTM_DELNEIGH,
    RTM_NEWNEIGH,
    mac_bytes,
)

AF_BRIDGE: Final = 7
RTM_GETNEIGH: Final = 30
NLM_F_APPEND: Final = 0x800
NUD_PERMANENT: Final = 0x80
NUD_NOARP: Final = 0x40
NTF_SELF: Final = 0x02
NDA_MASTER: Final = 9
UNKNOWN: Final = "00:00:00:00:00:00"
"""Stands in a VXLAN's table for every MAC address that is not in it, and for those of many."""
STATES: Final = {
    0x01: "incomplete",
    0x02: "reachable",
    0x04: "stale",
    0x08: "delay",
    0x10: "probe",
    0x20: "failed",
    NUD_NOARP: "noarp",
    NUD_PERMANENT: "permanent",
}
_NDMSG: Final = struct.Struct("=BxxxiHBB")
_U32: Final = struct.Struct("=I")
_ROUTED: Final = (socket.AF_INET, socket.AF_INET6)


class FdbEntry(NamedTuple):
    """A MAC address and where it is."""

    ifindex: int
    """Of the link it is behind."""
    mac: str
    dst: str | None
    """Of a VXLAN: the other end's address."""
    master: int
    """Of a bridge's table: the bridge; 0 of a link's own."""
    state: int
    flags: int

    @property
    def is_learned(self) -> bool:
        """Whether the kernel found it out by itself."""
        return not self.state & (NUD_PERMANENT | NUD_NOARP) and not self.flags & NTF_EXT_LEARNED


class Neighbour(NamedTuple):
    """An address on a link and the MAC address that it has."""

    ifindex: int
    address: str
    mac: str
    """Empty while nobody has answered."""
    state: int
    flags: int


def _fdb(kind: int, flags: int, index: int, mac: str, dst: str, what: str) -> Request:
    body = _NDMSG.pack(AF_BRIDGE, index, NUD_PERMANENT, NTF_SELF, 0)
    body += attribute(NDA_LLADDR, mac_bytes(mac)) + attribute(NDA_DST, ip_address(dst).packed)
    return Request(kind, flags, body, f"{what} {mac} behind {dst}")


def fdb_append(index: int, mac: str, dst: str) -> Request:
    """Enter a MAC address behind another end of a VXLAN; `UNKNOWN` may be behind several."""
    flags = NLM_F_CREATE | NLM_F_APPEND
    return _fdb(RTM_NEWNEIGH, flags, index, mac, dst, "enter")


def fdb_delete(index: int, mac: str, dst: str) -> Request:
    """Take that back."""
    return _fdb(RTM_DELNEIGH, 0, index, mac, dst, "forget")


def fdb(netlink: Netlink) -> tuple[FdbEntry, ...]:
    """The forwarding tables of every bridge and link of the namespace."""
    return tuple(_fdb_entry(*parts) for parts in _listed(netlink, AF_BRIDGE, "forwarding tables"))


def neighbours(netlink: Netlink) -> tuple[Neighbour, ...]:
    """Every IPv4 and IPv6 neighbour, less the multicast groups that the kernel notes."""
    return tuple(
        _neighbour(index, state, flags, found)
        for family in _ROUTED
        for index, state, flags, found in _listed(netlink, family, "neighbours")
        if state != NUD_NOARP
    )


def states(state: int) -> str:
    """`reachable`, or several words."""
    return " ".join(word for bit, word in STATES.items() if state & bit) or "none"


def _listed(
    netlink: Netlink, family: int, what: str
) -> Iterator[tuple[int, int, int, dict[int, bytes]]]:
    request = Request(RTM_GETNEIGH, 0, _NDMSG.pack(family, 0, 0, 0, 0), f"list {what}")
    for kind, body in netlink.dump(request):
        if kind != RTM_NEWNEIGH:
            continue
        if len(body) < _NDMSG.size:
            raise DecodeError("netlink", f"neighbour message of {len(body)} bytes")
        of, index, state, flags, _ = _NDMSG.unpack_from(body)
        if of == family:
            yield index, state, flags, dict(attributes(body[_NDMSG.size :]))


def _fdb_entry(index: int, state: int, flags: int, found: dict[int, bytes]) -> FdbEntry:
    dst = found.get(NDA_DST)
    master = found.get(NDA_MASTER, b"")
    return FdbEntry(
        ifindex=index,
        mac=found.get(NDA_LLADDR, b"").hex(":"),
        dst=None if dst is None else _address(dst),
        master=_U32.unpack(master)[0] if len(master) == _U32.size else 0,
        state=state,
        flags=flags,
    )


def _neighbour(index: int, state: int, flags: int, found: dict[int, bytes]) -> Neighbour:
    address = _address(found.get(NDA_DST, b""))
    return Neighbour(index, address, found.get(NDA_LLADDR, b"").hex(":"), state, flags)


def _address(packed: bytes) -> str:
    try:
        return str(ip_address(packed))
    except ValueError:
        raise DecodeError("netlink", f"an address of {len(packed)} bytes") from None
