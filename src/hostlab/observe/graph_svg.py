"""A lab as SVG: segments are bars, nodes are cards that hang from them.

A lab's nodes and segments are the two sides of a graph. From the first segment of each connected
part a breadth-first walk makes a tree of it: a segment's nodes hang below its bar, the segments
that a node leads on to are below the node. Widths are summed from the leaves up, places dealt out
from the root down, so nothing overlaps; what the tree leaves out (a second way to the same
segment) is a curve. Nodes that lead nowhere stand in stacks, so that a segment of a hundred hosts
is a block and not a line. Parts are laid side by side in shelves. All of it is linear in the size
of the lab, and without recursion: a chain may be as long as it likes.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from html import escape
from typing import Final

from hostlab.observe.graph_labels import (
    State,
    States,
    attachments,
    clean,
    node_notes,
    segment_details,
)
from hostlab.spec.model import Lab, Node, Segment

COLOURS: Final[Mapping[State, str]] = {
    State.RUNNING: "#1a7f37",
    State.STOPPED: "#8c959f",
    State.FAILED: "#cf222e",
}
"""The colour of a state, in every format."""

_SEGMENT_COLOURS: Final = (
    "#0969da",
    "#8250df",
    "#bc4c00",
    "#1b7c83",
    "#bf3989",
    "#57606a",
    "#9a6700",
    "#116329",
)
_MAX_LINES: Final = 8
"""Lines of a card below its name; more become a count."""
_MAX_STACKED: Final = 4
"""Nodes that lead nowhere stand side by side up to this many."""

# All in px.
_MARGIN: Final = 28
_TITLE: Final = 44
_GAP: Final = 22
_CARD_PAD: Final = 10
_NAME_LINE: Final = 20
_LINE: Final = 14
_BAR: Final = 8
_BAR_LABEL: Final = 22
_DROP: Final = 24
_SPINE: Final = 16
_LEAD_APART: Final = 14
_SHELF: Final = 1500
_ASPECT: Final = 1.8
_NAME_WIDTH: Final = 8.2
_TEXT_WIDTH: Final = 6.4
_LABEL_WIDTH: Final = 7.4

_STYLE: Final = """
text{font-family:system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif;fill:#1f2328}
.title{font-size:18px;font-weight:600}
.quiet{font-size:12px;fill:#57606a}
.name{font-size:13px;font-weight:600}
.line{font-family:ui-monospace,"DejaVu Sans Mono",Menlo,monospace;font-size:10.5px;fill:#424a53}
.port{fill:#0550ae}
.bar{font-size:12px;font-weight:600;paint-order:stroke;stroke:#f6f8fa;stroke-width:5px}
.bar tspan{font-weight:400;fill:#57606a}
.card{fill:#fff;stroke:#d0d7de}
.wire{fill:none;stroke-width:1.6}
""".strip()


class _Card:
    """A node as drawn."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.lines = list(_card_lines(node))
        longest = max((len(text) for text, _ in self.lines), default=0)
        wide = max(len(clean(node.name)) * _NAME_WIDTH + 16, longest * _TEXT_WIDTH)
        self.width = max(96.0, wide + 2 * _CARD_PAD)
        self.height = 2.0 * _CARD_PAD + _NAME_LINE - 4 + _LINE * len(self.lines)
        self.x = 0.0
        self.y = 0.0
        self.bars: list[_Bar] = []
        """The segments that it leads on to."""
        self.subtree = self.width

    @property
    def middle(self) -> float:
        return self.x + self.width / 2


class _Bar:
    """A segment as drawn."""

    def __init__(self, segment: Segment, colour: str) -> None:
        self.segment = segment
        self.colour = colour
        self.depth = 0
        self.leaves: list[_Card] = []
        self.inner: list[_Card] = []
        self.columns: list[list[_Card]] = []
        details = "  ".join(_bar_details(segment))
        label = len(clean(segment.name)) + len(details) + 3
        self.least = label * _LABEL_WIDTH
        self.width = self.least
        self.x = 0.0
        self.y = 0.0

    @property
    def below(self) -> float:
        """The height of what hangs directly from it."""
        stacks = [sum(card.height + _GAP / 2 for card in column) for column in self.columns]
        return max([*stacks, *(card.height for card in self.inner)], default=0.0)


def _card_lines(node: Node) -> Iterator[tuple[str, str]]:
    """A card's lines, each with its style."""
    lines: list[tuple[str, str]] = []
    wide = max((len(clean(interface.name)) for interface in node.interfaces), default=0)
    for interface in node.interfaces:
        name = clean(interface.name)
        for address in interface.addresses or ("-",):
            lines.append((f"{name:<{wide}} {clean(address)}", "line"))
            name = ""
    lines += [(note.replace("->", "→"), "line port") for note in node_notes(node)]
    yield from lines[:_MAX_LINES]
    if len(lines) > _MAX_LINES:
        yield f"… {len(lines) - _MAX_LINES} more", "line"


def _bar_details(segment: Segment) -> list[str]:
    machine = [f"machine {clean(address)}" for address in segment.machine]
    return [*segment_details(segment), *machine]


class _Picture:
    def __init__(self, lab: Lab, states: States) -> None:
        self.lab = lab
        self.states = states
        self.cards = {node.name: _Card(node) for node in lab.nodes}
        self.bars = {
            segment.name: _Bar(segment, _SEGMENT_COLOURS[number % len(_SEGMENT_COLOURS)])
            for number, segment in enumerate(lab.segments)
        }
        self.plugged = attachments(lab)
        self.shelf = float(_SHELF)
        self.width = 0.0
        self.height = 0.0

    def layout(self) -> None:
        """Give every card and bar its place."""
        parts = [(part, self.place(part)) for part in self.parts()]
        area = sum((part[0].width + 3 * _GAP) * (height + 2 * _GAP) for part, height in parts)
        self.shelf = max(_SHELF, math.sqrt(area * _ASPECT))
        x, y, shelf = float(_MARGIN), float(_MARGIN + _TITLE), 0.0
        for part, height in parts:
            width = part[0].width
            if x > _MARGIN and x + width > self.shelf:
                x, y, shelf = float(_MARGIN), y + shelf + 2 * _GAP, 0.0
            self.move(part, x, y)
            self.width = max(self.width, x + width)
            x += width + 3 * _GAP
            shelf = max(shelf, height)
        self.place_alone(y + shelf)

    def parts(self) -> Iterator[list[_Bar]]:
        """Each connected part: its bars, a parent before what it leads to."""
        seen_bars: set[str] = set()
        seen_cards: set[str] = set()
        for root in self.bars:
            if root in seen_bars:
                continue
            seen_bars.add(root)
            part, queue = [], deque([self.bars[root]])
            while queue:
                bar = queue.popleft()
                part.append(bar)
                for node, _ in self.plugged[bar.segment.name]:
                    if node.name in seen_cards:
                        continue
                    seen_cards.add(node.name)
                    card = self.cards[node.name]
                    for interface in node.interfaces:
                        if interface.segment in self.bars and interface.segment not in seen_bars:
                            seen_bars.add(interface.segment)
                            child = self.bars[interface.segment]
                            child.depth = bar.depth + 1
                            card.bars.append(child)
                            queue.append(child)
                    (bar.inner if card.bars else bar.leaves).append(card)
            yield part

    def measure(self, part: list[_Bar]) -> None:
        """Widths, from the leaves up."""
        for bar in reversed(part):
            for card in bar.inner:
                below = sum(child.width for child in card.bars) + _GAP * (len(card.bars) - 1)
                card.subtree = max(card.width, below)
            count = len(bar.leaves)
            across = count if count <= _MAX_STACKED else math.ceil(math.sqrt(count * 0.9))
            rows = math.ceil(count / across) if across else 0
            bar.columns = [bar.leaves[i : i + rows] for i in range(0, count, rows or 1)]
            widths = [self.column_width(column) for column in bar.columns]
            widths += [card.subtree for card in bar.inner]
            bar.width = max(bar.least, sum(widths) + _GAP * max(len(widths) - 1, 0))

    @staticmethod
    def column_width(column: list[_Card]) -> float:
        spine = _SPINE if len(column) > 1 else 0
        return max(card.width for card in column) + spine

    def place(self, part: list[_Bar]) -> float:
        """Places within a part, from the root down; returns its height."""
        self.measure(part)
        levels: dict[int, float] = {}
        for bar in part:
            levels[bar.depth] = max(levels.get(bar.depth, 0.0), bar.below)
        tops, top = {}, 0.0
        for depth in sorted(levels):
            tops[depth] = top
            top += _BAR_LABEL + _BAR + _DROP + levels[depth] + _DROP
        for bar in part:
            bar.y = tops[bar.depth] + _BAR_LABEL
            self.place_below(bar)
        return top

    def place_below(self, bar: _Bar) -> None:
        widths = [self.column_width(column) for column in bar.columns]
        used = sum(widths) + sum(card.subtree for card in bar.inner)
        used += _GAP * max(len(widths) + len(bar.inner) - 1, 0)
        x, y = bar.x + (bar.width - used) / 2, bar.y + _BAR + _DROP
        for card in bar.inner:
            card.x, card.y = x + (card.subtree - card.width) / 2, y
            below = sum(child.width for child in card.bars) + _GAP * (len(card.bars) - 1)
            child_x = x + (card.subtree - below) / 2
            for child in card.bars:
                child.x = child_x
                child_x += child.width + _GAP
            x += card.subtree + _GAP
        for column, width in zip(bar.columns, widths, strict=True):
            card_y = y
            for card in column:
                card.x, card.y = x + width - max(c.width for c in column), card_y
                card_y += card.height + _GAP / 2
            x += width + _GAP

    def move(self, part: list[_Bar], x: float, y: float) -> None:
        for bar in part:
            bar.x, bar.y = bar.x + x, bar.y + y
            for card in (*bar.leaves, *bar.inner):
                card.x, card.y = card.x + x, card.y + y
                self.height = max(self.height, card.y + card.height)
            self.height = max(self.height, bar.y + _BAR)

    def place_alone(self, y: float) -> None:
        """Nodes on no segment, in rows at the bottom."""
        placed = {
            card.node.name for bar in self.bars.values() for card in (*bar.leaves, *bar.inner)
        }
        x, row = float(_MARGIN), 0.0
        for name, card in self.cards.items():
            if name in placed:
                continue
            if x > _MARGIN and x + card.width > max(self.width, self.shelf / 2):
                x, y, row = float(_MARGIN), y + row + _GAP, 0.0
            card.x, card.y = x, y
            x += card.width + _GAP
            row = max(row, card.height)
            self.width = max(self.width, card.x + card.width)
            self.height = max(self.height, card.y + card.height)

    def draw(self) -> str:
        """The whole document."""
        self.layout()
        title = clean(self.lab.name)
        counts = f"{len(self.lab.nodes)} nodes, {len(self.lab.segments)} segments"
        width = max(self.width, _MARGIN + len(title) * 11, 260) + _MARGIN
        height = max(self.height, _MARGIN + _TITLE) + _MARGIN
        size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
            f"<title>{escape(title)}</title><style>{_STYLE}</style>",
            '<rect width="100%" height="100%" fill="#f6f8fa"/>',
            f'<text class="title" x="{_MARGIN}" y="{_MARGIN + 12}">{escape(title)}</text>',
            f'<text class="quiet" x="{_MARGIN}" y="{_MARGIN + 30}">{counts}</text>',
            *self.wires(),
            *(self.bar(bar) for bar in self.bars.values()),
            *(self.card(card) for card in self.cards.values()),
            "</svg>",
        ]
        return "\n".join(parts) + "\n"

    def wires(self) -> Iterator[str]:
        """A line for each interface, in its segment's colour, with a dot where it is plugged."""
        for bar in self.bars.values():
            stacked = {
                card.node.name for column in bar.columns if len(column) > 1 for card in column
            }
            own = {card.node.name for card in (*bar.leaves, *bar.inner)}
            count: dict[str, int] = {}
            for node, _ in self.plugged[bar.segment.name]:
                card = self.cards[node.name]
                shift = 9.0 * count.get(node.name, 0)
                count[node.name] = count.get(node.name, 0) + 1
                if node.name in stacked:
                    yield from self.spine(bar, card, shift)
                elif node.name in own:
                    yield from self.drop(bar, card.middle + shift, bar.y + _BAR, card.y)
                elif bar in card.bars:
                    yield from self.lead(bar, card, shift)
                else:
                    yield from self.curve(bar, card)

    @staticmethod
    def wire(bar: _Bar, path: str, x: float, y: float) -> Iterator[str]:
        yield f'<path class="wire" stroke="{bar.colour}" d="{path}"/>'
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.4" fill="{bar.colour}"/>'

    def drop(self, bar: _Bar, x: float, top: float, bottom: float) -> Iterator[str]:
        yield from self.wire(bar, f"M{x:.1f} {top:.1f}V{bottom:.1f}", x, top)

    def lead(self, bar: _Bar, card: _Card, shift: float) -> Iterator[str]:
        """From a card down to a bar below it; bent when the bar is not straight below.

        The ways of one card start side by side, and those that lead further out bend higher, so
        that none crosses another.
        """
        index, last = card.bars.index(bar), len(card.bars) - 1
        apart = min(_LEAD_APART, (card.width - 2 * _CARD_PAD) / (last or 1))
        start = card.middle + (index - last / 2) * apart + shift
        top = card.y + card.height
        if bar.x + 4 <= start <= bar.x + bar.width - 4:
            yield from self.drop_to(bar, start, top)
            return
        to_right = bar.x > start
        outward = index if to_right else last - index
        step = min(4.0, (_DROP - 8) / (last or 1))
        bend = bar.y - _BAR_LABEL - 4 - step * outward
        x = bar.x + bar.width / 4 * (1 if to_right else 3)
        path = f"M{start:.1f} {top:.1f}V{bend:.1f}H{x:.1f}V{bar.y:.1f}"
        yield from self.wire(bar, path, x, bar.y)

    def drop_to(self, bar: _Bar, x: float, top: float) -> Iterator[str]:
        yield from self.wire(bar, f"M{x:.1f} {top:.1f}V{bar.y:.1f}", x, bar.y)

    def spine(self, bar: _Bar, card: _Card, shift: float) -> Iterator[str]:
        x, y = card.x - _SPINE + 5, card.y + card.height / 2 + shift
        path = f"M{x:.1f} {bar.y + _BAR:.1f}V{y:.1f}H{card.x:.1f}"
        yield from self.wire(bar, path, x, bar.y + _BAR)

    def curve(self, bar: _Bar, card: _Card) -> Iterator[str]:
        """A way that the tree leaves out: from the card's nearer side to the bar."""
        to_right = bar.x + bar.width / 2 > card.middle
        start = card.x + card.width if to_right else card.x
        x = min(max(start + (10 if to_right else -10), bar.x + 6), bar.x + bar.width - 6)
        middle = card.y + card.height / 2
        from_below = bar.y < middle
        y = bar.y + _BAR if from_below else bar.y
        pull = 60 if from_below else -60
        # Close to the card the way stays in the gap between columns; far away it swings out.
        side = max(-50.0, min(50.0, x - start))
        path = (
            f"M{start:.1f} {middle:.1f}C{start + side:.1f} {middle:.1f} "
            f"{x:.1f} {y + pull:.1f} {x:.1f} {y:.1f}"
        )
        yield from self.wire(bar, path, x, y)

    @staticmethod
    def bar(bar: _Bar) -> str:
        name = escape(clean(bar.segment.name))
        details = escape("  ".join(_bar_details(bar.segment)))
        return (
            f'<rect x="{bar.x:.1f}" y="{bar.y:.1f}" width="{bar.width:.1f}" height="{_BAR}" '
            f'rx="4" fill="{bar.colour}"/>'
            f'<text class="bar" x="{bar.x:.1f}" y="{bar.y - 7:.1f}">{name}'
            f'<tspan dx="8">{details}</tspan></text>'
        )

    def card(self, card: _Card) -> str:
        state = self.states.get(card.node.name)
        colour = COLOURS[state] if state else ""
        border = f' style="stroke:{colour};stroke-width:1.8"' if state else ""
        name = escape(clean(card.node.name))
        x, y = card.x + _CARD_PAD, card.y + _CARD_PAD + 12
        tip = f"{name} ({state.value})" if state else name
        parts = [
            f"<g><title>{tip}</title>"
            f'<rect class="card" x="{card.x:.1f}" y="{card.y:.1f}" width="{card.width:.1f}" '
            f'height="{card.height:.1f}" rx="6"{border}/>',
            f'<text class="name" x="{x:.1f}" y="{y:.1f}">{name}</text>',
        ]
        if state:
            parts.append(
                f'<circle cx="{card.x + card.width - 12:.1f}" cy="{y - 4:.1f}" r="4" '
                f'fill="{colour}"/>'
            )
        for number, (text, style) in enumerate(card.lines):
            line_y = y + _NAME_LINE - 3 + _LINE * number
            parts.append(
                f'<text class="{style}" x="{x:.1f}" y="{line_y:.1f}" xml:space="preserve">'
                f"{escape(text)}</text>"
            )
        return "".join([*parts, "</g>"])


def svg(lab: Lab, states: States | None = None) -> str:
    """A self-contained SVG document: no script, no font, nothing from elsewhere."""
    return _Picture(lab, states or {}).draw()
