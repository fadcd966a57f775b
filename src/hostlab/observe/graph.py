"""Pictures of a lab: for the terminal, for Graphviz, for Mermaid, and as SVG.

All are made from the description alone, in its order, so that the same lab is the same picture
and two versions of it can be compared. States of nodes, where known, become colours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeAlias

from hostlab.observe.graph_labels import (
    State,
    States,
    attachments,
    clean,
    node_notes,
    segment_details,
)
from hostlab.observe.graph_svg import COLOURS, svg
from hostlab.spec.model import Interface, Lab, Node, Segment

__all__ = ["FORMATS", "Picture", "State", "States", "ascii_art", "dot", "mermaid", "svg"]

_WIDTH: Final = 78


def ascii_art(lab: Lab, states: States | None = None) -> str:
    """For the terminal: each segment as a bar, what is plugged into it hanging below.

    Only ASCII, whatever the names are. A node on several segments is under each of them, and
    says where else it is.
    """
    known = states or {}
    lines = [f"lab {clean(lab.name)}: {_count(lab.nodes, 'node')}, "
             f"{_count(lab.segments, 'segment')}"]  # fmt: skip
    width = max((len(clean(node.name)) for node in lab.nodes), default=0)
    plugged = attachments(lab)
    for segment in lab.segments:
        lines += ["", *_ascii_segment(segment, plugged[segment.name], width, known)]
    alone = [node for node in lab.nodes if not node.interfaces]
    if alone:
        lines += ["", "on no segment", "  |"]
        lines += [_ascii_row(node, "", node_notes(node), width, known) for node in alone]
    return "\n".join(lines).encode("ascii", "replace").decode() + "\n"


def _count(things: tuple[object, ...], name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def _ascii_segment(
    segment: Segment, plugged: list[tuple[Node, Interface]], width: int, states: States
) -> Iterator[str]:
    head = f"==[ {clean(segment.name)} ]== {'  '.join(segment_details(segment))} "
    yield head.ljust(_WIDTH, "=")
    yield "  |"
    for address in segment.machine:
        yield f"  +-- {'(machine)'.ljust(width)}  {clean(address)}"
    said: set[str] = set()
    for node, interface in plugged:
        addresses = "  ".join(clean(address) for address in interface.addresses)
        where = f"{clean(interface.name).ljust(5)} {addresses}".rstrip()
        others = {each.segment: None for each in node.interfaces if each.segment != segment.name}
        # Published ports belong to the node, so they stand at its first interface only.
        first = interface is node.interfaces[0]
        notes = node_notes(node) if first else []
        if others and node.name not in said:
            notes.append("also on " + ", ".join(clean(other) for other in others))
        said.add(node.name)
        yield _ascii_row(node, where, notes, width, states)


def _ascii_row(node: Node, where: str, notes: list[str], width: int, states: States) -> str:
    state = f"[{states[node.name].value}]" if node.name in states else ""
    parts = [clean(node.name).ljust(width), where, state, f"({'; '.join(notes)})" if notes else ""]
    return "  +-- " + "  ".join(part for part in parts if part).rstrip()


def dot(lab: Lab, states: States | None = None) -> str:
    """For Graphviz: segments as wide filled boxes, nodes as boxes, interfaces on the edges."""
    known = states or {}
    lines = [
        f"graph {_dot(clean(lab.name))} {{",
        '  graph [rankdir=TB, nodesep=0.4, ranksep=0.7, fontname="sans-serif"];',
        '  node [shape=box, style="rounded,filled", fillcolor=white, fontname="sans-serif"];',
        '  edge [fontname="sans-serif", fontsize=9, color="#57606a"];',
    ]
    for number, segment in enumerate(lab.segments):
        machine = [f"machine {clean(address)}" for address in segment.machine]
        label = _dot(clean(segment.name), *segment_details(segment), *machine)
        lines.append(
            f'  s{number} [label={label}, shape=box, style=filled, fillcolor="#ddf4ff", width=3];'
        )
    for number, node in enumerate(lab.nodes):
        state = known.get(node.name)
        colour = f', color="{COLOURS[state]}", penwidth=2' if state else ""
        label = _dot(clean(node.name), *node_notes(node))
        lines.append(f"  n{number} [label={label}{colour}];")
    for node_number, segment_number, interface in _edges(lab):
        label = _dot(clean(interface.name), *(clean(address) for address in interface.addresses))
        lines.append(f"  s{segment_number} -- n{node_number} [label={label}];")
    return "\n".join([*lines, "}"]) + "\n"


def _dot(*lines: str) -> str:
    """A quoted label; `\\n` is Graphviz's line break, so a backslash in a name is doubled."""
    escaped = (line.replace("\\", "\\\\").replace('"', '\\"') for line in lines)
    return '"' + "\\n".join(escaped) + '"'


def _edges(lab: Lab) -> Iterator[tuple[int, int, Interface]]:
    numbers = {segment.name: number for number, segment in enumerate(lab.segments)}
    for number, node in enumerate(lab.nodes):
        for interface in node.interfaces:
            if interface.segment in numbers:
                yield number, numbers[interface.segment], interface


def mermaid(lab: Lab, states: States | None = None) -> str:
    """For Mermaid, as pages of Markdown show it: a flowchart with the lab's name as its title."""
    known = states or {}
    lines = ["---", f"title: {_mermaid_title(lab.name)}", "---", "flowchart TB"]
    for number, segment in enumerate(lab.segments):
        machine = [f"machine {clean(address)}" for address in segment.machine]
        label = _mermaid(clean(segment.name), *segment_details(segment), *machine)
        lines.append(f"  s{number}[[{label}]]:::segment")
    for number, node in enumerate(lab.nodes):
        state = known.get(node.name)
        label = _mermaid(clean(node.name), *node_notes(node))
        lines.append(f"  n{number}({label})" + (f":::{state.value}" if state else ""))
    for node_number, segment_number, interface in _edges(lab):
        label = _mermaid(clean(interface.name), *(clean(a) for a in interface.addresses))
        lines.append(f"  s{segment_number} ---|{label}| n{node_number}")
    lines.append("  classDef segment fill:#ddf4ff,stroke:#0969da,color:#1f2328")
    for state, colour in COLOURS.items():
        lines.append(f"  classDef {state.value} stroke:{colour},stroke-width:3px")
    return "\n".join(lines) + "\n"


def _mermaid(*lines: str) -> str:
    """A quoted label, where Mermaid reads HTML and entities of its own (`#35;`)."""
    return '"' + "<br/>".join(_entities(line) for line in lines) + '"'


def _entities(text: str) -> str:
    return "".join(f"#{ord(c)};" if c in "#&<>\"'`\\[]{}()|" else c for c in text)


def _mermaid_title(name: str) -> str:
    """A YAML string: Mermaid's front matter is YAML."""
    return '"' + clean(name).replace("\\", "\\\\").replace('"', '\\"') + '"'


Picture: TypeAlias = Callable[[Lab, States | None], str]
"""Draws a lab, coloured by the states that are known."""

FORMATS: Final[Mapping[str, Picture]] = {
    "ascii": ascii_art,
    "dot": dot,
    "mermaid": mermaid,
    "svg": svg,
}
"""Every picture, by the name that the command line has for it."""
