"""Lines of a daemon's configuration, each with the place in the description that it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from hostlab.errors import Place
from hostlab.spec.routing import Routing


class Line(NamedTuple):
    """A line for a daemon, and what made it."""

    text: str
    place: Place | None = None


class Writer:
    """Lines being written, in blocks."""

    def __init__(self, opening: str, closing: str, closing_inside: str | None = None) -> None:
        self.lines: list[Line] = []
        self._opening = opening
        self._closing = closing
        self._closing_inside = closing if closing_inside is None else closing_inside
        self._depth = 0
        self._place: Place | None = None

    def add(self, *texts: str) -> None:
        """Lines at the present depth, of the present place."""
        indent = " " * (2 * self._depth)
        self.lines += [Line(indent + text if text else "", self._place) for text in texts]

    @contextmanager
    def at(self, place: Place | None) -> Iterator[None]:
        """What is written meanwhile comes from this place, where it is known."""
        before = self._place
        self._place = place or before
        yield
        self._place = before

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """A head, and what belongs to it."""
        self.add(head + self._opening)
        self._depth += 1
        yield
        self._depth -= 1
        self.add(self._closing_inside if self._depth else self._closing)

    def raw(self, routing: Routing) -> None:
        """The user's own lines."""
        place = routing.raw_place
        for number, text in enumerate(routing.raw.splitlines()):
            where = None
            if place is not None:
                shown = " " * (place.column - 1) + text
                where = Place(place.file, place.line + number, place.column, shown)
            self.lines.append(Line(text, where))


def text_of(lines: list[Line]) -> str:
    """The file."""
    return "".join(f"{line.text}\n" for line in lines)
