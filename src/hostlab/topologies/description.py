"""A network as a description: a router for each vertex, a segment for each edge.

What the network says and a description has no words for stands there as a comment: labels as they
were, and places.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from hostlab.spec.impairment_tables import MAX_DELAY_S, MAX_RATE, MIN_RATE
from hostlab.spec.impairments import NONE, Impairment
from hostlab.spec.importing import Description, Notes, emit, without_nothing
from hostlab.spec.routing import Engine
from hostlab.spec.source import START, quoted
from hostlab.topologies.measures import FIBRE_METRES_PER_S, distance_m, rate_text
from hostlab.topologies.naming import Taken, is_whole, link_name, plain
from hostlab.topologies.network import HOST, UNKNOWN_SEGMENT_PREFIX, Edge, Network, Vertex, parts

_NOT_LAB: Final = re.compile(r"[^A-Za-z0-9_.-]+")
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\uffef]+")
_MAX_COMMENT: Final = 80
_MAX_NAMED: Final = 5
"""Things that a note lists."""


class Options(NamedTuple):
    """What is made of a network beside its nodes and segments."""

    engine: Engine | None = Engine.BIRD
    """Whose daemons speak OSPF on the routers; None: they only forward."""
    is_impaired: bool = True
    """Whether links have their speeds and delays; else these are comments."""


USUAL: Final = Options()


@dataclass(kw_only=True, slots=True)
class Link:
    """A segment on its way into the description."""

    name: str
    members: list[str]
    """Ids of vertices that are nodes, in the order of the file."""
    routers: list[str] = field(default_factory=list)
    """Those of them that are no hosts."""
    label: str = ""
    rate_bps: float | None = None
    delay_s: float | None = None
    cost: int | None = None
    distance_m: float | None = None


@dataclass(kw_only=True, slots=True)
class Plan:
    """The names of everything, and which node is on which link."""

    names: dict[str, str] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)


def describe(network: Network, notes: Notes, *, name: str, options: Options) -> str:
    """The description's text; `name` is the lab's where the network has none."""
    plan = _planned(network, notes)
    nodes = [vertex for vertex in network.vertices if not vertex.is_segment]
    on: dict[str, list[Link]] = {vertex.id: [] for vertex in nodes}
    for link in plan.links:
        for member in link.members:
            on[member].append(link)
    roles = {vertex.id: vertex.role for vertex in nodes}
    for link in plan.links:
        link.routers = [each for each in link.members if roles[each] != HOST]
    description: Description = {
        "name": lab_name(network.name) or lab_name(name) or "network",
        "roles": {v.role: _role(v.role, options) for v in nodes},
        "segments": {link.name: _segment(link, options) for link in plan.links},
        "nodes": {plan.names[v.id]: _node(v, on[v.id], plan, options) for v in nodes},
    }
    comments = {("segments", link.name): _link_comment(link, options) for link in plan.links}
    comments |= {("nodes", plan.names[v.id]): _node_comment(v, plan.names[v.id]) for v in nodes}
    _tell_parts(network, plan, notes)
    return commented(emit(description), comments)


def _segment(link: Link, options: Options) -> Description | None:
    words = dict(_impairment(link).words())
    return {"impair": words} if words and options.is_impaired else None


def _impairment(link: Link) -> Impairment:
    """What its packets meet; a speed that no impairment can have stays a comment."""
    rate = None if link.rate_bps is None else round(link.rate_bps)
    if rate is not None and not MIN_RATE <= rate <= MAX_RATE:
        rate = None
    delay_s = min(round(link.delay_s or 0.0, 6), MAX_DELAY_S)
    return Impairment(delay_s=delay_s, rate=rate)


def _role(role: str, options: Options) -> Description | None:
    if role == HOST:
        return None
    if options.engine is None:
        return {"forwarding": True}
    engine = {} if options.engine is Engine.BIRD else {"engine": str(options.engine)}
    return {"loopback": True, "routing": {**engine, "ospf": True}}


def _node(vertex: Vertex, links: list[Link], plan: Plan, options: Options) -> dict[str, Any]:
    # A list with nothing on it, for one without any would be plugged into the only segment.
    found: dict[str, Any] = {"roles": [vertex.role], "interfaces": [link.name for link in links]}
    if vertex.gateway is not None:
        found["gateway"] = plan.names[vertex.gateway]
    if options.engine is not None and vertex.role != HOST:
        numbered = [(f"eth{number}", link) for number, link in enumerate(links)]
        ospf = without_nothing(
            {
                "costs": {name: link.cost for name, link in numbered if link.cost is not None},
                "passive": [name for name, link in numbered if link.routers == [vertex.id]],
            }
        )
        if ospf:
            found["routing"] = {"ospf": ospf}
    return found


def lab_name(label: str) -> str:
    """A label as the name of a lab; empty when nothing of it can be one."""
    return _NOT_LAB.sub("-", label).strip("-_.")[:63].strip("-_.")


def _planned(network: Network, notes: Notes) -> Plan:
    plan = Plan()
    vertices = {vertex.id: vertex for vertex in network.vertices}
    taken = Taken()
    for vertex in network.vertices:
        plan.names[vertex.id] = taken.add(_name(vertex, notes))
        _tell_name(vertex, plan.names[vertex.id], notes)
    _tell_missing_places(network, plan, notes)
    hubs = _hubs(network, plan, notes)
    links: dict[str, Link] = {}
    pairs: dict[frozenset[str], int] = {}
    names = Taken()
    for edge in network.edges:
        ends = list(dict.fromkeys(edge.ends))
        joined = list(dict.fromkeys(hubs[end] for end in ends if end in hubs))
        members = [end for end in ends if end not in hubs]
        if joined:
            if not members:
                continue
            hub = joined[0]
            if hub not in links:
                links[hub] = Link(name=names.add(plan.names[hub]), members=[])
                plan.links.append(links[hub])
            _join_hub(links[hub], members, edge, plan, notes)
        elif len(members) < 2:
            said = plan.names[members[0]] if members else "nothing"
            notes.note(edge.at, f"a link from {said} to itself is left out")
        else:
            pair = frozenset(members)
            pairs[pair] = pairs.get(pair, 0) + 1
            plan.links.append(_link(edge, members, vertices, names, plan))
    for pair, number in pairs.items():
        if number > 1:
            who = " and ".join(plan.names[each] for each in vertices if each in pair)
            notes.note(START, f"{number} links join {who}; each is a segment of its own")
    return plan


def _name(vertex: Vertex, notes: Notes) -> str:
    prefix = UNKNOWN_SEGMENT_PREFIX if vertex.is_segment else "node"
    return plain(vertex.label) or plain(f"{prefix}-{vertex.id}") or prefix


def _tell_name(vertex: Vertex, name: str, notes: Notes) -> None:
    what = "the shared segment" if vertex.is_segment else "the node"
    if not vertex.label:
        notes.note(vertex.at, f"{what} {quoted(vertex.id)} has no label, it is called `{name}`")
    elif not is_whole(vertex.label) or name != plain(vertex.label):
        notes.note(vertex.at, f"{what} {quoted(vertex.label)} is called `{name}`")


def _tell_missing_places(network: Network, plan: Plan, notes: Notes) -> None:
    nodes = [vertex for vertex in network.vertices if not vertex.is_segment]
    without = [plan.names[vertex.id] for vertex in nodes if vertex.latitude is None]
    if without and len(without) < len(nodes):
        message = f"no coordinates, so no delay of their links: {_listed(without)}"
        notes.note(START, message)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more


def _hubs(network: Network, plan: Plan, notes: Notes) -> dict[str, str]:
    """Vertex that is a segment -> the one that stands for it and all that are joined to it."""
    found = {vertex.id: vertex.id for vertex in network.vertices if vertex.is_segment}

    def first(name: str) -> str:
        while found[name] != name:
            name = found[name]
        return name

    for edge in network.edges:
        joined = [first(end) for end in dict.fromkeys(edge.ends) if end in found]
        for other in joined[1:]:
            if other != joined[0]:
                found[other] = joined[0]
                names = f"{plan.names[joined[0]]} and {plan.names[other]}"
                notes.note(edge.at, f"{names} are joined, so they are one segment")
    return {name: first(name) for name in found}


def _join_hub(link: Link, members: list[str], edge: Edge, plan: Plan, notes: Notes) -> None:
    for member in members:
        if member in link.members:
            message = f"{plan.names[member]} is on {link.name} already, the second link is left out"
            notes.note(edge.at, message)
        else:
            link.members.append(member)


def _link(
    edge: Edge, members: list[str], vertices: Mapping[str, Vertex], names: Taken, plan: Plan
) -> Link:
    if len(members) == 2:
        name = names.add(link_name(*(plan.names[each] for each in members)))
    else:
        wanted = plain(edge.label) or f"{UNKNOWN_SEGMENT_PREFIX}-{plan.names[members[0]]}"
        name = names.add(wanted[:60])
    link = Link(
        name=name,
        members=members,
        label=edge.label,
        rate_bps=edge.rate_bps,
        delay_s=edge.delay_s,
        cost=edge.cost,
    )
    places = [_place(vertices[each]) for each in members]
    if len(places) == 2 and places[0] is not None and places[1] is not None:
        link.distance_m = distance_m(places[0], places[1])
        if link.delay_s is None:
            link.delay_s = link.distance_m / FIBRE_METRES_PER_S
    return link


def _place(vertex: Vertex) -> tuple[float, float] | None:
    if vertex.latitude is None or vertex.longitude is None:
        return None
    return vertex.latitude, vertex.longitude


def _tell_parts(network: Network, plan: Plan, notes: Notes) -> None:
    segments = {vertex.id for vertex in network.vertices if vertex.is_segment}
    found = [[each for each in part if each not in segments] for part in parts(network)]
    found = [part for part in found if part]
    if len(found) > 1:
        told = [f"{plan.names[part[0]]} ({len(part)})" for part in found]
        message = f"the network has {len(found)} parts that nothing joins: {_listed(told)}"
        notes.note(START, message)


def _link_comment(link: Link, options: Options) -> str:
    said = [link.label] if link.label else []
    kept = _impairment(link) if options.is_impaired else NONE
    if link.rate_bps is not None and kept.rate is None:
        said.append(rate_text(link.rate_bps))
    if link.delay_s is not None and not kept.delay_s:
        said.append(f"{link.delay_s * 1000:.3g} ms")
    if link.distance_m is not None:
        said.append(f"{link.distance_m / 1000:.0f} km")
    return ", ".join(said)


def _node_comment(vertex: Vertex, name: str) -> str:
    said = [vertex.label] if vertex.label and vertex.label != name else []
    if vertex.latitude is not None and vertex.longitude is not None:
        said.append(f"{vertex.latitude:.4f} {vertex.longitude:.4f}")
    return ", ".join(said)


def commented(text: str, comments: Mapping[tuple[str, str], str]) -> str:
    """A description with a comment behind each key (section, name) that has one."""
    section = ""
    lines = []
    for line in text.split("\n"):
        found = re.match(r"( *)([^\s:#]+):", line)
        if found and not found[1]:
            section = found[2]
        comment = ""
        if found and len(found[1]) == 2:
            comment = _printable(comments.get((section, found[2].strip("'")), ""))
        lines.append(f"{line}  # {comment}" if comment else line)
    return "\n".join(lines)


def _printable(text: str) -> str:
    text = " ".join(_UNPRINTABLE.sub(" ", text).split())
    return text if len(text) <= _MAX_COMMENT else text[: _MAX_COMMENT - 1] + "…"
