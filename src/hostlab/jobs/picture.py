"""The state machine as a picture, drawn from the table that the machine itself follows."""

from __future__ import annotations

from typing import Final

from hostlab.jobs.states import TABLE, Row, State

_START: Final = "start"
_STOP: Final = "stop"
_STOP_STATE: Final = "stop, no main process"
_RESPAWN: Final = "respawn"
_COLOURS: Final = {
    _START: "darkgreen",
    _STOP: "firebrick",
    _STOP_STATE: "firebrick",
    _RESPAWN: "darkorange",
}


def state_machine_dot() -> str:
    """The table as a graph for dot(1): one node a state, one edge for each goal."""
    lines = [
        "digraph states {",
        "  rankdir=TB;",
        '  node [shape=box, style=rounded, fontname="sans-serif"];',
        '  edge [fontname="sans-serif", fontsize=10];',
    ]
    for state, row in TABLE.items():
        lines.append(f'  "{state}" [label="{state}\\n{_does(row)}"];')
        lines += (f'  "{state}" -> "{to}" [{_look(way)}];' for to, way in _edges(state, row))
    return "\n".join([*lines, "}", ""])


def state_machine_mermaid() -> str:
    """The same for Mermaid, as pages of Markdown show it."""
    numbers = {state: f"s{number}" for number, state in enumerate(TABLE)}
    lines = ["flowchart TB"]
    drawn: dict[str, list[str]] = {}
    edges = [(state, to, way) for state, row in TABLE.items() for to, way in _edges(state, row)]
    for state, row in TABLE.items():
        lines.append(f'  {numbers[state]}("{state}<br/>{_does(row)}")')
    for index, (state, to, way) in enumerate(edges):
        label = f"|{way}|" if way else ""
        lines.append(f"  {numbers[state]} -->{label} {numbers[to]}")
        if way:
            drawn.setdefault(_COLOURS[way], []).append(str(index))
    for colour, lines_of_it in drawn.items():
        lines.append(f"  linkStyle {','.join(lines_of_it)} stroke:{colour}")
    return "\n".join([*lines, ""])


def _look(way: str) -> str:
    return f'label="{way}", color={_COLOURS[way]}' if way else ""


def _does(row: Row) -> str:
    what = row.event or row.step
    return f"{row.action}: {what}" if what else str(row.action)


def _edges(state: State, row: Row) -> list[tuple[State, str]]:
    """Where each goal leads; one edge, of no name, where both lead to the same."""
    if row.start is row.stop:
        edges = [(row.start, "")]
    else:
        edges = [(row.start, _START)]
        if row.stop is not state:
            edges.append((row.stop, _STOP))
    if row.stop_without_main is not None:
        edges.append((row.stop_without_main, _STOP_STATE))
    if row.respawn is not None:
        edges.append((row.respawn, _RESPAWN))
    return edges
