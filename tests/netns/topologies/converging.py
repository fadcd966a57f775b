"""What the kernels of a lab do with packets, beside what graph theory says; and the wait for it.

Each kernel tells of its changes; a table is read again only when it has. All links cost the same.
"""

from __future__ import annotations

import contextlib
import itertools
import select
import socket
import time
from collections.abc import Mapping
from typing import Self

import networkx

from hostlab.api import Lab
from hostlab.linux.entering import from_inside
from hostlab.linux.route_lookup import RTN_LOCAL, look_up
from hostlab.linux.rtmonitor import RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE, Monitor
from hostlab.observe.routing import Network, Owners, table_of, table_route

DEADLINE_S = 300.0

Hops = frozenset[tuple[str, str]]
"""The next hops of equal cost, each an interface and the node behind it."""
NextHops = Mapping[str, Hops]
"""Prefix -> the next hops to it; none where there is no way."""


def graph(lab: Lab, *, without: str | None = None) -> networkx.MultiGraph:
    """Nodes that are on one segment are neighbours; `without` is a segment that is cut."""
    found = networkx.MultiGraph()
    on: dict[str, list[str]] = {}
    for node in lab.description.nodes:
        found.add_node(node.name)
        for interface in node.interfaces:
            if interface.segment != without:
                on.setdefault(interface.segment, []).append(node.name)
    for segment, members in on.items():
        found.add_edges_from((*pair, segment) for pair in itertools.combinations(members, 2))
    return found


def expected(lab: Lab, net: networkx.MultiGraph) -> dict[str, NextHops]:
    """By router: through which neighbours each other router's loopbacks are nearest."""
    routers = {node.name: node.loopbacks for node in lab.description.nodes if node.loopbacks}
    interfaces = {
        (node.name, interface.segment): interface.name
        for node in lab.description.nodes
        for interface in node.interfaces
    }
    far = dict(networkx.all_pairs_shortest_path_length(net))
    return {
        start: {
            address: frozenset(
                (interfaces[start, segment], each)
                for each, segments in net[start].items()
                if end in far[each] and far[each][end] + 1 == far[start][end]
                for segment in segments
            )
            for end, own in routers.items()
            if end != start
            for address in own
        }
        for start in routers
    }


class Kernels:
    """The kernels of a lab's routers, each watched through sockets in its network."""

    def __init__(self, lab: Lab) -> None:
        self.owners = Owners(lab.description)
        self.loopbacks = {n.name: n.loopbacks for n in lab.description.nodes if n.loopbacks}
        pids = {node.name: node.pid for node in lab}
        with contextlib.ExitStack() as stack:
            self.sockets = {n: stack.enter_context(_told(pids[n])) for n in self.loopbacks}
            self.networks = {n: stack.enter_context(Network(pids[n])) for n in self.loopbacks}
            self._close = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close.close()

    def wait_converged(self, wanted: Mapping[str, NextHops]) -> None:
        """Until each node's table has these next hops; what is missing at the deadline is named.

        With a next hop of its own to each neighbour, every node has all its neighbours, so no link
        that is still to come can change anything.
        """
        names = {each.fileno(): name for name, each in self.sockets.items()}
        deadline = time.monotonic() + DEADLINE_S
        left_over = {name: self._missing(name, wanted[name]) for name in wanted}
        while any(left_over.values()):
            left = deadline - time.monotonic()
            assert left > 0, {name: each for name, each in left_over.items() if each}
            for told in select.select(list(self.sockets.values()), [], [], left)[0]:
                _drain(told)
                name = names[told.fileno()]
                left_over[name] = self._missing(name, wanted[name])

    def _missing(self, name: str, wanted: NextHops) -> dict[str, Hops]:
        has = {
            route.to: frozenset((hop.interface or "", hop.node or "") for hop in route.hops)
            for route in table_of(name, self.networks[name], self.owners)
        }
        return {
            to: has.get(to, frozenset())
            for to, hops in wanted.items()
            if has.get(to, frozenset()) != hops
        }

    def reached(self) -> set[tuple[str, str]]:
        """From which node a packet gets to which address of another, as all kernels decide.

        Each is asked for its own part of the way; of several next hops, all must get there.
        """
        found = set()
        for end, addresses in self.loopbacks.items():
            for address in addresses:
                next_hops = {name: self._asked(name, address) for name in self.networks}
                assert next_hops[end] is None, f"{end} does not take {address} for its own"
                ways = networkx.DiGraph()
                ways.add_nodes_from(next_hops)
                ways.add_edges_from((n, hop) for n, hops in next_hops.items() for hop in hops or ())
                for name in set(next_hops) - {end}:
                    after = {name, *networkx.descendants(ways, name)}
                    dead = {n for n in after - {end} if not next_hops.get(n)}
                    if end in after and not dead and not _has_loop(ways, after):
                        found.add((name, address))
        return found

    def _asked(self, name: str, address: str) -> frozenset[str] | None:
        """Whereto a node's kernel sends what is for an address; None: it is its own."""
        network = self.networks[name]
        told = look_up(network.netlink, address.partition("/")[0]).route
        if told is None:
            return frozenset()
        if told.type == RTN_LOCAL:
            return None
        hops = table_route(name, told, network, self.owners).hops
        return frozenset(hop.node or "nobody" for hop in hops)


def _has_loop(ways: networkx.DiGraph, nodes: set[str]) -> bool:
    return not networkx.is_directed_acyclic_graph(ways.subgraph(nodes))


def _told(pid: int) -> socket.socket:
    """A socket that becomes readable when a route changes where a process is."""

    def work() -> tuple[bytes, list[int]]:
        return b"", [Monitor((RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE)).socket.detach()]

    _, (fd,) = from_inside(pid, ("user", "net"), work)
    return socket.socket(fileno=fd)


def _drain(told: socket.socket) -> None:
    """Read everything, and that some of it was dropped: the table is read afterwards."""
    while True:
        try:
            told.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            continue
