"""What a reader makes of the attributes that a file gives to its vertices and edges.

Names of attributes are compared without regard to case. Those of the Internet Topology Zoo, of
Graphviz and of networkx are known; what is not understood is told once for each name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from hostlab.spec.importing import Notes
from hostlab.spec.source import START, Mark, quoted
from hostlab.topologies.measures import degrees, delay, rate
from hostlab.topologies.network import Draft, Edge, Vertex

_LABELS: Final = ("label", "name")
_LATITUDES: Final = ("latitude", "lat")
_LONGITUDES: Final = ("longitude", "lon", "lng", "long")
_EXACT_RATES: Final = ("linkspeedraw",)
_RATES: Final = ("rate", "bandwidth", "capacity", "speed", "bw")
_WORDED_RATES: Final = ("linklabel", "linktype", "label")
"""Texts for people, in which a speed may stand."""
_DELAYS: Final = ("delay", "latency")
_COSTS: Final = ("cost", "metric", "weight")
_MAX_COST: Final = 65_535
"""Of a link in OSPF (RFC 2328, appendix A.4.2)."""
_NOTHING: Final = ("", "none", "nan")
"""Python's words for nothing, which files have as texts."""


class Attributes:
    """Attributes of one vertex or edge, and which of them were asked for."""

    def __init__(self, reading: Reading, said: Mapping[str, str], at: Mark) -> None:
        self._said = {name.lower(): text.strip() for name, text in said.items()}
        self._names = {name.lower(): name for name in said}
        self._reading = reading
        self.at = at

    def first(self, *names: str) -> str:
        """The first of these that says something; empty when none does."""
        for name in names:
            self._names.pop(name, None)
        found = (self._said.get(name, "") for name in names)
        return next((text for text in found if text.lower() not in _NOTHING), "")

    def has(self, *names: str) -> bool:
        """Whether one of these stands there, whatever it says."""
        return any(name in self._said for name in names)

    def left(self, what: str) -> None:
        """What nobody asked for is left out, and told."""
        self._reading.leave_out(what, self._names.values())

    def note(self, message: str) -> None:
        """Tell something of this vertex or edge."""
        self._reading.notes.note(self.at, message)


class Reading:
    """What all attributes of a file have in common: the notes, and what is left out of it."""

    def __init__(self, notes: Notes) -> None:
        self.notes = notes
        self._left: dict[str, dict[str, None]] = {}

    def leave_out(self, what: str, names: Iterable[str]) -> None:
        """Attributes of `what` (nodes, links) that the description has no words for."""
        self._left.setdefault(what, {}).update(dict.fromkeys(names))

    def done(self) -> None:
        """Tell what was left out, a line a sort."""
        for what, names in self._left.items():
            if names:
                listed = ", ".join(quoted(name) for name in names)
                self.notes.note(START, f"left out of {what}: {listed}")

    def merge_opposites(self, draft: Draft, at: Mark) -> None:
        """Of a directed graph, there and back are one link."""
        open_ways: dict[tuple[str, ...], int] = {}
        kept: list[Edge] = []
        for edge in draft.edges:
            back = tuple(reversed(edge.ends))
            if open_ways.get(back, 0) and len(set(edge.ends)) == 2:
                open_ways[back] -= 1
            else:
                open_ways[edge.ends] = open_ways.get(edge.ends, 0) + 1
                kept.append(edge)
        merged = len(draft.edges) - len(kept)
        tail = f"; {merged} are the way back of others" if merged else ""
        self.notes.note(at, "links have no direction" + tail)
        draft.edges = kept

    def vertex(self, name: str, said: Attributes, *, is_labelled: bool = True) -> Vertex:
        """A vertex; without `is_labelled` its id is its label, since the file has no labels."""
        label = said.first(*_LABELS) or ("" if is_labelled else name)
        latitude = self._degrees(said, _LATITUDES, 90)
        longitude = self._degrees(said, _LONGITUDES, 180)
        is_segment = said.first("hyperedge") not in ("", "0", "false")
        said.left("nodes")
        both = latitude is not None and longitude is not None
        return Vertex(
            id=name,
            label=label,
            at=said.at,
            latitude=latitude if both else None,
            longitude=longitude if both else None,
            is_segment=is_segment,
        )

    def _degrees(self, said: Attributes, names: tuple[str, ...], most: float) -> float | None:
        text = said.first(*names)
        value = degrees(text, most) if text else None
        if text and value is None:
            said.note(f"{quoted(text)} is no {names[0]}")
        return value

    def edge(self, ends: tuple[str, ...], said: Attributes) -> Edge:
        """An edge with its speed, delay and cost, where it has any."""
        worded = (said.first(name) for name in _WORDED_RATES)
        texts = list(filter(None, worded))
        found = Edge(
            ends=ends,
            at=said.at,
            label=texts[0] if texts else "",
            rate_bps=self._rate(said, texts),
            delay_s=self._delay(said),
            cost=self._cost(said),
        )
        said.first("linkspeed", "linkspeedunits", "linknote")  # Parts of `LinkLabel`.
        said.left("links")
        return found

    def _rate(self, said: Attributes, texts: list[str]) -> float | None:
        exact = said.first(*_EXACT_RATES, *_RATES)
        if exact:
            value = rate(exact)
            if value is None:
                said.note(f"{quoted(exact)} is no speed that is understood, as `10 Gbps` is")
            return value
        return next(filter(None, map(rate, texts)), None)

    def _delay(self, said: Attributes) -> float | None:
        text = said.first(*_DELAYS)
        value = delay(text) if text else None
        if text and value is None:
            said.note(f"{quoted(text)} is no delay that is understood, as `20ms` is")
        return value

    def _cost(self, said: Attributes) -> int | None:
        text = said.first(*_COSTS)
        if not text:
            return None
        whole = text.removesuffix(".0")
        if whole.isascii() and whole.isdigit() and len(whole) <= 5 and 1 <= int(whole) <= _MAX_COST:
            return int(whole)
        said.note(f"{quoted(text)} is no cost: a whole number from 1 to {_MAX_COST} is")
        return None
