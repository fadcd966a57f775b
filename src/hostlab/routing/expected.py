"""What a description's routing comes to when everything is up: sessions, and prefixes by OSPF.

What a filter or a configuration of the user's own makes of it is not foretold. No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_interface
from typing import Final, NamedTuple

from hostlab.linux.rtnetlink import link_local
from hostlab.spec.job import Job, Step
from hostlab.spec.model import Lab, Node
from hostlab.spec.routing import Ospf, Peer, RawUse

IPV4, IPV6 = 4, 6
SPEAKERS: Final = ("exabgp", "bird", "bird6", "bgpd", "gobgpd")
"""Programs that speak BGP: a job that runs one is a peer to wait for."""
_SPEAKER: Final = re.compile(rf"(?:^|[\s/;&|(])(?:{'|'.join(SPEAKERS)})(?:$|[\s;&|)])", re.M)


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
    """BGP: address -> node, or the address again where it is nobody's."""
    bfd: dict[str, str] = field(default_factory=dict)
    """BFD: address -> node; one of the link itself with `%` and the interface."""
    prefixes: set[str] = field(default_factory=set)
    """That its kernel gets, or has because it is connected."""
    multicast: set[str] = field(default_factory=set)
    """Interfaces on which its kernel routes multicast."""
    ends: dict[str, dict[str, str]] = field(default_factory=dict)
    """Of VXLANs, by interface: other ends that EVPN tells of, address -> node."""

    @property
    def sessions(self) -> int:
        """How many sessions there are."""
        neighbours = sum(map(len, self.neighbours.values()))
        return neighbours + len(self.peers) + len(self.bfd)


def expected(lab: Lab) -> dict[str, Expected]:
    """What each node with a routing daemon is to have."""
    routers = {node.name: node for node in lab.nodes if node.routing is not None}
    found = {name: Expected() for name in routers}
    for family, version in ((IPV4, 2), (IPV6, 3)):
        _ospf(routers, found, family, version)
    every = {node.name: node for node in lab.nodes}
    owners = {address: name for name, node in every.items() for address in _addresses(node)}
    for name, node in routers.items():
        if node.routing is not None and node.routing.pim is not None and not _is_replaced(node):
            found[name].multicast.update(node.routing.pim.interfaces)
        for peer in _peers(node):
            owner = owners.get(peer.address, peer.name)
            if _is_awaited(peer, every.get(owner)):
                found[name].peers[peer.address] = owner
    asked = {
        name: dict(_asks_for_bfd(node, found[name], routers)) for name, node in routers.items()
    }
    for name, sessions in asked.items():
        for far, near in sessions.items():
            owner = owners.get(far.partition("%")[0], "")
            # One side that asks alone gets no answer.
            if owner in asked and any(theirs.partition("%")[0] == near for theirs in asked[owner]):
                found[name].bfd[far] = owner
    _evpn(routers, found)
    return found


def _addresses(node: Node) -> Iterator[str]:
    for address in node.loopbacks:
        yield address.partition("/")[0]
    for interface in node.interfaces:
        for address in interface.addresses:
            yield address.partition("/")[0]
        yield link_local(interface.mac)


def _peers(node: Node) -> tuple[Peer, ...]:
    if node.routing is None or node.routing.bgp is None or _is_replaced(node):
        return ()
    return node.routing.bgp.peers


def _is_awaited(peer: Peer, other: Node | None) -> bool:
    """What was said, else whether the other end is described to speak BGP."""
    if peer.is_awaited is not None:
        return peer.is_awaited
    if other is None:
        return False
    if other.routing is not None:
        return not _is_replaced(other)
    return any(map(_speaks_bgp, other.jobs))


def _speaks_bgp(job: Job) -> bool:
    main = None if job.manual else job.process(Step.MAIN)
    if main is None or job.start_on is None:
        return False
    words = (main.exec, main.script, *main.argv, *(w for c in main.commands for w in c.argv))
    return any(_SPEAKER.search(text) for text in words if text)


def _asks_for_bfd(
    node: Node, own: Expected, routers: Mapping[str, Node]
) -> Iterator[tuple[str, str]]:
    """Far and near address of each session of BFD that a node's daemon asks for."""
    routing = node.routing
    if routing is None or _is_replaced(node):
        return
    interfaces = {interface.name: interface for interface in node.interfaces}
    for session in routing.bfd.sessions if routing.bfd else ():
        yield session.address, session.local
    for peer in _peers(node):
        if peer.has_bfd and peer.address in own.peers:
            yield peer.address, peer.local
    if routing.ospf is None or not routing.ospf.has_bfd:
        return
    for where, neighbours in own.neighbours.items():
        here = interfaces[where.interface]
        for name in neighbours.values():
            for there in routers[name].interfaces:
                if there.segment != here.segment:
                    continue
                if where.family == IPV6:
                    far = f"{link_local(there.mac)}%{where.interface}"
                    yield far, link_local(here.mac)
                else:
                    yield from _first_in_common(there.addresses, here.addresses)


def _first_in_common(far: Iterable[str], near: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The addresses of IPv4 by which two speak OSPF: the first ones of one subnet."""
    theirs = [each for each in map(ip_interface, far) if each.version == IPV4]
    ours = [each for each in map(ip_interface, near) if each.version == IPV4]
    for other, own in ((o, n) for n in ours for o in theirs if o.ip in n.network):
        yield str(other.ip), str(own.ip)
        return


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
