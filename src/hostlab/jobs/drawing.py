"""The graph of jobs and events for Graphviz and for Mermaid.

Jobs are boxes with a field for `start on` and one for `stop on`, events are diamonds, dotted when
they stand for many. Lines lead from a job to what it emits or waits for, as initctl2dot drew them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from hostlab.jobs.relations import Graph, Kind, Relation, is_glob


class Colours(msgspec.Struct, frozen=True, kw_only=True):
    """The colours of a drawing, as X11 or `#RRGGBB` names them; the defaults are initctl2dot's."""

    emits: str = "green"
    start_on: str = "blue"
    stop_on: str = "red"
    event: str = "thistle"
    job: str = "#DCDCDC"
    text: str = "black"
    bg: str = "white"
    event_text: str = "black"
    job_text: str = "black"
    jobs: Mapping[str, str] = {}
    """Job -> the colour of its own box, instead of `job`."""

    def box(self, name: str) -> str:
        """The colour of a job's box."""
        return self.jobs.get(name, self.job)

    def line(self, kind: Kind) -> str:
        """The colour of lines of a kind."""
        match kind:
            case Kind.EMITS:
                return self.emits
            case Kind.START_ON:
                return self.start_on
            case Kind.STOP_ON:
                return self.stop_on


PORTS: Final[Mapping[Kind, str]] = {Kind.EMITS: "job", Kind.START_ON: "start", Kind.STOP_ON: "stop"}
"""The field of a job's box that a line leaves from."""


def dot(graph: Graph, colours: Colours) -> str:
    """For dot(1)."""
    lines = [
        "digraph upstart {",
        f"  graph [rankdir=LR, bgcolor={_quoted(colours.bg)}, "
        f"fontcolor={_quoted(colours.text)}, label={_legend(colours)}];",
    ]
    for event in graph.events:
        style = "dotted" if is_glob(event) else "filled"
        lines.append(
            f"  {_event(event)} [shape=diamond, label={_quoted(event)}, style={style}, "
            f"fillcolor={_quoted(colours.event)}, fontcolor={_quoted(colours.event_text)}];"
        )
    for job in graph.jobs:
        fields = f"<job> {_record(job)} | {{ <start> start on | <stop> stop on }}"
        lines.append(
            f'  {_job(job)} [shape=record, label="{fields}", style=filled, '
            f"fillcolor={_quoted(colours.box(job))}, fontcolor={_quoted(colours.job_text)}];"
        )
    for each in graph.relations:
        to = _event(each.event) if each.other is None else f"{_job(each.other)}:job"
        label = "" if each.other is None else f", label={_quoted(each.event)}"
        colour = _quoted(colours.line(each.kind))
        lines.append(f"  {_job(each.job)}:{PORTS[each.kind]} -> {to} [color={colour}{label}];")
    return "\n".join([*lines, "}", ""])


def _legend(colours: Colours) -> str:
    boxes = f"Boxes of colour {colours.job} are" if not colours.jobs else "Boxes are"
    return _quoted(
        f"{boxes} jobs, diamonds of colour {colours.event} events, dotted ones stand for many.",
        f"Lines: emits {colours.emits}, start on {colours.start_on}, stop on {colours.stop_on}.",
    )


def _job(name: str) -> str:
    return _quoted(f"job_{name}")


def _event(name: str) -> str:
    return _quoted(f"event_{name}")


def _quoted(*lines: str) -> str:
    """A string of the dot language; `\\n` is its line break, so a backslash is doubled."""
    escaped = (line.replace("\\", "\\\\").replace('"', '\\"') for line in lines)
    return '"' + "\\n".join(escaped) + '"'


def _record(text: str) -> str:
    """A text in a record's label, where more characters mean something."""
    return "".join(f"\\{char}" if char in '\\{}|<> "' else char for char in text)


def mermaid(graph: Graph, colours: Colours) -> str:
    """For Mermaid: a flowchart, its lines labelled with what the job does."""
    jobs = {name: f"j{number}" for number, name in enumerate(graph.jobs)}
    events = {name: f"e{number}" for number, name in enumerate(graph.events)}
    lines = ["flowchart LR"]
    lines += (f'  {number}["{entities(name)}"]:::job' for name, number in jobs.items())
    lines += (f'  {number}{{"{entities(name)}"}}:::event' for name, number in events.items())
    drawn: dict[Kind, list[str]] = {kind: [] for kind in Kind}
    for index, each in enumerate(graph.relations):
        to = events[each.event] if each.other is None else jobs[each.other]
        lines.append(f'  {jobs[each.job]} -->|"{entities(_label(each))}"| {to}')
        drawn[each.kind].append(str(index))
    for kind, numbers in drawn.items():
        if numbers:
            lines.append(f"  linkStyle {','.join(numbers)} stroke:{colours.line(kind)}")
    lines.append(f"  classDef job fill:{colours.job},color:{colours.job_text}")
    for name in graph.jobs:
        if name in colours.jobs:
            lines.append(f"  style {jobs[name]} fill:{colours.jobs[name]}")
    lines.append(f"  classDef event fill:{colours.event},color:{colours.event_text}")
    return "\n".join([*lines, ""])


def _label(relation: Relation) -> str:
    word = relation.kind.value.replace("-", " ")
    return word if relation.other is None else f"{word} {relation.event}"


def entities(text: str) -> str:
    """A text in Mermaid's quotes, where it reads HTML and entities of its own (`#35;`)."""
    return "".join(f"#{ord(c)};" if c in "#&<>\"'`\\[]{}()|$" else c for c in text)


Drawing = Callable[[Graph, Colours], str]
