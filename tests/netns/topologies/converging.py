"""Waiting until the kernels of a lab have the routes that graph theory gives them.

Each kernel tells of its changes; a table is read again only when it has. All links cost the same.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Mapping

import networkx

from hostlab.api import Lab
from hostlab.linux.entering import from_inside
from hostlab.linux.rtmonitor import RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE, Monitor
from hostlab.observe.routing import Network, Owners, table_of

DEADLINE_S = 300.0

NextHops = Mapping[str, frozenset[str]]
"""Prefix -> the nodes that are the next hops to it."""


def graph(lab: Lab) -> networkx.Graph:
    """Nodes that are on one segment are neighbours."""
    found = networkx.Graph()
    on: dict[str, list[str]] = {}
    for node in lab.description.nodes:
        found.add_node(node.name)
        for interface in node.interfaces:
            on.setdefault(interface.segment, []).append(node.name)
    for members in on.values():
        found.add_edges_from((one, other) for one in members for other in members if one != other)
    return found


def expected(lab: Lab, net: networkx.Graph) -> dict[str, NextHops]:
    """By router: through which neighbours each other router's loopbacks are nearest."""
    routers = {node.name: node.loopbacks for node in lab.description.nodes if node.loopbacks}
    far = dict(networkx.all_pairs_shortest_path_length(net))
    return {
        start: {
            address: frozenset(
                each for each in net[start] if far[each].get(end, -2) + 1 == far[start].get(end, -1)
            )
            for end, own in routers.items()
            if end != start and end in far[start]
            for address in own
        }
        for start in routers
    }


def wait_converged(lab: Lab, wanted: Mapping[str, NextHops]) -> None:
    """Until each node's table has these next hops; after the deadline what is missing is named.

    With a next hop of its own to each neighbour, every node has all its neighbours, so no link
    that is still to come can change anything.
    """
    owners, pids = Owners(lab.description), {node.name: node.pid for node in lab}
    deadline = time.monotonic() + DEADLINE_S
    with contextlib.ExitStack() as stack:
        sockets = {name: stack.enter_context(_told(pids[name])) for name in wanted}
        names = {each.fileno(): name for name, each in sockets.items()}
        networks = {name: stack.enter_context(Network(pids[name])) for name in wanted}

        def missing(name: str) -> dict[str, frozenset[str]]:
            has = {
                route.to: frozenset(hop.node or "" for hop in route.hops)
                for route in table_of(name, networks[name], owners)
            }
            return {
                to: has.get(to, frozenset())
                for to, hops in wanted[name].items()
                if has.get(to) != hops
            }

        left_over = {name: missing(name) for name in wanted}
        while any(left_over.values()):
            left = deadline - time.monotonic()
            assert left > 0, {name: each for name, each in left_over.items() if each}
            for each in select.select(list(sockets.values()), [], [], left)[0]:
                _drain(each)
                name = names[each.fileno()]
                left_over[name] = missing(name)


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
