"""Scalars with a grammar of their own: conditions on events, and events to emit.

What is wrong inside such a text is reported where it stands in the file, whatever way of YAML the
text was written in: plain, quoted or as a block, in one line or folded over several.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from hostlab.errors import SpecError
from hostlab.spec import names, units
from hostlab.spec.condition import parse_condition
from hostlab.spec.job import Expression
from hostlab.spec.model import BootEvent
from hostlab.spec.shapes import Json, Said, Text
from hostlab.spec.source import Mark, Source, Spot, Wrong, quoted
from hostlab.spec.tokens import Scanner
from hostlab.spec.tree import Scalar, Tree

MAX_CONDITION = 100_000
"""Characters of one condition."""
_PRINTED = re.compile(r"\S")
_CACHED = 1024
"""Texts remembered: an alias may repeat a long one half a million times."""


class Grammar(Text):
    """A scalar whose parser gives the value, or the error with its place inside the text."""

    def __init__(self, words: str, parse: Callable[[str], Any], schema: Json) -> None:
        super().__init__(words, parse, schema)

    def read(self, source: Source, tree: Tree) -> Said | None:
        said = super().read(source, tree)
        if said is None or not isinstance(said.value, SpecError):
            return said
        assert isinstance(tree, Scalar)
        error = said.value
        source.report("value", error.message, _inside(source, tree, error), error.hint)
        return None


@lru_cache(1)  # An alias repeats its error as often as its text.
def _inside(source: Source, tree: Scalar, error: SpecError) -> Mark:
    """Where in the file an error of a scalar's text stands; the scalar itself when in doubt."""
    where = error.where
    assert where is not None
    texts = tree.value.split("\n")
    offset = sum(len(text) + 1 for text in texts[: where.line - 1]) + where.column - 1
    lines = source.lines
    line, column = tree.at.line, tree.at.column
    if not tree.plain:
        is_block = lines[line][column : column + 1] in ("|", ">")
        line, column = (line + 1, 0) if is_block else (line, column + 1)
    # Blanks are skipped on both sides: folding and indentation change nothing else.
    for position, char in enumerate(tree.value[: offset + 1]):
        if char.isspace():
            continue
        while line < len(lines) and (found := _PRINTED.search(lines[line], column)) is None:
            line, column = line + 1, 0
        if line == len(lines) or found is None or found[0] != char:
            return tree.at
        column = found.start() + (position < offset)
    return Spot(line, column)


@lru_cache(_CACHED)
def _condition(text: str) -> Expression | SpecError:
    if len(units.text(text)) > MAX_CONDITION:
        raise Wrong(f"this condition is longer than {MAX_CONDITION:,} characters")
    try:
        return parse_condition(text)
    except SpecError as error:
        return error


@lru_cache(_CACHED)
def _event(text: str) -> BootEvent | SpecError:
    scanner = Scanner(units.text(text), "")
    scanner.skip_blanks()
    try:
        name, *arguments = scanner.words()
    except SpecError as error:
        return error
    environment = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            raise Wrong(f"{quoted(argument)} is no variable of an event", "write `KEY=VALUE`")
        environment.append((names.variable(key), value))
    return BootEvent(name=name, environment=tuple(environment))


CONDITION = Grammar("a condition on events", _condition, {"type": "string"})
"""`started db and (runlevel [2345] or go)`: what `start on` of a `.conf` takes."""
EVENT = Grammar("an event, as `NAME KEY=VALUE`", _event, {"type": "string"})
