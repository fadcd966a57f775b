"""What a file says, with places: scalars, lists and mappings, whatever they mean.

`yaml_text` reads it.
"""

from __future__ import annotations

from hostlab.spec.source import Mark, quoted


class Scalar:
    """A word or text, as written."""

    __slots__ = ("at", "null", "plain", "value")

    def __init__(self, value: str, at: Mark, *, plain: bool, null: bool) -> None:
        self.value = value
        self.at = at
        self.plain = plain
        self.null = null


class Sequence:
    """A list."""

    __slots__ = ("at", "items")

    def __init__(self, at: Mark) -> None:
        self.at = at
        self.items: list[Tree] = []


class Mapping:
    """A mapping; its keys are scalars, each there once, merge keys already merged."""

    __slots__ = ("at", "pairs")

    def __init__(self, at: Mark) -> None:
        self.at = at
        self.pairs: list[tuple[Scalar, Tree]] = []


Tree = Scalar | Sequence | Mapping


def kind(tree: Tree) -> str:
    """What a person calls this."""
    if isinstance(tree, Sequence):
        return "a list"
    if isinstance(tree, Mapping):
        return "a mapping"
    return "nothing" if tree.null else quoted(tree.value)
