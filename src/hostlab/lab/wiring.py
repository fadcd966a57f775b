"""A node's side of the network: addresses, routes, settings, neighbours.

The same requests serve a node that starts, which sends them itself, and a node that is changed
while it runs, for which the hub sends them through a socket of the node's namespace.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Final

import msgspec

from hostlab.lab import overlays
from hostlab.linux import rtnetlink
from hostlab.linux.netlink import Request, pack
from hostlab.spec.model import Interface, Lab, Node, Route, SegmentKind

LOOPBACK: Final = 1
FIRST_INDEX: Final = 2
"""A new namespace's loopback is 1; a node's interfaces are numbered from 2 in their order."""
ALL_PAIRS: Final = 128
"""On a segment of so many ports, or fewer, everyone knows everyone from the start."""
FIRST: Final = 32
"""On a larger one the first ports know, and are known by, all of the segment,"""
NEAR: Final = 16
"""and every port knows so many of those before and behind it in the description's order.

Whom a node does not know it asks for, within the kernel's machine-wide limit of 1,024 such entries
(gc_thresh3, arp(7)): that 1,000 nodes all knew each other would be a million entries. Whoever is
known knows back, so that no answer has to ask.
"""


def indexes(interfaces: Iterable[Interface]) -> dict[str, int]:
    """The indexes of the interfaces, and of the bridges, of a node that is being made."""
    described = tuple(interfaces)
    names = [*(interface.name for interface in described), *overlays.bridges(described)]
    return {name: FIRST_INDEX + n for n, name in enumerate(names)}


def configure(node: Node, index: Mapping[str, int]) -> list[Request]:
    """Everything a new node needs beside its neighbours, in one batch; its links exist already."""
    requests = [rtnetlink.address_add(LOOPBACK, address) for address in node.loopbacks]
    requests.append(rtnetlink.link_set(LOOPBACK, up=True))
    for interface in overlays.in_order(node.interfaces):
        requests += overlays.add(interface, index)
        holder = index[interface.holder]
        if interface.holder != interface.name:
            ports = [
                index[each.name] for each in node.interfaces if each.bridge == interface.bridge
            ]
            requests += overlays.bridge(interface, ports, holder)
            requests.append(rtnetlink.link_set(index[interface.name], up=True))
        requests += [rtnetlink.address_add(holder, address) for address in interface.addresses]
        requests += [*link_local(interface, holder), rtnetlink.link_set(holder, up=True)]
    requests += [route_add(route, index) for route in node.routes]
    return requests


def link_local(interface: Interface, index: int) -> list[Request]:
    """What makes its link-local address usable at once; for a link that is not up yet.

    The kernel's own would be looked for on the segment for a second first, where what is left of
    a killed node of this name can still answer, and then stay unusable for good.
    """
    has_mac = interface.tunnel is None or interface.tunnel.kind is SegmentKind.VXLAN
    if not has_mac or all(":" not in address for address in interface.addresses):
        return []
    return [rtnetlink.address_add(index, f"{rtnetlink.link_local(interface.mac)}/64")]


def route_add(route: Route, index: Mapping[str, int]) -> Request:
    """A described route as a request."""
    number = index[route.interface] if route.interface else None
    return rtnetlink.route_add(route.to, via=route.via, index=number, metric=route.metric)


def route_delete(route: Route, index: Mapping[str, int]) -> Request:
    """The request that takes a described route away."""
    number = index[route.interface] if route.interface else None
    return rtnetlink.route_delete(route.to, via=route.via, index=number, metric=route.metric)


class _Port(msgspec.Struct, frozen=True):
    """An interface on a segment, ready to compare."""

    mac: bytes
    addresses: tuple[bytes, ...]
    networks: tuple[_Network, ...]


_Network = tuple[int, int, int]
"""Bytes of an address, bits after the prefix, and the prefix as a number."""
_Entry = tuple[bytes, bytes]
"""Packed address, MAC."""


class Directory:
    """Who is on which segment: made once a plan, asked once a node."""

    def __init__(self, lab: Lab) -> None:
        self._ports: dict[str, list[_Port]] = {s.name: [] for s in lab.segments}
        self._places: dict[tuple[str, str], int] = {}
        self._entries: dict[tuple[str, tuple[_Network, ...]], list[tuple[_Entry, ...]]] = {}
        self._requests: dict[tuple[str, tuple[_Network, ...], int], list[bytes]] = {}
        for node in lab.nodes:
            for interface in _plugged(node):
                ports = self._ports[interface.segment]
                self._places[node.name, interface.name] = len(ports)
                ports.append(_port(interface))

    def neighbours(self, node: Node) -> dict[tuple[str, bytes], bytes]:
        """Whom this node knows from the start."""
        found: dict[tuple[str, bytes], bytes] = {}
        for interface in _plugged(node):
            place, port = self._port(node, interface)
            entries = self._entries_of(interface.segment, port.networks)
            for other in self._known(interface.segment, place):
                for packed, mac in entries[other]:
                    found[interface.name, packed] = mac
        return found

    def packed(self, node: Node, index: Mapping[str, int]) -> bytes:
        """The same as packed requests of a new node (`netlink.pack`)."""
        found: list[bytes] = []
        for interface in _plugged(node):
            place, port = self._port(node, interface)
            key = (interface.segment, port.networks, index[interface.name])
            table = self._requests.get(key)
            if table is None:
                table = self._requests[key] = [
                    pack(rtnetlink.neighbour_add(key[2], *entry) for entry in entries)
                    for entries in self._entries_of(*key[:2])
                ]
            found += [table[other] for other in self._known(interface.segment, place)]
        return b"".join(found)

    def _port(self, node: Node, interface: Interface) -> tuple[int, _Port]:
        place = self._places[node.name, interface.name]
        return place, self._ports[interface.segment][place]

    def _entries_of(self, segment: str, networks: tuple[_Network, ...]) -> list[tuple[_Entry, ...]]:
        """For each port of a segment, the addresses that lie in these networks."""
        table = self._entries.get((segment, networks))
        if table is None:
            table = self._entries[segment, networks] = [
                tuple(
                    (packed, port.mac)
                    for packed in port.addresses
                    if any(_is_in(packed, network) for network in networks)
                )
                for port in self._ports[segment]
            ]
        return table

    def _known(self, segment: str, place: int) -> Iterator[int]:
        """The other ports that the port at this place knows."""
        count = len(self._ports[segment])
        others: Iterable[int] = range(count)
        if count > ALL_PAIRS and place >= FIRST:
            near = {(place + step) % count for step in range(-NEAR, NEAR + 1)}
            others = sorted(near.union(range(FIRST)))
        return (other for other in others if other != place)


def _plugged(node: Node) -> Iterator[Interface]:
    """Of a tunnel nobody is told who is on it: whoever looks at one wants to see that asked."""
    return (interface for interface in node.interfaces if interface.tunnel is None)


def _port(interface: Interface) -> _Port:
    parsed = [ip_interface(address) for address in interface.addresses]
    return _Port(
        mac=rtnetlink.mac_bytes(interface.mac),
        addresses=tuple(address.packed for address in parsed),
        networks=tuple(_network(address) for address in parsed),
    )


def _network(address: IPv4Interface | IPv6Interface) -> _Network:
    shift = address.max_prefixlen - address.network.prefixlen
    return len(address.packed), shift, int(address) >> shift


def _is_in(packed: bytes, network: _Network) -> bool:
    length, shift, prefix = network
    return len(packed) == length and int.from_bytes(packed, "big") >> shift == prefix


def network_sysctls(node: Node) -> list[tuple[str, str]]:
    """Settings that belong to the node's network namespace."""
    return [(key, value) for key, value in node.sysctls if key.startswith("net.")]


def other_sysctls(node: Node) -> list[tuple[str, str]]:
    """Settings that belong to its other namespaces (kernel.shm*, fs.mqueue.*)."""
    return [(key, value) for key, value in node.sysctls if not key.startswith("net.")]


def _sysctl_path(key: str) -> str:
    """A dot in an interface's name is written as a slash, as sysctl(8) has it."""
    return f"/proc/sys/{key.translate(str.maketrans('./', '/.'))}"


def of_any_interface(key: str) -> str:
    """The same setting of interfaces that are yet to come: `net.ipv4.conf.default.…`."""
    parts = key.split(".")
    if len(parts) == 5 and parts[2] in ("conf", "neigh") and parts[3] != "all":
        parts[3] = "default"
    return ".".join(parts)


def read_sysctl(key: str) -> str | None:
    """One setting's value; None when there is none of that name."""
    try:
        with open(_sysctl_path(key)) as file:
            return file.read().strip()
    except FileNotFoundError:
        return None


def write_sysctl(key: str, value: str) -> None:
    """Set one."""
    path = _sysctl_path(key)
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)
