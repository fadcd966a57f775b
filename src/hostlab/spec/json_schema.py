"""The JSON Schema of a description, for editors that complete and check YAML."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hostlab.spec.shapes import Shape, Table
from hostlab.spec.tables import LAB

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def tables(root: Table = LAB) -> Iterator[Table]:
    """Every table of keys, each once, a table before those that its keys lead to."""
    seen: set[int] = set()
    waiting: list[Shape] = [root]
    while waiting:
        shape = waiting.pop(0)
        if id(shape) in seen:
            continue
        seen.add(id(shape))
        if isinstance(shape, Table):
            yield shape
        waiting.extend(shape.parts())


def schema() -> dict[str, Any]:
    """JSON Schema, draft 2020-12.

    It knows keys and forms, so that an editor helps while one writes; what takes the whole
    description to judge (names, clashes of addresses) only `validate` knows.
    """
    return {
        "$schema": DRAFT,
        "title": "hostlab description",
        **LAB.definition(),
        "$defs": {
            table.schema()["$ref"].rpartition("/")[2]: table.definition() for table in tables()
        },
    }
