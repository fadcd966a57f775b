"""Subnets and addresses: those declared are kept, those left out are assigned.

What is assigned depends on the order in the file and on nothing else, so the same description has
the same addresses every time, and a node or a segment added at the end moves none of the others:

- the Nth segment has 10.N.0.0/24 and fd00:0:0:N::/64 (from the 257th on 10.(N mod 256).8.0 and so
  on). The next segment's 10/8 prefix is far away, so one that needs more than a /24 grows in place;
- the Nth interface of a segment has the Nth address that nobody declared;
- a MAC address is a hash of the node's and the interface's names, where other labs may be on the
  segment, too, of the lab's as well.
"""

from __future__ import annotations

import bisect
import hashlib
import ipaddress
from collections.abc import Sequence

import msgspec

from hostlab.spec.model import MAX_BRIDGE_PORTS, SegmentKind, Tunnel
from hostlab.spec.shapes import Fields, Said
from hostlab.spec.source import Mark, Source, quoted
from hostlab.spec.units import Address, Network, Prefixed

MIN_IPV6_MTU = 1280
"""RFC 8200, section 5; below it Linux takes IPv6 off the device."""
FAMILIES = (4, 6)
MAX_SEGMENTS = 8192
"""Places in 10.0.0.0/8 that are 2,048 addresses apart or more."""


class Wire(msgspec.Struct, kw_only=True):
    """An interface on its way to its addresses."""

    node: str
    name: str
    net: Net
    at: Mark
    declared: Said | None
    """The list of what was said; None leaves both families to be assigned."""
    mac: Said | None
    mtu: int | None
    impair: Fields
    over: Said | None = None
    """Of a tunnel's end: the interface that was named to carry it,"""
    under: Wire | None = None
    """and the one that does."""
    bridge: str = ""
    """The bridge in the node that it is a port of."""
    addresses: list[Prefixed] = msgspec.field(default_factory=list)
    assigned_mac: str = ""
    tunnel: Tunnel | None = None

    @property
    def segment(self) -> str:
        """Its segment's name."""
        return self.net.name

    @property
    def holder(self) -> str:
        """The link that has its addresses: as `model.Interface.holder`."""
        return self.bridge if self.bridge and self.net.kind is SegmentKind.VXLAN else self.name

    @property
    def effective_mtu(self) -> int:
        """What was said, or the segment's."""
        return self.mtu or self.net.mtu


class Net(msgspec.Struct, kw_only=True):
    """A segment on its way to its subnets."""

    name: str
    at: Mark
    fields: Fields
    kind: SegmentKind = SegmentKind.BRIDGE
    details: Fields = msgspec.field(default_factory=Fields)
    """What was said of its kind."""
    lab: str = ""
    """The lab's name and `/` where others may be on it, too."""
    base: Net | None = None
    """The VXLAN that it extends, whose addresses it shares."""
    extensions: list[Net] = msgspec.field(default_factory=list)
    usual_mtu: int = 1500
    wires: list[Wire] = msgspec.field(default_factory=list)
    subnets: dict[int, Network] = msgspec.field(default_factory=dict)
    used: dict[Address, tuple[str, Mark]] = msgspec.field(default_factory=dict)
    machine: list[Prefixed] = msgspec.field(default_factory=list)

    @property
    def mtu(self) -> int:
        """What was said, or what follows from the segments below."""
        usual = self.usual_mtu if self.base is None else self.base.mtu
        mtu: int = self.fields.value("mtu", usual)
        return mtu

    @property
    def joined(self) -> tuple[str, ...]:
        """The segments that are one network with it, itself among them."""
        root = self.base or self
        return (root.name, *(net.name for net in root.extensions))

    @property
    def hosts(self) -> int:
        """How many may need an address of its subnets."""
        return len(self.wires) + sum(len(net.wires) for net in self.extensions)


def assign(source: Source, nets: dict[str, Net], reserved: Sequence[Network] = ()) -> None:
    """Fill in the subnets of every segment and the addresses of every wire on it.

    No segment is given a part of what is reserved.
    """
    for net in nets.values():
        _check_ports(source, net)
        _declared_subnets(source, net)
    _assign_subnets(source, nets, reserved)
    for net in nets.values():
        if net.base is not None:
            net.subnets, net.used = net.base.subnets, net.base.used
    for net in nets.values():
        _keep_declared(source, net)
    for net in nets.values():
        for family in FAMILIES:
            _assign_family(source, net, family)
        for wire in net.wires:
            wire.addresses.sort(key=lambda a: a.address.version)
    _assign_macs(source, nets)


def _check_ports(source: Source, net: Net) -> None:
    ports = len(net.wires) + ("machine" in net.fields)
    if ports > MAX_BRIDGE_PORTS:
        message = (
            f"segment {quoted(net.name)} has {ports:,} interfaces; "
            f"a bridge has at most {MAX_BRIDGE_PORTS:,} ports"
        )
        source.report("too-many", message, net.at, "spread them over several segments")


def _declared_subnets(source: Source, net: Net) -> None:
    """What was said, and else the prefix that comes with the first address said with one."""
    for said in net.fields.value("subnets", []):
        family = said.value.version
        if family in net.subnets:
            message = f"segment {quoted(net.name)} already has {net.subnets[family]}"
            source.report("clash", message, said.at, "one prefix for IPv4 and one for IPv6")
        elif family == 6 and net.mtu < MIN_IPV6_MTU:
            message = f"IPv6 needs an MTU of {MIN_IPV6_MTU}; {quoted(net.name)} has {net.mtu}"
            source.report("value", message, said.at)
        else:
            net.subnets[family] = said.value
    if net.subnets or "subnets" in net.fields or net.base is not None:
        return
    said_here = [*net.fields.value("machine", [])]
    for wire in net.wires:
        said_here += wire.declared.value if wire.declared else []
    for said in said_here:
        declared: Prefixed = said.value
        full = declared.address.max_prefixlen
        if declared.length is not None and declared.length < full - 1:
            net.subnets.setdefault(declared.address.version, declared.network)


class _Taken:
    """Ranges of addresses that are spoken for, merged, so that a look-up is a bisection."""

    def __init__(self, networks: list[Network]) -> None:
        self.first: list[int] = []
        self.last: list[int] = []
        for net in sorted(networks, key=lambda n: int(n.network_address)):
            low, high = int(net.network_address), int(net.broadcast_address)
            if self.last and low <= self.last[-1]:
                self.last[-1] = max(self.last[-1], high)
            else:
                self.first.append(low)
                self.last.append(high)

    def overlaps(self, net: Network) -> bool:
        before = bisect.bisect_right(self.first, int(net.broadcast_address)) - 1
        return before >= 0 and self.last[before] >= int(net.network_address)


def _assign_subnets(source: Source, nets: dict[str, Net], reserved: Sequence[Network]) -> None:
    declared = [subnet for net in nets.values() for subnet in net.subnets.values()]
    declared += reserved
    for family, place in ((4, _v4), (6, _v6)):
        taken = _Taken([subnet for subnet in declared if subnet.version == family])
        used: set[int] = set()
        spare = 0
        for number, net in enumerate(nets.values()):
            if "subnets" in net.fields or family in net.subnets or net.base is not None:
                continue
            if family == 6 and net.mtu < MIN_IPV6_MTU:
                continue
            # A segment whose own slot is gone has the first that is left: looked for from where
            # the last one was found, since a slot that is taken stays so.
            slot = number
            found = place(slot, net.hosts + 1)
            while slot in used or slot >= MAX_SEGMENTS or taken.overlaps(found):
                if spare >= MAX_SEGMENTS:
                    message = f"no subnet is left for segment {quoted(net.name)}"
                    source.report("too-many", message, net.at, "declare its `subnets`")
                    break
                slot, spare = spare, spare + 1
                found = place(slot, net.hosts + 1)
            else:
                used.add(slot)
                net.subnets[family] = found


def _v4(slot: int, hosts: int) -> Network:
    """The prefix of a slot: a /24, or as many addresses as the hosts need with the two ends."""
    length = min(24, 32 - (min(hosts, MAX_BRIDGE_PORTS + 1) + 1).bit_length())
    return ipaddress.IPv4Network(
        ((10 << 24) + ((slot % 256) << 16) + ((slot // 256 % 32) << 11), length)
    )


def _v6(slot: int, _hosts: int) -> Network:
    return ipaddress.IPv6Network(((0xFD << 120) + (slot << 64), 64))


def _keep_declared(source: Source, net: Net) -> None:
    for said in net.fields.value("machine", []):
        kept = _keep(source, net, "the machine", said)
        if kept:
            net.machine.append(kept)
    for wire in net.wires:
        for said in wire.declared.value if wire.declared else []:
            kept = _keep(source, net, f"{wire.node}'s {wire.name}", said)
            if kept:
                wire.addresses.append(kept)


def _keep(source: Source, net: Net, who: str, said: Said) -> Prefixed | None:
    """One declared address, checked against the segment's subnets and against all before it."""
    declared: Prefixed = said.value
    subnet = net.subnets.get(declared.address.version)
    inside = subnet is not None and declared.address in subnet
    if declared.length is None and not inside:
        has = " and ".join(str(s) for s in net.subnets.values()) or "no subnet"
        message = f"{declared.address} is outside of segment {quoted(net.name)}, which has {has}"
        source.report("value", message, said.at, "write the prefix with it, as `10.0.0.1/24`")
        return None
    if declared.address in net.used:
        other, place = net.used[declared.address]
        message = f"{who} and {other} ({source.place(place)}) both have {declared.address}"
        source.report("clash", message, said.at)
        return None
    if subnet is not None and inside and declared.address in _ends(subnet):
        message = f"{declared.address} is {subnet} itself, or its broadcast address"
        source.report("value", message, said.at)
        return None
    net.used[declared.address] = (who, said.at)
    length = declared.length
    if length is None:
        assert subnet is not None
        length = subnet.prefixlen
    return Prefixed(declared.address, length)


def _ends(subnet: Network) -> tuple[Address, ...]:
    """Addresses of an IPv4 subnet that no host has; IPv6 has only the routers' anycast address."""
    if subnet.version == 4:
        return (subnet.network_address, subnet.broadcast_address)
    return (subnet.network_address,)


def _assign_family(source: Source, net: Net, family: int) -> None:
    """The lowest free address for each wire that has none of this family, in the file's order."""
    subnet = net.subnets.get(family)
    if subnet is None:
        return
    base = int(subnet.network_address)
    last = subnet.num_addresses - (2 if family == 4 else 1)
    make = ipaddress.IPv4Address if family == 4 else ipaddress.IPv6Address
    host = 1
    for number, wire in enumerate(net.wires):
        if wire.declared is not None and (
            not wire.declared.value or any(a.address.version == family for a in wire.addresses)
        ):
            continue
        while host <= last and make(base + host) in net.used:
            host += 1
        if host > last:
            left = len(net.wires) - number
            message = f"{subnet} of segment {quoted(net.name)} is too small: {left} more need one"
            source.report("too-many", message, net.at, "give it a larger subnet, or none")
            return
        wire.addresses.append(Prefixed(make(base + host), subnet.prefixlen))
        if net.base is not None or net.extensions:
            net.used[make(base + host)] = (f"{wire.node}'s {wire.name}", wire.at)
        host += 1


def _assign_macs(source: Source, nets: dict[str, Net]) -> None:
    taken: dict[str, tuple[str, Mark]] = {}
    wires = [wire for net in nets.values() for wire in net.wires]
    for wire in wires:
        if wire.mac is None:
            continue
        who = f"{wire.node}'s {wire.name}"
        wire.assigned_mac = wire.mac.value
        if wire.assigned_mac in taken:
            other, place = taken[wire.assigned_mac]
            message = f"{who} and {other} ({source.place(place)}) both have {wire.assigned_mac}"
            source.report("clash", message, wire.mac.at)
        taken[wire.assigned_mac] = (who, wire.mac.at)
    for wire in wires:
        attempt = 0
        while not wire.assigned_mac:
            seed = f"{wire.net.lab}{wire.node}\0{wire.name}\0{attempt}".encode()
            # 02: locally administered, one interface's (IEEE 802, section 8.4).
            mac = "02:" + hashlib.sha256(seed).digest()[:5].hex(":")
            if mac not in taken:
                taken[mac] = (f"{wire.node}'s {wire.name}", wire.at)
                wire.assigned_mac = mac
            attempt += 1
