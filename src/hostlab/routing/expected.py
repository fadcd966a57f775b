"""What a description's routing comes to when everything is up: sessions, and prefixes by OSPF.

What a filter, a configuration of the user's own or a node without `routing` makes of it is not
foretold. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_interface
from typing import NamedTuple

from hostlab.spec.model import Lab, Node
from hostlab.spec.routing import Ospf, RawUse

IPV4, IPV6 = 4, 6


class Adjacency(NamedTuple):
    """Where a neighbour of OSPF is expected: an interface, in one family."""

    family: int
    interface: str


@dataclass(slots=True)
class Expected:
    """Of one node."""

    neighbours: dict[Adjacency, dict[str, str]] = field(default_factory=dict)
    """On each interface: router id -> node."""
    peers: dict[str, str] = field(default_factory=dict)
    """BGP: address -> node."""
    prefixes: set[str] = field(default_factory=set)
    """That its kernel gets, or has because it is connected."""
    multicast: set[str] = field(default_factory=set)
    """Interfaces on which its kernel routes multicast."""
    ends: dict[str, dict[str, str]] = field(default_factory=dict)
    """Of VXLANs, by interface: other ends that EVPN tells of, address -> node."""

    @property
    def sessions(self) -> int:
        """How many sessions there are."""
        return sum(map(len, self.neighbours.values())) + len(self.peers)


def expected(lab: Lab) -> dict[str, Expected]:
    """What each node with a routing daemon is to have."""
    routers = {node.name: node for node in lab.nodes if node.routing is not None}
    found = {name: Expected() for name in routers}
    for family, version in ((IPV4, 2), (IPV6, 3)):
        _ospf(routers, found, family, version)
    for name, node in routers.items():
        bgp = None if _is_replaced(node) else node.routing and node.routing.bgp
        for peer in bgp.peers if bgp else ():
            other = routers.get(peer.name)
            if other is not None and not _is_replaced(other):
                found[name].peers[peer.address] = peer.name
        if node.routing is not None and node.routing.pim is not None and not _is_replaced(node):
            found[name].multicast.update(node.routing.pim.interfaces)
    _evpn(routers, found)
    return found


def _is_replaced(node: Node) -> bool:
    return node.routing is not None and node.routing.raw_use is RawUse.REPLACE


def _evpn(routers: Mapping[str, Node], found: Mapping[str, Expected]) -> None:
    """Which ends of a VXLAN hear of which others."""
    on: dict[str, list[tuple[str, str, str]]] = {}
    for name, node in routers.items():
        bgp = node.routing.bgp if node.routing is not None else None
        if bgp is None or not bgp.has_evpn or _is_replaced(node):
            continue
        for each in node.interfaces:
            tunnel = each.tunnel
            if tunnel is not None and tunnel.is_told:
                on.setdefault(each.segment, []).append((name, each.name, tunnel.local))
    for together in on.values():
        for name, interface, _ in together:
            others = {local: other for other, _, local in together if other != name}
            found[name].ends[interface] = others


def _ospf_of(node: Node, version: int) -> Ospf | None:
    routing = node.routing
    if routing is None or _is_replaced(node):
        return None
    ospf = routing.ospf
    return ospf if ospf is not None and version in ospf.versions else None


def _ospf(
    routers: Mapping[str, Node], found: Mapping[str, Expected], family: int, version: int
) -> None:
    """Who speaks with whom, and what each hears of all that it reaches."""
    ports: dict[tuple[str, str], list[tuple[str, str]]] = {}
    told: dict[str, set[str]] = {}
    for name, node in routers.items():
        ospf = _ospf_of(node, version)
        if ospf is None:
            continue
        told[name] = {a for a in node.loopbacks if (":" in a) == (family == IPV6)}
        interfaces = {interface.name: interface for interface in node.interfaces}
        for each in ospf.interfaces:
            interface = interfaces[each.name]
            told[name] |= _networks(interface.addresses, family)
            has_address = family == IPV6 or _networks(interface.addresses, family)
            if not each.is_passive and has_address:
                ports.setdefault((interface.segment, ospf.area), []).append((name, each.name))
    beside: dict[str, set[str]] = {name: set() for name in told}
    for together in ports.values():
        for name, interface_name in together:
            for other, _ in together:
                routing = routers[other].routing
                if other != name and routing is not None:
                    where = Adjacency(family, interface_name)
                    found[name].neighbours.setdefault(where, {})[routing.router_id] = other
                    beside[name].add(other)
    for part in _parts(beside):
        heard = set[str]().union(*(told[name] for name in part))
        for name in part:
            found[name].prefixes |= heard - set(routers[name].loopbacks)


def _networks(addresses: Iterable[str], family: int) -> set[str]:
    nets = [ip_interface(address).network for address in addresses]
    return {str(net) for net in nets if net.version == family}


def _parts(beside: Mapping[str, set[str]]) -> list[set[str]]:
    """The parts that hang together."""
    left, parts = dict.fromkeys(beside), []
    while left:
        waiting, part = [next(iter(left))], set[str]()
        while waiting:
            name = waiting.pop()
            if name in left:
                del left[name]
                part.add(name)
                waiting += beside[name]
        parts.append(part)
    return parts
