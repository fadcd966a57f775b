"""Segments that lie over others: which interface carries each end, what is left of its packets.

Two steps, before and after addresses are assigned. Before: each end finds the interface that
carries it, the segment's MTU follows from those, and a node that is on a VXLAN and on a segment
that extends it gets a bridge. After: the ends have addresses, so each can be told of the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

import msgspec
from msgspec.structs import replace

from hostlab.spec.addresses import Net, Wire
from hostlab.spec.drafts import Draft
from hostlab.spec.model import TTL, VXLAN_PORT, SegmentKind, Tunnel
from hostlab.spec.shapes import Fields, Said
from hostlab.spec.source import Source, quoted
from hostlab.spec.units import Network

TUNNELS: Final = (SegmentKind.VXLAN, SegmentKind.GRE, SegmentKind.IPIP, SegmentKind.VLAN)
PAIRED: Final = (SegmentKind.GRE, SegmentKind.IPIP)
"""They have two ends."""
_OF_SWITCH: Final = ("machine", "taps", "lab", "extends")
"""Keys of segments that are bridges."""
_KEY_BYTES: Final = 4
LOOPBACK: Final = "lo"
"""As a carrier: the node's loopback addresses, which outlive every one of its interfaces."""


def prepare(source: Source, every: Mapping[str, Draft], nets: Mapping[str, Net]) -> None:
    """What must be known before addresses are assigned."""
    for net in nets.values():
        _check_keys(source, net)
    for net in nets.values():
        _extend(source, net, nets)
    for draft in every.values():
        _bridge(source, draft, nets)
    for net in nets.values():
        if net.kind in TUNNELS:
            for wire in net.wires:
                _carry(source, every[wire.node], wire, nets)
            _check_ends(source, net)
    for net in nets.values():
        if net.kind in TUNNELS:
            _follow_mtu(source, net)
    _check_numbers(source, nets)


def _check_keys(source: Source, net: Net) -> None:
    if net.kind is SegmentKind.BRIDGE:
        return
    for key in _OF_SWITCH:
        if key in net.fields:
            message = f"`{key}` is for a segment that is a switch; {quoted(net.name)} is {net.kind}"
            source.report("clash", message, net.fields[key].key)


def _extend(source: Source, net: Net, nets: Mapping[str, Net]) -> None:
    said = net.fields.get("extends")
    if said is None or net.kind is not SegmentKind.BRIDGE:
        return
    base = nets.get(said.value)
    if base is None or base.kind is not SegmentKind.VXLAN:
        known = [n.name for n in nets.values() if n.kind is SegmentKind.VXLAN]
        message = f"there is no VXLAN {quoted(said.value)}"
        source.report("unknown-name", message, said.at, source.suggest_or_list(said.value, known))
    elif "subnets" in net.fields:
        message = f"{quoted(net.name)} has the subnets of {quoted(base.name)}"
        source.report("clash", message, net.fields["subnets"].key, "leave out one of the two")
    else:
        net.base = base
        base.extensions.append(net)


def _bridge(source: Source, draft: Draft, nets: Mapping[str, Net]) -> None:
    """Make a node on a VXLAN and on what extends it a bridge between them."""
    for wire in draft.wires:
        net = nets[wire.segment]
        if net.kind is not SegmentKind.VXLAN:
            continue
        ports = [w for w in draft.wires if nets[w.segment].base is net]
        # A daemon is told of hosts by a bridge's table, so its tunnel has one in any case.
        if not ports and not net.details.flag("evpn"):
            continue
        name = f"br{net.details.value('vni', 0)}"
        if any(w.name == name for w in draft.wires):
            message = f"{quoted(name)} is the bridge between {quoted(net.name)} and its extension"
            source.report("clash", message, wire.at, "give the interface another name")
        wire.bridge = name
        for port in ports:
            if port.declared is not None and port.declared.value:
                message = f"{quoted(port.name)} is a port of a bridge, which has the addresses"
                hint = f"give them to {quoted(wire.name)}"
                source.report("clash", message, port.declared.key, hint)
            port.bridge = name
            port.declared = Said([], port.at, port.at)


def _carry(source: Source, draft: Draft, wire: Wire, nets: Mapping[str, Net]) -> None:
    """Find the interface below a tunnel's end."""
    able = [w for w in draft.wires if nets[w.segment].kind not in TUNNELS and not w.bridge]
    if wire.over is not None and wire.over.value == LOOPBACK:
        wire.under = _loopback(source, draft, wire, wire.over, able)
        return
    if wire.over is None:
        if able:
            wire.under = able[0]
        else:
            message = f"{quoted(draft.name)} has no interface to carry {quoted(wire.segment)}"
            hint = "put it on a segment that is no tunnel as well"
            source.report("missing", message, wire.at, hint)
        return
    wire.under = next((w for w in able if w.name == wire.over.value), None)
    if wire.under is None:
        known = [w.name for w in able]
        message = f"{quoted(draft.name)} has no interface {quoted(wire.over.value)} to carry this"
        found = source.suggest_or_list(wire.over.value, known)
        source.report("unknown-name", message, wire.over.at, found)


def _loopback(
    source: Source, draft: Draft, wire: Wire, over: Said, able: Sequence[Wire]
) -> Wire | None:
    """The carrier that a node's loopback addresses are; None when that is reported.

    Packets leave by any of its interfaces, so the smallest MTU is what there is room for.
    """
    message, hint = "", None
    if wire.net.kind is not SegmentKind.VXLAN:
        message = f"a loopback carries VXLANs only, and {quoted(wire.segment)} is {wire.net.kind}"
    elif "group" in wire.net.details:
        message = f"a group is joined on an interface, and {quoted(LOOPBACK)} leads nowhere"
        hint = "say `remotes`, or carry it over an interface"
    elif not draft.fields.value("loopback"):
        message = f"{quoted(draft.name)} has no loopback address to carry {quoted(wire.segment)}"
        hint = "add `loopback: true`"
    elif not able:
        message = f"{quoted(draft.name)} has no interface by which packets could leave it"
    if message:
        source.report("value", message, over.at, hint)
        return None
    mtu = min(w.effective_mtu for w in able)
    said = draft.fields["loopback"]
    declared = None if said.value is True else said
    if declared is not None and not isinstance(said.value, list):
        declared = Said([said], said.key, said.at)
    return replace(wire, name=LOOPBACK, mtu=mtu, over=None, declared=declared)


def _check_ends(source: Source, net: Net) -> None:
    if net.kind in PAIRED and len(net.wires) != 2:
        message = f"{net.kind} is between two nodes; {quoted(net.name)} has {len(net.wires)}"
        source.report("value", message, net.at, "`vxlan` is for any number of them")
    segments = {wire.under.segment for wire in net.wires if wire.under is not None}
    if net.kind is SegmentKind.VLAN and len(segments) > 1:
        names = ", ".join(map(quoted, sorted(segments)))
        message = f"a VLAN is on one segment; {quoted(net.name)} would be on {names}"
        source.report("clash", message, net.at, "say which by `over`")


def _family(net: Net) -> int:
    """The IP version around its packets: the group's, else 4 where every end may have it."""
    group = net.details.value("group")
    if group is not None:
        version: int = group.version
        return version
    if net.kind is not SegmentKind.VXLAN:
        return 4
    unders = [wire.under for wire in net.wires if wire.under is not None]
    return 4 if all(_may_have_4(wire) for wire in unders) else 6


def _may_have_4(wire: Wire) -> bool:
    if wire.declared is not None and not wire.declared.value:
        return False
    if wire.name == LOOPBACK:
        return wire.declared is None or any(
            said.value.address.version == 4 for said in wire.declared.value
        )
    subnets = wire.net.fields.get("subnets")
    declared = wire.declared.value if wire.declared is not None else []
    if any(said.value.address.version == 4 for said in declared):
        return True
    return subnets is None or any(said.value.version == 4 for said in subnets.value)


def _overhead(net: Net) -> int:
    """Bytes of a carrier's packet that are not the tunnel's."""
    match net.kind:
        case SegmentKind.VXLAN:
            # Ethernet, VXLAN, UDP, and IPv4 or IPv6 (RFC 7348, section 5).
            return 14 + 8 + 8 + (20 if _family(net) == 4 else 40)
        case SegmentKind.GRE:
            return 14 + 4 + 20 + (_KEY_BYTES if "key" in net.details else 0)
        case SegmentKind.IPIP:
            return 20
        case _:
            # A tag is not counted: the kernel's devices have room for one.
            return 0


def _follow_mtu(source: Source, net: Net) -> None:
    overhead = _overhead(net)
    rooms = [w.under.effective_mtu - overhead for w in net.wires if w.under is not None]
    if not rooms:
        return
    net.usual_mtu = min(rooms)
    for wire in net.wires:
        said = net.fields.get("mtu") if wire.mtu is None else None
        if wire.under is None:
            continue
        room = wire.under.effective_mtu - overhead
        if wire.effective_mtu > room:
            under = f"{wire.node}'s {wire.under.name}"
            message = (
                f"an MTU of {wire.effective_mtu} is too much for {quoted(net.name)}: of the"
                f" {wire.under.effective_mtu} of {under}, {net.kind} leaves {room}"
            )
            source.report("value", message, said.at if said else wire.at, "leave `mtu` out")


def _check_numbers(source: Source, nets: Mapping[str, Net]) -> None:
    """Two VXLANs of one number must meet nowhere: not in a node, not in a group."""
    of_group: dict[tuple[object, ...], Net] = {}
    of_node: dict[tuple[object, ...], Net] = {}
    for net in nets.values():
        if net.kind is not SegmentKind.VXLAN or "vni" not in net.details:
            continue
        vni = net.details["vni"]
        number = (vni.value, net.details.value("port", VXLAN_PORT))
        group = net.details.value("group")
        other: Net | None = None if group is None else of_group.setdefault((*number, group), net)
        where = f"the group {group}"
        for wire in net.wires:
            met = of_node.setdefault((*number, wire.node), net)
            if other in (None, net) and met is not net:
                other, where = met, quoted(wire.node)
        if other not in (None, net):
            assert other is not None
            message = f"{quoted(other.name)} has VNI {vni.value} in {where} already"
            source.report("clash", message, vni.at, "give each VXLAN a `vni` of its own")


def finish(source: Source, every: Mapping[str, Draft], nets: Mapping[str, Net]) -> None:
    """Give each end its address and the others', once addresses are assigned."""
    for draft in every.values():
        _check_overlaps(source, draft)
        for wire in draft.wires:
            if wire.under is not None and wire.under.name == LOOPBACK:
                wire.under.addresses = draft.loopbacks
    for net in nets.values():
        if net.kind in TUNNELS:
            _Ends(source, every, net).tell()


def _check_overlaps(source: Source, draft: Draft) -> None:
    """A node that is on two networks of the same addresses reaches one of them."""
    found: list[tuple[Network, Wire]] = [
        (subnet, wire)
        for wire in draft.wires
        if wire.addresses
        for subnet in wire.net.subnets.values()
    ]
    found.sort(key=lambda pair: (pair[0].version, int(pair[0].network_address)))
    for (subnet, wire), (other, next_wire) in pairwise(found):
        both = {a.address for a in wire.addresses} & {a.address for a in next_wire.addresses}
        if wire.segment != next_wire.segment and not both and subnet.overlaps(other):
            message = (
                f"{quoted(draft.name)} would be on {subnet} of {quoted(wire.segment)}"
                f" and on {other} of {quoted(next_wire.segment)}, which overlap"
            )
            source.report("clash", message, next_wire.at, "give one of them another subnet")


class _Ends(msgspec.Struct, frozen=True):
    """The ends of one tunnel."""

    source: Source
    every: Mapping[str, Draft]
    net: Net

    def tell(self) -> None:
        """Each end's `tunnel`."""
        family = _family(self.net)
        local = {}
        for wire in self.net.wires:
            if wire.under is None:
                return
            found = [a.address for a in wire.under.addresses if a.address.version == family]
            if not found and self.net.kind is not SegmentKind.VLAN:
                carrier = f"{wire.node}'s {wire.under.name}"
                message = f"{carrier} has no IPv{family} address to carry {quoted(self.net.name)}"
                self.source.report("missing", message, wire.at, "give it one, or say `over`")
                return
            local[wire.node, wire.name] = str(found[0]) if found else ""
        has_evpn = self.net.details.flag("evpn")
        if has_evpn:
            self._must_speak_evpn()
        remotes = [] if has_evpn else self._remotes(local, family)
        is_learning = has_evpn or self.net.details.flag("learning", default=True)
        places = () if is_learning else tuple(self._places(local))
        for wire in self.net.wires:
            here = local[wire.node, wire.name]
            assert wire.under is not None
            wire.tunnel = self._tunnel(wire.under.name, here, remotes, places)

    def _tunnel(
        self, over: str, here: str, remotes: Sequence[str], places: tuple[tuple[str, str], ...]
    ) -> Tunnel:
        details = self.net.details
        number = next((details.value(k) for k in ("vni", "id", "key") if k in details), 0)
        is_vlan = self.net.kind is SegmentKind.VLAN
        group = details.value("group")
        others = () if group is not None or is_vlan else (r for r in remotes if r != here)
        return Tunnel(
            kind=self.net.kind,
            over=over,
            number=number,
            local="" if is_vlan else here,
            group="" if group is None else str(group),
            remotes=tuple(dict.fromkeys(others)),
            places=tuple(place for place in places if place[1] != here),
            ttl=details.value("ttl", TTL),
            port=details.value("port", VXLAN_PORT),
            learning=details.flag("learning", default=not details.flag("evpn")),
            is_told=details.flag("evpn"),
        )

    def _must_speak_evpn(self) -> None:
        for wire in self.net.wires:
            draft = self.every[wire.node]
            if not speaks_evpn(draft) and not _has_own_configuration(draft):
                message = f"{quoted(wire.node)} has no BGP to be told of {quoted(self.net.name)} by"
                hint = "give it `routing: {engine: frr, bgp: {evpn: true, …}}`"
                self.source.report("missing", message, wire.at, hint)

    def _remotes(self, local: Mapping[tuple[str, str], str], family: int) -> list[str]:
        if "remotes" not in self.net.details:
            return list(local.values())
        found: list[str] = []
        for said in self.net.details.value("remotes"):
            if isinstance(said.value, str):
                found += self._of_node(said, local)
            elif said.value.version == family:
                found.append(str(said.value))
            else:
                message = f"{said.value} is not IPv{family}, as the other ends are"
                self.source.report("value", message, said.at)
        return found

    def _of_node(self, said: Said, local: Mapping[tuple[str, str], str]) -> Iterable[str]:
        found = [address for (node, _), address in local.items() if node == said.value]
        if not found:
            on = f"not on {quoted(self.net.name)}" if said.value in self.every else "no node here"
            hint = self.source.suggest_or_list(said.value, [node for node, _ in local])
            self.source.report("unknown-name", f"{quoted(said.value)} is {on}", said.at, hint)
        return found

    def _places(self, local: Mapping[tuple[str, str], str]) -> Iterator[tuple[str, str]]:
        """Every host that the description knows, and the end behind which it is."""
        for wire in self.net.wires:
            yield wire.assigned_mac, local[wire.node, wire.name]
        for extension in self.net.extensions:
            on = {wire.node for wire in extension.wires if wire.bridge}
            ends = [local[w.node, w.name] for w in self.net.wires if w.node in on]
            for wire in extension.wires:
                if ends and not wire.bridge:
                    yield wire.assigned_mac, ends[0]


def bgp_of(draft: Draft) -> Fields:
    """What a node says of BGP."""
    routing: Fields = draft.fields.value("routing") or Fields()
    return routing.value("bgp") or Fields()


def speaks_evpn(draft: Draft) -> bool:
    """Whether a node's BGP tells of hosts behind VXLANs."""
    return bgp_of(draft).flag("evpn")


def _has_own_configuration(draft: Draft) -> bool:
    routing: Fields = draft.fields.value("routing") or Fields()
    return "raw" in routing


def details_of(fields: Fields) -> tuple[SegmentKind, Fields]:
    """What a segment is, and what was said of that."""
    for kind in SegmentKind:
        if kind in fields:
            return kind, fields[kind].value
    return SegmentKind.BRIDGE, Fields()
