"""Names of nodes and segments from labels that nobody meant as such.

A node's name is a label of the DNS in small letters, since capital and small ones are the same
there. Accents are taken off, everything else that is no letter or digit becomes `-`. A name of
digits alone gets an `n` before it: `0` is an address to some programs.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from hostlab.spec.names import MAX_LABEL

_LETTERS: Final = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "ae", "œ": "oe", "Œ": "oe", "ø": "o", "Ø": "o", "ł": "l",
     "Ł": "l", "đ": "d", "Đ": "d", "ð": "d", "Ð": "d", "þ": "th", "Þ": "th", "ı": "i"}
)  # fmt: skip
"""Letters that Unicode does not take apart."""
_UNFIT: Final = re.compile(r"[^a-z0-9]+")
_NUMBER: Final = re.compile(r"(0x)?[0-9a-f.:-]*[0-9][0-9a-f.:-]*")
_MAX_LOOKED_AT: Final = 300
JOINT: Final = "_"
"""Between two nodes' names in that of their link: no node has it in its own."""


def plain(label: str) -> str:
    """A label as a name of the DNS, as far as it has letters for one; empty when it has none."""
    text = unicodedata.normalize("NFKD", label[:_MAX_LOOKED_AT].translate(_LETTERS))
    text = "".join(c for c in text if not unicodedata.combining(c)).lower()
    name = _UNFIT.sub("-", text).strip("-")
    if re.fullmatch(r"[0-9-]+", name) or name == "localhost":
        name = f"n{name}"
    return name[:MAX_LABEL].strip("-")


def is_whole(label: str) -> bool:
    """Whether a name made of a label has all its letters, if perhaps not their accents."""
    text = unicodedata.normalize("NFKD", label[:_MAX_LOOKED_AT].translate(_LETTERS))
    return all(c.isascii() or unicodedata.combining(c) or not c.isalnum() for c in text)


class Taken:
    """Names that are spoken for; the second of a kind gets `-2`."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}

    def add(self, wanted: str) -> str:
        """The name itself, or with a number that nobody has."""
        name, number = wanted, self._next.get(wanted, 1)
        while name in self._taken:
            number += 1
            tail = f"-{number}"
            name = wanted[: MAX_LABEL - len(tail)].rstrip("-_") + tail
        self._next[wanted] = number
        self._taken.add(name)
        return name


def link_name(one: str, other: str) -> str:
    """A link by its two nodes; long names are cut to equal parts."""
    most = (MAX_LABEL - len(JOINT)) // 2
    if len(one) + len(JOINT) + len(other) > MAX_LABEL:
        spare = max(most - min(len(one), len(other)), 0)
        one, other = one[: most + spare].rstrip("-"), other[: most + spare].rstrip("-")
    return f"{one}{JOINT}{other}"
