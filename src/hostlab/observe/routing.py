"""The routing tables of a lab's nodes, read by rtnetlink in the namespace of each.

A socket is made inside and read from here, so a node costs one child that lives for a moment,
however long its tables are.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_interface, ip_network
from types import TracebackType
from typing import Final, NamedTuple, Self

from hostlab.linux.entering import from_inside
from hostlab.linux.netlink import Netlink
from hostlab.linux.route_lookup import KINDS, RTN_UNICAST, protocol_name
from hostlab.linux.rtmonitor import RouteTold, dump
from hostlab.linux.rtnetlink import (
    RT_TABLE_MAIN,
    RTM_GETROUTE,
    Link,
    addresses,
    link_local,
    links,
)
from hostlab.spec.model import Lab, Node

MACHINE: Final = "(machine)"
"""Who has an address that the machine's own interface has on a segment."""
_NETWORK: Final = ("user", "net")
_DEFAULTS: Final = {"inet": "0.0.0.0/0", "inet6": "::/0"}


class NextHop(NamedTuple):
    """Where a route leads."""

    interface: str | None
    """None of a route without one, as a blackhole."""
    via: str | None
    """The gateway; None for what is on the link itself."""
    node: str | None
    """Who has the gateway's address, as described; None when it is nobody's."""


class TableRoute(NamedTuple):
    """A route of a node, as its kernel has it."""

    node: str
    to: str
    """A prefix; the default routes are `0.0.0.0/0` and `::/0`."""
    hops: tuple[NextHop, ...]
    """Several are of equal cost."""
    protocol: str
    """Who put it there, by the kernel's number: kernel, static, bird, ospf, bgp, …"""
    metric: int
    table: int
    kind: str
    """`unicast`, or what becomes of packets instead: blackhole, unreachable, prohibit, throw."""


class Network:
    """The network namespace of a node, seen through one socket."""

    def __init__(self, pid: int) -> None:
        """OSError when the process is gone or its namespaces are not ours to enter."""

        def work() -> tuple[bytes, list[int]]:
            return b"", [Netlink().socket.detach()]

        _, (fd,) = from_inside(pid, _NETWORK, work)
        self.netlink = Netlink(adopted=socket.socket(fileno=fd))
        try:
            self.links: Mapping[int, Link] = {link.index: link for link in links(self.netlink)}
            self.addresses = addresses(self.netlink)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Look no more."""
        self.netlink.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def interface(self, index: int) -> str | None:
        """The name of an interface; None when there is none of this index."""
        link = self.links.get(index)
        return None if link is None else link.name

    def routes(self) -> Iterator[RouteTold]:
        """Every route of every table but the local one, without what each link has by itself."""
        for told in dump(self.netlink, RTM_GETROUTE):
            if isinstance(told, RouteTold) and not _is_of_every_link(told):
                yield told


def _is_of_every_link(told: RouteTold) -> bool:
    """IPv6 gives each link a route to its neighbours and one to multicast groups."""
    return told.to in ("fe80::/64", "ff00::/8")


class Owners:
    """Who has which address on which network, as a lab is described.

    Segments that nodes bridge, as a VXLAN and what extends it, are one network.
    """

    def __init__(self, lab: Lab) -> None:
        self._owners: dict[tuple[str, str], str] = {}
        self._segments: dict[tuple[str, str], str] = {}
        self._networks = _bridged(lab)
        self._shared = {node.name: _network_owner(node) for node in lab.nodes}
        for segment in lab.segments:
            for address in segment.machine:
                self._owners[self._networks[segment.name], _bare(address)] = MACHINE
        for node in lab.nodes:
            for interface in node.interfaces:
                self._segments[node.name, interface.holder] = interface.segment
                own = (*map(_bare, interface.addresses), link_local(interface.mac))
                for each in own:
                    network = self._networks[interface.segment]
                    self._owners.setdefault((network, each), node.name)

    def segment(self, node: str, interface: str | None) -> str | None:
        """The segment of an interface; None of one that is not described."""
        return self._segments.get((self._shared.get(node, node), interface or ""))

    def network(self, node: str, interface: str | None) -> str | None:
        """The name of one of the segments that are one network with that of an interface."""
        segment = self.segment(node, interface)
        return None if segment is None else self._networks[segment]

    def at(self, node: str, interface: str | None, address: str) -> str | None:
        """Who has an address on the network where an interface of a node is."""
        network = self.network(node, interface)
        return None if network is None else self._owners.get((network, address))


def _bridged(lab: Lab) -> dict[str, str]:
    """Of each segment, one that stands for all that are bridged with it."""
    found = {segment.name: segment.name for segment in lab.segments}
    for node in lab.nodes:
        tunnels = {i.bridge: i.segment for i in node.interfaces if i.bridge and i.tunnel}
        for interface in node.interfaces:
            if interface.bridge:
                found[interface.segment] = tunnels[interface.bridge]
    return found


def _network_owner(node: Node) -> str:
    return dict(node.namespaces).get("net", node.name)


def _bare(address: str) -> str:
    return str(ip_interface(address).ip)


def table_of(node: str, network: Network, owners: Owners) -> tuple[TableRoute, ...]:
    """A node's routes, by family and prefix."""
    found = (table_route(node, told, network, owners) for told in network.routes())
    return tuple(sorted(found, key=_order))


def table_route(node: str, told: RouteTold, network: Network, owners: Owners) -> TableRoute:
    """A route with its interfaces and gateways by name."""
    hops = tuple(
        NextHop(name, via or None, owners.at(node, name, via) if via else None)
        for via, index in told.hops
        for name in (network.interface(index),)
        if told.type == RTN_UNICAST
    )
    return TableRoute(
        node=node,
        to=_DEFAULTS[told.family] if told.to == "default" else told.to,
        hops=tuple(sorted(hops, key=lambda hop: (hop.interface or "", hop.via or ""))),
        protocol=protocol_name(told.protocol),
        metric=told.metric,
        table=told.table,
        kind=KINDS.get(told.type, str(told.type)),
    )


class _Prefix(NamedTuple):
    """A prefix as numbers: tables have tens of thousands, and `ip_network` takes its time."""

    version: int
    first: int
    length: int


def _prefix(text: str) -> _Prefix:
    address, _, length = text.partition("/")
    version = 6 if ":" in address else 4
    family, bits = (socket.AF_INET6, 128) if version == 6 else (socket.AF_INET, 32)
    first = int.from_bytes(socket.inet_pton(family, address))
    return _Prefix(version, first, int(length) if length else bits)


def _order(route: TableRoute) -> tuple[int, bool, int, int, int, int]:
    prefix = _prefix(route.to)
    is_beside = route.table != RT_TABLE_MAIN
    return (
        prefix.version, is_beside, route.table, prefix.first, prefix.length, route.metric
    )  # fmt: skip


def leads_to(route: TableRoute, wanted: str) -> bool:
    """Whether a route is to a part of a prefix, or an address is in what it is to."""
    ours, asked = _prefix(route.to), _prefix(wanted)
    if ours.version != asked.version:
        return False
    bits = 128 if ours.version == 6 else 32
    shorter, longer = (ours, asked) if "/" not in wanted else (asked, ours)
    unlike = (shorter.first ^ longer.first) >> (bits - shorter.length)
    return shorter.length <= longer.length and not unlike


def tables(
    lab: Lab, pids: Mapping[str, int], *, to: str | None = None
) -> dict[str, tuple[TableRoute, ...]]:
    """By node: its routes, or those that lead to an address (the longest first) or a prefix.

    Nodes that share a network have the same. ValueError when `to` is neither; OSError when a node
    has ended meanwhile.
    """
    if to is not None:
        to = str(ip_network(to, strict=False)) if "/" in to else str(ip_address(to))
    owners = Owners(lab)
    found: dict[str, tuple[TableRoute, ...]] = {}
    for name, pid in pids.items():
        with contextlib.closing(Network(pid)) as network:
            routes = table_of(name, network, owners)
        if to is not None:
            routes = tuple(route for route in routes if leads_to(route, to))
            if "/" not in to:
                routes = tuple(sorted(routes, key=lambda r: -_prefix(r.to).length))
        found[name] = routes
    return found
