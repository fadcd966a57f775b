"""Requests for links over others, and entries of neighbour tables, as the kernel's headers say.

What the kernel makes of a VXLAN and a macvlan is seen in `netns`; GRE, IPIP and VLANs it lacks.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest

from hostlab.errors import DecodeError
from hostlab.linux import neighbours, tunnels
from hostlab.linux.netlink import Netlink, Request, attribute, attributes
from hostlab.linux.rtnetlink import IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINK, IFLA_LINKINFO

pytestmark = pytest.mark.unit
LINK = tunnels.NewLink("t0", 9, 1400, "02:00:00:00:00:09")


def parts(request: Request) -> tuple[bytes, dict[int, bytes], dict[int, bytes]]:
    """The kind, its own attributes, and those of every link."""
    found = dict(attributes(request.body[16:]))
    info = dict(attributes(found[IFLA_LINKINFO]))
    return info[IFLA_INFO_KIND], dict(attributes(info[IFLA_INFO_DATA])), found


def test_gretap_has_its_key_in_both_directions() -> None:
    """linux/if_tunnel.h: flags and keys are big-endian, flag 0x2000 says that there is one."""
    kind, data, _ = parts(
        tunnels.gretap_add(LINK, local="192.0.2.1", remote="192.0.2.2", ttl=10, key=7)
    )
    assert kind == b"gretap"
    assert data == {
        2: b"\x20\0", 3: b"\x20\0", 4: b"\0\0\0\7", 5: b"\0\0\0\7",
        6: bytes([192, 0, 2, 1]), 7: bytes([192, 0, 2, 2]), 8: b"\x0a",
    }  # fmt: skip
    plain = tunnels.gretap_add(LINK, local="192.0.2.1", remote="192.0.2.2", ttl=10)
    assert parts(plain)[1].keys() == {6, 7, 8}


def test_ipip_has_no_mac_address() -> None:
    link = tunnels.NewLink("t0", 9, 1480)
    kind, data, found = parts(tunnels.ipip_add(link, local="192.0.2.1", remote="192.0.2.2", ttl=10))
    assert kind == b"ipip"
    assert data == {2: bytes([192, 0, 2, 1]), 3: bytes([192, 0, 2, 2]), 4: b"\x0a"}
    assert 1 not in found


def test_a_vlan_names_what_it_is_on() -> None:
    kind, data, found = parts(tunnels.vlan_add(LINK, over=4, vlan=10))
    assert (kind, data) == (b"vlan", {1: struct.pack("=H", 10)})
    assert found[IFLA_LINK] == struct.pack("=I", 4)


class Told(Netlink):
    """A socket on which these messages come."""

    def __init__(self, bodies: Sequence[bytes]) -> None:
        self.bodies = bodies

    def dump(self, request: Request) -> object:  # type: ignore[override]  # a generator, as there
        return ((28, body) for body in self.bodies)


def entry(family: int, state: int, flags: int, *rest: bytes) -> bytes:
    return struct.pack("=BxxxiHBB", family, 3, state, flags, 0) + b"".join(rest)


MAC = attribute(2, bytes.fromhex("02000000000a"))


def test_entries_say_who_made_them() -> None:
    end = attribute(1, bytes([192, 0, 2, 2]))
    found = neighbours.fdb(
        Told(
            [
                entry(7, 0x02, 0x02, MAC, end),
                entry(7, 0x80, 0x02, MAC, end),
                entry(7, 0x02, 0x10, MAC, attribute(9, struct.pack("=I", 5))),
                entry(2, 0x02, 0, MAC, end),
            ]
        )
    )
    assert [(e.is_learned, e.dst, e.master) for e in found] == [
        (True, "192.0.2.2", 0),
        (False, "192.0.2.2", 0),
        (False, None, 5),
    ]


def test_groups_are_no_neighbours() -> None:
    address = attribute(1, bytes([192, 0, 2, 2]))
    found = neighbours.neighbours(Told([entry(2, 0x40, 0, address), entry(2, 0x20, 0, address)]))
    assert [(n.address, n.mac, neighbours.states(n.state)) for n in found] == [
        ("192.0.2.2", "", "failed")
    ]


@pytest.mark.parametrize("body", [b"\2" + bytes(10), entry(2, 0x02, 0, attribute(1, b"abc"))])
def test_broken_messages_are_told(body: bytes) -> None:
    with pytest.raises(DecodeError):
        neighbours.neighbours(Told([body]))
