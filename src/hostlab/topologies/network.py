"""A network as a graph: what every reader and every generator gives, and a description is made of.

A vertex is a node, or a segment that several nodes share (a hyperedge). An edge joins two or more
vertices; parallel ones are as many links.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hostlab.spec.source import START, Mark

ROUTER = "router"
HOST = "host"
UNKNOWN_SEGMENT_PREFIX = "lan"
"""How a shared segment without a label is called, before its id."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Vertex:
    """A node of a network, or a segment of it."""

    id: str
    """What edges call it."""
    label: str = ""
    """What people call it; empty when nobody said."""
    at: Mark = START
    latitude: float | None = None
    """Degrees, north is positive; None when unknown."""
    longitude: float | None = None
    """Degrees, east is positive."""
    is_segment: bool = False
    """A hyperedge, written as a vertex: everything that is joined to it is on one segment."""
    role: str = ROUTER
    """`host` for one that only sends and receives; everything else is a router."""
    gateway: str | None = None
    """The id of a host's first router."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Edge:
    """A link between two vertices, or a segment between several."""

    ends: tuple[str, ...]
    at: Mark = START
    label: str = ""
    rate_bps: float | None = None
    """Bits a second; None when unknown."""
    delay_s: float | None = None
    """One way, when it is said; what coordinates tell is not here."""
    cost: int | None = None
    """What a routing protocol counts for it, in each direction."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """A graph with a name."""

    name: str = ""
    vertices: tuple[Vertex, ...] = ()
    edges: tuple[Edge, ...] = ()


@dataclass(kw_only=True, slots=True)
class Draft:
    """A network that a reader is reading: vertices by their ids, in the order of the file."""

    name: str = ""
    vertices: dict[str, Vertex] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)

    def mention(self, name: str, at: Mark, *, label: str | None = None) -> None:
        """A vertex that an edge names, where nothing else has."""
        if name not in self.vertices:
            said = name if label is None else label
            self.vertices[name] = Vertex(id=name, label=said, at=at)

    def done(self) -> Network:
        """What was read."""
        vertices, edges = tuple(self.vertices.values()), tuple(self.edges)
        return Network(name=self.name, vertices=vertices, edges=edges)


def parts(network: Network) -> list[list[str]]:
    """The connected parts, as ids in the network's order; the largest first."""
    neighbours: dict[str, list[str]] = {vertex.id: [] for vertex in network.vertices}
    for edge in network.edges:
        for one in edge.ends:
            neighbours[one] += (other for other in edge.ends if other != one)
    found: list[list[str]] = []
    seen: set[str] = set()
    for vertex in network.vertices:
        if vertex.id in seen:
            continue
        seen.add(vertex.id)
        part = [vertex.id]
        for each in part:
            fresh = [other for other in dict.fromkeys(neighbours[each]) if other not in seen]
            seen.update(fresh)
            part += fresh
        found.append(part)
    return sorted(found, key=len, reverse=True)
