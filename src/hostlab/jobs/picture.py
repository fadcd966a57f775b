"""The state machine as a picture, drawn from the table that the machine itself follows."""

from __future__ import annotations

from hostlab.jobs.states import TABLE, Row, State


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
        lines += (f'  "{state}" -> "{to}" [{look}];' for to, look in _edges(state, row))
    return "\n".join([*lines, "}", ""])


def _does(row: Row) -> str:
    what = row.event or row.step
    return f"{row.action}: {what}" if what else str(row.action)


def _edges(state: State, row: Row) -> list[tuple[State, str]]:
    """Where each goal leads; one edge where both lead to the same."""
    if row.start is row.stop:
        edges = [(row.start, "")]
    else:
        edges = [(row.start, 'label="start", color=darkgreen')]
        if row.stop is not state:
            edges.append((row.stop, 'label="stop", color=firebrick'))
    if row.stop_without_main is not None:
        edges.append((row.stop_without_main, 'label="stop, no main process", color=firebrick'))
    if row.respawn is not None:
        edges.append((row.respawn, 'label="respawn", color=darkorange'))
    return edges
