"""The graph of jobs and events as SVG, without any program.

What causes stands to the left of what it causes: a job of what it emits, an event of what starts
on it. A column is the longest way to it from the left; `stop on` has no say in that, nor has a line
that would close a circle (found by a walk in depth, without recursion). Within a column things
stand near the middle of what they hang on. A line that leads back goes round in a bow.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from html import escape
from typing import Final

from hostlab.jobs.drawing import Colours
from hostlab.jobs.relations import Graph, Kind, Relation, is_glob

Vertex = tuple[str, str]
"""What it is, `job` or `event`, and its name."""

# All in px.
_MARGIN: Final = 24
_ROW: Final = 34
_HEIGHT: Final = 24
_GAP: Final = 110
_CHARACTER: Final = 7.2
_LEGEND: Final = 22
_PAD: Final = 24
_SWEEPS: Final = 6
"""Times that every column is put in order beside its neighbours."""

_STYLE: Final = (
    'text{font-family:system-ui,"DejaVu Sans",sans-serif;font-size:12px;text-anchor:middle}'
    "path{fill:none;stroke-width:1.3;opacity:.8}"
)


def svg(graph: Graph, colours: Colours) -> str:
    """A self-contained SVG document: no script, no font, nothing from elsewhere."""
    return _Drawing(graph, colours).draw()


class _Drawing:
    def __init__(self, graph: Graph, colours: Colours) -> None:
        self.colours = colours
        jobs: list[Vertex] = [("job", name) for name in graph.jobs]
        self.vertices = jobs + [("event", name) for name in graph.events]
        self.lines = [(*_ends(each), each) for each in graph.relations]
        self.columns = self._arrange()
        self.places: dict[Vertex, tuple[float, float, float]] = {}
        """Left edge, middle of the height, width."""

    def _arrange(self) -> list[list[Vertex]]:
        causes = [(a, b) for a, b, each in self.lines if each.kind is not Kind.STOP_ON]
        rank = _ranks(self.vertices, causes)
        columns: list[list[Vertex]] = [[] for _ in range(max(rank.values(), default=0) + 1)]
        for vertex in self.vertices:
            columns[rank[vertex]].append(vertex)
        near: dict[Vertex, list[Vertex]] = defaultdict(list)
        for a, b, _ in self.lines:
            near[a].append(b)
            near[b].append(a)
        for sweep in range(_SWEEPS):
            at = {v: i - len(c) / 2 for c in columns for i, v in enumerate(c)}
            for column in columns if sweep % 2 == 0 else reversed(columns):
                means = {v: _mean([at[n] for n in near[v]], at[v]) for v in column}
                column.sort(key=means.__getitem__)
                at.update({v: i - len(column) / 2 for i, v in enumerate(column)})
        return columns

    def draw(self) -> str:
        """The document."""
        tallest = max(len(column) for column in self.columns)
        height = 2 * _MARGIN + tallest * _ROW + _LEGEND
        x = float(_MARGIN)
        for column in self.columns:
            width = max((len(name) * _CHARACTER + _PAD for _, name in column), default=0.0)
            top = _MARGIN + (tallest - len(column)) * _ROW / 2 + _ROW / 2
            for row, vertex in enumerate(column):
                self.places[vertex] = (x, top + row * _ROW, width)
            x += width + _GAP
        width = max(x - _GAP + _MARGIN, 480.0)
        size = f"{width:.0f} {height:.0f}"
        legend = ", ".join(
            f'<tspan fill="{escape(self.colours.line(kind))}">{kind.replace("-", " ")}</tspan>'
            for kind in Kind
        )
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" role="img">',
            f"<title>Jobs and events</title><style>{_STYLE}</style>",
            f'<rect width="100%" height="100%" fill="{escape(self.colours.bg)}"/>',
            *(self._line(*line) for line in self.lines),
            *(self._vertex(vertex) for vertex in self.vertices),
            f'<text x="{width / 2:.1f}" y="{height - 12:.1f}" fill="{escape(self.colours.text)}">'
            f"{legend}</text>",
            "</svg>",
        ]
        return "\n".join(parts) + "\n"

    def _line(self, start: Vertex, end: Vertex, relation: Relation) -> str:
        from_x, from_y, width = self.places[start]
        to_x, to_y, _ = self.places[end]
        from_x += width
        pull = (to_x - from_x) / 2 if to_x > from_x else float(_GAP)
        bow = 0 if to_x > from_x else _ROW
        way = (
            f"M{from_x:.1f} {from_y:.1f}C{from_x + pull:.1f} {from_y + bow:.1f} "
            f"{to_x - pull:.1f} {to_y + bow:.1f} {to_x:.1f} {to_y:.1f}"
        )
        colour = escape(self.colours.line(relation.kind))
        tip = escape(_clean(_sentence(relation)))
        arrow = (
            f"M{to_x - 6:.1f} {to_y - 3:.1f}L{to_x:.1f} {to_y:.1f}L{to_x - 6:.1f} {to_y + 3:.1f}"
        )
        return f'<path stroke="{colour}" d="{way}{arrow}"><title>{tip}</title></path>'

    def _vertex(self, vertex: Vertex) -> str:
        kind, name = vertex
        x, y, width = self.places[vertex]
        is_job = kind == "job"
        fill = escape(self.colours.box(name) if is_job else self.colours.event)
        ink = escape(self.colours.job_text if is_job else self.colours.event_text)
        top = y - _HEIGHT / 2
        if is_job:
            shape = (
                f'<rect x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{_HEIGHT}" rx="3" '
            )
        else:
            tips = (f"{x:.1f},{y:.1f}", f"{x + 9:.1f},{top:.1f}", f"{x + width - 9:.1f},{top:.1f}",
                    f"{x + width:.1f},{y:.1f}", f"{x + width - 9:.1f},{top + _HEIGHT:.1f}",
                    f"{x + 9:.1f},{top + _HEIGHT:.1f}")  # fmt: skip
            dashes = 'stroke="currentColor" stroke-dasharray="2 2" ' if is_glob(name) else ""
            shape = f'<polygon points="{" ".join(tips)}" {dashes}'
        return (
            f'{shape}fill="{fill}"/><text x="{x + width / 2:.1f}" y="{y + 4:.1f}" '
            f'fill="{ink}">{escape(_clean(name))}</text>'
        )


def _ends(relation: Relation) -> tuple[Vertex, Vertex]:
    """What causes, and what is caused."""
    job = ("job", relation.job)
    if relation.other is not None:
        return ("job", relation.other), job
    event = ("event", relation.event)
    return (job, event) if relation.kind is Kind.EMITS else (event, job)


def _sentence(relation: Relation) -> str:
    what = relation.event if relation.other is None else f"{relation.event} {relation.other}"
    match relation.kind:
        case Kind.EMITS:
            return f"{relation.job} emits {what}"
        case Kind.START_ON:
            return f"{relation.job} starts on {what}"
        case Kind.STOP_ON:
            return f"{relation.job} stops on {what}"


def _ranks(vertices: list[Vertex], causes: list[tuple[Vertex, Vertex]]) -> dict[Vertex, int]:
    """The column of each vertex: one more than the furthest of what causes it."""
    after: dict[Vertex, dict[Vertex, None]] = defaultdict(dict)
    for a, b in causes:
        after[a][b] = None
    order = list(_finished(vertices, after))
    position = {vertex: index for index, vertex in enumerate(reversed(order))}
    rank = dict.fromkeys(vertices, 0)
    for vertex in reversed(order):
        for other in after[vertex]:
            # A line to what comes before in this order would close a circle.
            if position[other] > position[vertex]:
                rank[other] = max(rank[other], rank[vertex] + 1)
    return rank


def _finished(vertices: list[Vertex], after: dict[Vertex, dict[Vertex, None]]) -> Iterator[Vertex]:
    """Every vertex once, when all that is behind it has come."""
    seen: set[Vertex] = set()
    caused = {other for others in after.values() for other in others}
    # From what nothing causes first, so that a circle is cut where it is entered.
    for root in sorted(vertices, key=caused.__contains__):
        if root in seen:
            continue
        seen.add(root)
        ways = [(root, iter(after[root]))]
        while ways:
            vertex, others = ways[-1]
            following = next((other for other in others if other not in seen), None)
            if following is None:
                ways.pop()
                yield vertex
            else:
                seen.add(following)
                ways.append((following, iter(after[following])))


def _mean(values: list[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _clean(text: str) -> str:
    """What XML does not take becomes U+FFFD."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)
