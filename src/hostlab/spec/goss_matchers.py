"""What goss expects of a text or a number, as the keys that a check has for it.

A list is of texts to be found, `/regular expressions/`, and the same with `!` in front that must
not be found. A mapping is one of goss's operators, which may stand in one another.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from hostlab.spec.importing import Import
from hostlab.spec.tree import Mapping, Scalar, Sequence, Tree

WITHOUT: Final = r"\A(?![\s\S]*?(?:{}))"
"""A text in which an expression is not found, by one that is."""
_NUMBER: Final = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,9})?")
_SUPPORTED: Final = (
    "and, or, not, contain-element, contain-elements, consist-of, contain-substring, equal,"
    " have-prefix, have-suffix, match-regexp, gt, lt"
)


class Texts(NamedTuple):
    """What is wanted of a text."""

    contains: list[str]
    matches: list[str]
    lacks: list[str]
    above: list[float]
    below: list[float]

    @property
    def has_numbers(self) -> bool:
        """Whether the text is to be a number."""
        return bool(self.above or self.below)


class Matchers:
    """Reads the matchers of one goss file; what has no counterpart is noted."""

    def __init__(self, parent: Import) -> None:
        self.parent = parent

    def texts(self, tree: Tree | None, what: str) -> Texts:
        """What a tree wants of a text; `what` names it in notes."""
        found = Texts([], [], [], [], [])
        if tree is not None:
            self._add(tree, found, what)
        return found

    def _add(self, tree: Tree, found: Texts, what: str) -> None:
        if isinstance(tree, Scalar):
            self._add_word(tree.value, found)
        elif isinstance(tree, Sequence):
            for item in tree.items:
                self._add(item, found, what)
        else:
            for key, value in tree.pairs:
                self._add_operator(key, value, found, what)

    @staticmethod
    def _add_word(word: str, found: Texts) -> None:
        """`text`, `/regexp/`, `!text`, `!/regexp/`; a backslash in front is none of it."""
        is_not = word.startswith("!")
        said = word[1:] if is_not else word
        if len(said) > 1 and said.startswith("/") and said.endswith("/"):
            expression = f"(?m:{said[1:-1]})"
            found.matches.append(WITHOUT.format(expression) if is_not else expression)
            return
        said = said.removeprefix("\\") if said[:2] in ("\\/", "\\!") else said
        if said:
            (found.lacks if is_not else found.contains).append(said)

    def _add_operator(self, key: Scalar, value: Tree, found: Texts, what: str) -> None:
        match key.value:
            case "and" | "contain-elements" | "contain-element" | "consist-of":
                self._add(value, found, what)
                if key.value == "consist-of":
                    self.parent.note(key.at, f"`{what}` may have more than what `consist-of` says")
            case "contain-substring":
                found.contains.extend(_words(value))
            case "have-prefix":
                found.matches.extend(rf"\A{re.escape(word)}" for word in _words(value))
            case "have-suffix":
                found.matches.extend(rf"{re.escape(word)}\s*\Z" for word in _words(value))
            case "match-regexp":
                found.matches.extend(_words(value))
            case "equal":
                found.matches.extend(rf"\A{re.escape(word)}\s*\Z" for word in _words(value))
            case "gt" | "lt":
                self._add_number(key, value, found)
            case "not":
                inner = Texts([], [], [], [], [])
                self._add(value, inner, what)
                self._add_opposite(key, inner, found, what)
            case "or":
                inner = Texts([], [], [], [], [])
                self._add(value, inner, what)
                self._add_either(key, inner, found, what)
            case other:
                self.parent.note(key.at, f"`{what}`: `{other}` is left out; read are {_SUPPORTED}")

    def _add_number(self, key: Scalar, value: Tree, found: Texts) -> None:
        number = decimal(value)
        if number is None:
            self.parent.note(key.at, f"`{key.value}` was not understood: a number belongs here")
        else:
            (found.above if key.value == "gt" else found.below).append(number)

    def _add_opposite(self, key: Scalar, inner: Texts, found: Texts, what: str) -> None:
        wanted = (*inner.contains, *inner.matches)
        if inner.has_numbers or inner.lacks or len(wanted) != 1:
            self.parent.note(key.at, f"`{what}`: a `not` of more than one text is left out")
            return
        found.lacks.extend(inner.contains)
        found.matches.extend(WITHOUT.format(each) for each in inner.matches)

    def _add_either(self, key: Scalar, inner: Texts, found: Texts, what: str) -> None:
        if inner.has_numbers or inner.lacks:
            self.parent.note(key.at, f"`{what}`: an `or` of other than texts is left out")
            return
        either = [*map(re.escape, inner.contains), *inner.matches]
        if either:
            found.matches.append("|".join(f"(?:{each})" for each in either))


def _words(tree: Tree) -> list[str]:
    if isinstance(tree, Scalar):
        return [tree.value]
    items = tree.items if isinstance(tree, Sequence) else []
    return [item.value for item in items if isinstance(item, Scalar)]


def decimal(tree: Tree | None) -> float | None:
    """A number as YAML writes it; None when it is none."""
    if not isinstance(tree, Scalar) or not re.fullmatch(
        r"-?[0-9]{1,15}(\.[0-9]{1,9})?", tree.value
    ):
        return None
    value = float(tree.value)
    return int(value) if value == int(value) else value


def bounds(tree: Tree | None) -> list[tuple[str, float]] | None:
    """The comparisons of a number, by test(1)'s names; None when it says something else."""
    if isinstance(tree, Scalar):
        number = decimal(tree)
        return None if number is None else [("eq", number)]
    if not isinstance(tree, Mapping):
        return None
    found = []
    for key, value in tree.pairs:
        number = decimal(value)
        if key.value not in ("lt", "gt", "le", "ge") or number is None:
            return None
        found.append((key.value, number))
    return found
