"""Networks that nobody has to draw: rings, grids, random regular graphs, Clos fabrics, fat trees.

Each gives the same network for the same numbers, and the same seed where there is one.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Final

from hostlab.errors import UsageError
from hostlab.spec.addresses import MAX_SEGMENTS
from hostlab.spec.importing import Notes
from hostlab.spec.model import MAX_NODES
from hostlab.spec.source import Source
from hostlab.topologies.description import USUAL, Options, describe
from hostlab.topologies.network import HOST, Edge, Network, Vertex, parts

_SWAPS_OF_EACH: Final = 10
"""How often each edge of a random graph changes its ends, on average."""


def generated(network: Network, options: Options = USUAL) -> str:
    """A network as the text of a description; UsageError for one that is too large for a lab."""
    nodes = sum(not vertex.is_segment for vertex in network.vertices)
    links = len(network.edges)
    if nodes > MAX_NODES or links > MAX_SEGMENTS:
        message = f"{nodes:,} nodes and {links:,} links are more than a lab has"
        hint = f"at most {MAX_NODES:,} nodes and {MAX_SEGMENTS:,} segments"
        raise UsageError("too-many", message, hint=hint)
    notes = Notes(Source("", network.name))
    text = describe(network, notes, name=network.name, options=options)
    return f"# Generated: {network.name}, {nodes} nodes.\n\n{text}"


def _routers(names: Iterable[str], role: str = "router") -> list[Vertex]:
    return [Vertex(id=name, label=name, role=role) for name in names]


def ring(nodes: int) -> Network:
    """`nodes` routers in a circle, from three on."""
    _at_least("a ring", nodes, 3)
    names = [f"r{n}" for n in range(1, nodes + 1)]
    edges = [Edge(ends=(one, names[(n + 1) % nodes])) for n, one in enumerate(names)]
    return Network(name=f"ring-{nodes}", vertices=tuple(_routers(names)), edges=tuple(edges))


def grid(rows: int, columns: int) -> Network:
    """Routers in rows and columns, each joined to the next in its row and in its column."""
    _at_least("a grid", rows * columns, 2)
    names = {(r, c): f"r{r + 1}-{c + 1}" for r in range(rows) for c in range(columns)}
    edges = [
        Edge(ends=(name, names[there]))
        for (row, column), name in names.items()
        for there in ((row, column + 1), (row + 1, column))
        if there in names
    ]
    vertices = tuple(_routers(names.values()))
    return Network(name=f"grid-{rows}x{columns}", vertices=vertices, edges=tuple(edges))


def random_regular(nodes: int, degree: int, seed: int) -> Network:
    """A connected network in which every router has `degree` links, no two of them parallel.

    A regular graph of the simplest kind whose edges exchange their ends at random, which reaches
    every other one (a chain of switches, as of R. Taylor, 1981).
    """
    if not (2 <= degree < nodes and nodes * degree % 2 == 0):
        message = f"no network of {nodes} nodes has {degree} links at each"
        hint = "the degree is from 2 to one less than the nodes, and degree × nodes is even"
        raise UsageError("regular", message, hint=hint)
    if nodes > MAX_NODES:
        raise UsageError("too-many", f"more than {MAX_NODES:,} nodes")
    pairs = [(n, (n + step) % nodes) for step in range(1, degree // 2 + 1) for n in range(nodes)]
    if degree % 2:
        pairs += [(n, n + nodes // 2) for n in range(nodes // 2)]
    chance = random.Random(seed)
    name = f"random-regular-{nodes}-{degree}-{seed}"
    found = _pairs_as_network(name, nodes, pairs)
    for _ in range(_SWAPS_OF_EACH):
        _exchange(pairs, len(pairs), chance)
        shuffled = _pairs_as_network(name, nodes, pairs)
        if len(parts(shuffled)) == 1:
            found = shuffled
    return found


def _exchange(pairs: list[tuple[int, int]], times: int, chance: random.Random) -> None:
    """Let pairs of edges exchange an end each, where no loop and no parallel edge comes of it."""
    there = {frozenset(pair) for pair in pairs}
    for _ in range(times):
        # `random()` alone is the same in every version of Python.
        first, second = (int(chance.random() * len(pairs)) for _ in range(2))
        (a, b), (c, d) = pairs[first], pairs[second]
        if chance.random() < 0.5:
            c, d = d, c
        ours, theirs = frozenset((a, d)), frozenset((c, b))
        if len(ours) < 2 or len(theirs) < 2 or ours in there or theirs in there or ours == theirs:
            continue
        there -= {frozenset((a, b)), frozenset((c, d))}
        there |= {ours, theirs}
        pairs[first], pairs[second] = (a, d), (c, b)


def _pairs_as_network(name: str, nodes: int, pairs: list[tuple[int, int]]) -> Network:
    names = [f"r{n}" for n in range(1, nodes + 1)]
    ordered = sorted(tuple(sorted(pair)) for pair in pairs)
    edges = tuple(Edge(ends=(names[one], names[other])) for one, other in ordered)
    return Network(name=name, vertices=tuple(_routers(names)), edges=edges)


def clos(spines: int, leaves: int, hosts: int) -> Network:
    """Leaves joined to every spine, and `hosts` on a segment of each leaf."""
    _at_least("a Clos fabric", min(spines, leaves), 1)
    tops = [f"spine{n}" for n in range(1, spines + 1)]
    bottoms = [f"leaf{n}" for n in range(1, leaves + 1)]
    vertices = _routers(tops, "spine") + _routers(bottoms, "leaf")
    edges = [Edge(ends=(spine, leaf)) for leaf in bottoms for spine in tops]
    for number, leaf in enumerate(bottoms, 1):
        _add_hosts(vertices, edges, leaf, hosts, f"host{number}-")
    name = f"clos-{spines}x{leaves}"
    return Network(name=name, vertices=tuple(vertices), edges=tuple(edges))


def fat_tree(ports: int) -> Network:
    """A fat tree of routers with `ports` ports each, as Al-Fares and others have it (SIGCOMM 2008).

    `ports` pods of as many routers, half of them above the others; (ports/2)² cores above all;
    ports/2 hosts at each of the lower ones: ports³/4 hosts in all.
    """
    if ports < 2 or ports % 2:
        raise UsageError("fat-tree", f"a fat tree has an even number of ports, not {ports}")
    half = ports // 2
    vertices = _routers((f"core{n}" for n in range(1, half * half + 1)), "core")
    edges: list[Edge] = []
    for pod in range(1, ports + 1):
        uppers = [f"aggregation{pod}-{n}" for n in range(1, half + 1)]
        lowers = [f"edge{pod}-{n}" for n in range(1, half + 1)]
        vertices += _routers(uppers, "aggregation") + _routers(lowers, "edge")
        for number, upper in enumerate(uppers):
            cores = range(number * half + 1, (number + 1) * half + 1)
            edges += [Edge(ends=(f"core{core}", upper)) for core in cores]
            edges += [Edge(ends=(upper, lower)) for lower in lowers]
        for number, lower in enumerate(lowers, 1):
            _add_hosts(vertices, edges, lower, half, f"host{pod}-{number}-")
    return Network(name=f"fat-tree-{ports}", vertices=tuple(vertices), edges=tuple(edges))


def _add_hosts(
    vertices: list[Vertex], edges: list[Edge], router: str, hosts: int, prefix: str
) -> None:
    """Hosts on a segment of their own with a router, which is their gateway."""
    if not hosts:
        return
    segment = f"{router}-hosts"
    vertices.append(Vertex(id=segment, label=segment, is_segment=True))
    names = [f"{prefix}{n}" for n in range(1, hosts + 1)]
    vertices += [Vertex(id=name, label=name, role=HOST, gateway=router) for name in names]
    edges += [Edge(ends=(name, segment)) for name in (router, *names)]


def _at_least(what: str, found: int, least: int) -> None:
    if found < least:
        raise UsageError("too-few", f"{what} has {least} nodes or more, not {found}")
