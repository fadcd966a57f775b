"""ipset's own text, as `ipset save` prints it: sets with their kinds and elements; pure."""

from __future__ import annotations

import msgspec


class SavedSet(msgspec.Struct, frozen=True):
    """One set."""

    kind: str
    """Its type with its options, as behind `create NAME`."""
    elements: tuple[str, ...]
    """Each with its options, as behind `add NAME`, in the order of the listing."""


def parse_ipset(text: str) -> dict[str, SavedSet]:
    """The sets of a listing by their names, in its order."""
    kinds: dict[str, str] = {}
    elements: dict[str, list[str]] = {}
    for line in text.splitlines():
        match line.split(maxsplit=2):
            case ("create", name, kind):
                kinds[name], elements[name] = kind, []
            case ("add", name, element) if name in kinds:
                elements[name].append(element)
    return {name: SavedSet(kind, tuple(elements[name])) for name, kind in kinds.items()}
