"""A node's side of the network: addresses, routes, settings, neighbours.

The same requests serve a node that starts, which sends them itself, and a node that is changed
while it runs, for which the hub sends them through a socket of the node's namespace.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_interface, ip_network
from typing import Final

from hostlab.linux import rtnetlink
from hostlab.linux.netlink import Request
from hostlab.spec.model import Interface, Lab, Node, Route

LOOPBACK: Final = 1
FIRST_INDEX: Final = 2
"""A new namespace's loopback is 1; a node's interfaces are numbered from 2 in their order."""
EVERYBODY: Final = 32
"""Nodes of a segment that know, and are known by, all of the segment from the start.

On a larger segment the others know only these, and ask for the rest: 1,000 nodes that all knew
each other would be a million entries.
"""

Neighbours = Mapping[tuple[str, bytes], bytes]
"""(interface, packed address) -> MAC."""


def indexes(interfaces: Iterable[Interface]) -> dict[str, int]:
    """The interface indexes of a node that is being made."""
    return {interface.name: FIRST_INDEX + n for n, interface in enumerate(interfaces)}


def configure(node: Node, index: Mapping[str, int], neighbours: Neighbours) -> list[Request]:
    """Everything a new node needs, in one batch; its links exist already."""
    requests = [rtnetlink.link_set(LOOPBACK, up=True)]
    for interface in node.interfaces:
        number = index[interface.name]
        requests += [rtnetlink.address_add(number, address) for address in interface.addresses]
        requests.append(rtnetlink.link_set(number, up=True))
    requests += [route_add(route, index) for route in node.routes]
    requests += [
        rtnetlink.neighbour_add(index[name], address, mac)
        for (name, address), mac in neighbours.items()
    ]
    return requests


def route_add(route: Route, index: Mapping[str, int]) -> Request:
    """A described route as a request."""
    number = index[route.interface] if route.interface else None
    return rtnetlink.route_add(route.to, via=route.via, index=number, metric=route.metric)


def route_delete(route: Route, index: Mapping[str, int]) -> Request:
    """The request that takes a described route away."""
    number = index[route.interface] if route.interface else None
    return rtnetlink.route_delete(route.to, via=route.via, index=number, metric=route.metric)


class Directory:
    """Who is on which segment: made once a plan, asked once a node."""

    def __init__(self, lab: Lab) -> None:
        self._ports: dict[str, list[tuple[str, Interface]]] = {s.name: [] for s in lab.segments}
        self._known: dict[str, dict[tuple[str, int], list[tuple[bytes, bytes]]]] = {}
        for node in lab.nodes:
            for interface in node.interfaces:
                self._ports[interface.segment].append((node.name, interface))

    def neighbours(self, node: Node) -> dict[tuple[str, bytes], bytes]:
        """Whom this node knows from the start."""
        found: dict[tuple[str, bytes], bytes] = {}
        for interface in node.interfaces:
            prefixes = [ip_network(ip_interface(a).network) for a in interface.addresses]
            for name, other in self._visible(node.name, interface.segment):
                if name == node.name and other.name == interface.name:
                    continue
                mac = rtnetlink.mac_bytes(other.mac)
                for address in other.addresses:
                    ip = ip_interface(address).ip
                    if any(ip in prefix for prefix in prefixes if prefix.version == ip.version):
                        found[interface.name, ip.packed] = mac
        return found

    def _visible(self, node: str, segment: str) -> Iterator[tuple[str, Interface]]:
        ports = self._ports[segment]
        first = ports[:EVERYBODY]
        if any(name == node for name, _ in first):
            yield from ports
        else:
            yield from first


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
