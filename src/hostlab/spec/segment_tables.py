"""Keys of segments: bridges, what lies over another segment, and what leads out of the lab."""

from __future__ import annotations

import re
from functools import partial
from typing import Final

from hostlab.spec import forms, names, units
from hostlab.spec.impairment_tables import IMPAIRMENT
from hostlab.spec.scalars import FLAG, IFNAME, MTU, NAME, PORT, PREFIXED, SUBNET
from hostlab.spec.shapes import Fields, Forms, Key, ListOf, Said, Table, Text, choice, under
from hostlab.spec.source import Source, Wrong, quoted

MAX_VNI: Final = 2**24 - 1
"""RFC 7348, section 5."""
MAX_VLAN: Final = 4094
"""IEEE 802.1Q, table 9-2."""
MAX_KEY: Final = 2**32 - 1
"""RFC 2890, section 2.1."""
MODES: Final = ("bridge", "private", "vepa", "passthru")
KINDS: Final = ("vxlan", "gre", "ipip", "vlan", "macvlan")


def _number(low: int, high: int) -> Text:
    schema = {"type": "integer", "minimum": low, "maximum": high}
    return Text("a number", partial(units.between, low, high), schema)


def _group(word: str) -> units.Address:
    found = units.address(word)
    if not found.is_multicast:
        raise Wrong(f"{quoted(word)} is no multicast address", "as `239.0.0.42` or `ff05::42`")
    return found


def _other(word: str) -> tuple[str, str]:
    found = re.fullmatch(r"([^/]+)/([^/]+)", word)
    if not found:
        raise Wrong(f"{quoted(word)} is not `LAB/SEGMENT`")
    return names.name(found[1]), names.name(found[2])


def _alone(_source: Source, _said: Said) -> Fields:
    return Fields()


VNI = _number(1, MAX_VNI)
VLAN_ID = _number(1, MAX_VLAN)
_TRUE = choice("true", ("true",))
_TTL = Key("ttl", _number(1, 255), "Of the packets around its packets.", "10", "64")

VXLAN = Table(
    "vxlan",
    "A segment inside UDP packets between its nodes (RFC 7348). A number alone is its VNI.",
    (
        Key("vni", VNI, "Its number. Segments with other numbers do not hear it.", "42"),
        Key("group", Text("a multicast address", _group, {"type": "string"}),
            "Where a packet goes that is for everyone, or for somebody who has not been heard yet.",
            "239.0.0.42", "a copy to each of `remotes`"),
        Key("remotes", ListOf(Text("a node or an address", forms.hop, {"type": "string"})),
            "The other ends, nodes of the segment or addresses.", "[r2, 192.0.2.7]",
            "every other node on it"),
        _TTL,
        Key("port", PORT, "The UDP port.", "8472", "4789"),
        Key("learning", FLAG, "Whether it learns behind which end a host is from what that sends. "
            "Else the description's hosts are entered, and no other is looked for.",
            "false", "true"),
        Key("evpn", FLAG, "Whether the ends, and who is behind them, are told by BGP, which the "
            "nodes' `routing` speaks.", "true", "false"),
    ),
    required=("vni",),
    exclusive=(("group", "remotes", "evpn"),),
)  # fmt: skip
GRE = Table(
    "gre",
    "A segment of two nodes inside IP packets (RFC 2784), Ethernet and all; `true` is enough.",
    (
        Key("key", _number(1, MAX_KEY), "Tells tunnels between the same addresses apart.", "7",
            "none"),
        _TTL,
    ),
)  # fmt: skip
IPIP = Table(
    "ipip",
    "A segment of two nodes that carries IPv4 in IPv4 (RFC 2003), no Ethernet; `true` is enough.",
    (_TTL,),
)
VLAN = Table(
    "vlan",
    "A segment inside another one's packets, with a tag. A number alone is its id.",
    (Key("id", VLAN_ID, "The number in the tag.", "10"),),
    required=("id",),
)
MACVLAN = Table(
    "macvlan",
    "A device of the machine, on which each node has an interface with a MAC address of its own. "
    "A name alone is the device.",
    (
        Key("device", IFNAME, "The machine's device.", "eno2"),
        Key("mode", choice("a mode", MODES), "Who hears whom: in `bridge` all of them, in `private`"
            " none, in `vepa` by way of the switch outside; `passthru` is for one alone.",
            "private", "bridge"),
    ),
    required=("device",),
)  # fmt: skip

SEGMENT = Table(
    "segment",
    "A layer-2 network: what is plugged into one switch, unless it says that it is a tunnel over "
    "other segments (`vxlan`, `gre`, `ipip`, `vlan`) or on a device of the machine (`macvlan`).",
    (
        Key(
            "subnets",
            ListOf(SUBNET),
            "Where addresses are assigned from, at most one prefix for IPv4 and one for IPv6. "
            "Left out, both are assigned.",
            "[10.1.0.0/24, 'fd01::/64']",
            "10.N.0.0/24 and fd00:0:0:N::/64",
            aliases=("subnet",),
        ),
        Key("mtu", MTU, "The largest packet of its interfaces, in bytes.", "9000",
            "1500; of a tunnel, what is left of those it goes over"),
        Key(
            "machine",
            ListOf(PREFIXED),
            "Addresses of an interface that the machine itself gets on this segment. "
            "Left out, the machine sees nothing of it.",
            "10.1.0.254",
            "none",
        ),
        Key("impair", IMPAIRMENT, "What happens to every packet that crosses it, once, on its way "
            "out of its sender.", "{delay: 20ms, loss: 1%}", "nothing"),
        Key("vxlan", Forms(scalar=(VNI, under("vni")), mapping=(VXLAN, None)),
            "It is a VXLAN, whose ends are in its nodes.", "{vni: 42, group: 239.0.0.42}"),
        Key("gre", Forms(scalar=(_TRUE, _alone), mapping=(GRE, None)),
            "It is a GRE tunnel between its two nodes.", "{key: 7}"),
        Key("ipip", Forms(scalar=(_TRUE, _alone), mapping=(IPIP, None)),
            "It is an IPIP tunnel between its two nodes.", "true"),
        Key("vlan", Forms(scalar=(VLAN_ID, under("id")), mapping=(VLAN, None)),
            "It is a VLAN on the segment that its nodes have in common.", "10"),
        Key("macvlan", Forms(scalar=(IFNAME, under("device")), mapping=(MACVLAN, None)),
            "It is a device of the machine.", "eno2"),
        Key("extends", NAME, "A VXLAN that it is one network with: its addresses are that one's, "
            "and a node on both bridges them.", "blue", "none"),
        Key("taps", ListOf(IFNAME), "Ports of it for programs of the machine, as a virtual "
            "machine's, which `hostlab tap` gives them.", "[vm1]", "none"),
        Key("lab", Text("`LAB/SEGMENT`", _other, {"type": "string"}),
            "A segment of another lab of yours that a cable joins it to, when both are up.",
            "shop/lan", "none"),
    ),
    exclusive=(KINDS,),
)  # fmt: skip
