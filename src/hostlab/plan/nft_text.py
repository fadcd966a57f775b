"""nft's own text, as `nft -s list ruleset` prints it: tables, chains, sets; pure.

Only what nft has printed is read, never what people wrote: one statement a line, nested by tabs,
elements of sets behind `elements = {`. See nft(8).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from hostlab.errors import DecodeError

_TABLE: Final = re.compile(r"table (\S+) (\S+) \{(?: # handle \d+)?")
_BEGIN: Final = re.compile(r"^table (\S+) (\S+) \{(?: # handle \d+)?$", re.MULTILINE)
_END: Final = "\n}\n"
_OBJECT: Final = re.compile(r"\t(.+?) \{(?: # handle \d+)?")
_HANDLE: Final = re.compile(r" # handle \d+$")
_HOOK: Final = re.compile(r"type \S+ hook ")
_ELEMENTS: Final = "elements = {"
_COUNTED: Final = re.compile(r"counter packets \d+ bytes \d+")
_SPLIT: Final = re.compile(r'"[^"]*"|[^,"]+|,')


class NftObject(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A chain, a set, a map, a flow table, a named counter: what stands in a table."""

    kind: str
    """nft's word: chain, set, map, flowtable, counter, …"""
    name: str
    head: tuple[str, ...] = ()
    """What is said of it as a whole: `type filter hook input priority filter; policy drop;`."""
    rules: tuple[str, ...] = ()
    """Of a chain, in order."""
    elements: tuple[str, ...] = ()
    """Of a set or map, sorted: their order means nothing."""


class NftTable(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One table."""

    family: str
    name: str
    head: tuple[str, ...] = ()
    """`flags dormant`, a comment."""
    objects: tuple[NftObject, ...] = ()

    def object(self, kind: str, name: str) -> NftObject | None:
        """What has this kind and name."""
        return next((o for o in self.objects if (o.kind, o.name) == (kind, name)), None)


def nft_tables(listed: str) -> Iterator[tuple[tuple[str, str], str]]:
    """Each table of a listing by family and name, with its text as it is."""
    at = 0
    while found := _BEGIN.search(listed, at):
        end = listed.find(_END, found.end())
        if end < 0 and not listed.endswith(_END[:-1]):
            return
        at = end + len(_END) if end >= 0 else len(listed)
        yield (found[1], found[2]), listed[found.start() : at]


def parse_nft(text: str) -> tuple[NftTable, ...]:
    """The tables of a listing; DecodeError where it is not one of nft's."""
    found: list[NftTable] = []
    lines = iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        match = _TABLE.fullmatch(line)
        if match is None:
            raise DecodeError("nft", f"line {number} begins no table: {line!r}")
        found.append(_table(match[1], match[2], lines))
    return tuple(found)


def _table(family: str, name: str, lines: Iterator[tuple[int, str]]) -> NftTable:
    head: list[str] = []
    objects: list[NftObject] = []
    for _, line in lines:
        if line == "}":
            return NftTable(family=family, name=name, head=tuple(head), objects=tuple(objects))
        opened = _OBJECT.fullmatch(line)
        if opened:
            objects.append(_object(opened[1], lines))
        elif line.strip():
            head.append(line.strip())
    raise DecodeError("nft", f"table {family} {name} does not end")


def _object(words: str, lines: Iterator[tuple[int, str]]) -> NftObject:
    # `ct helper NAME`, `ct timeout NAME` have two words before the name.
    kind, _, name = words.rpartition(" ")
    head: list[str] = []
    rules: list[str] = []
    elements: list[str] = []
    for _, line in lines:
        if line == "\t}":
            return NftObject(
                kind=kind,
                name=name,
                head=tuple(head),
                rules=tuple(rules),
                elements=tuple(sorted(elements)),
            )
        said = _HANDLE.sub("", line.strip())
        if said.startswith(_ELEMENTS):
            elements += _elements(said.removeprefix(_ELEMENTS), lines)
        elif kind == "chain" and not _HOOK.match(said) and not said.startswith("comment "):
            if said:
                rules.append(without_counters(said))
        elif said:
            head.append(said)
    raise DecodeError("nft", f"{kind} {name} does not end")


def _elements(first: str, lines: Iterator[tuple[int, str]]) -> list[str]:
    """The elements from behind `{` to `}`, which may be many lines later."""
    parts = [first]
    while not parts[-1].rstrip().endswith("}"):
        _, line = next(lines, (0, "}"))
        parts.append(line.strip())
    text = " ".join(parts).rstrip().removesuffix("}")
    found: list[list[str]] = [[]]
    for piece in _SPLIT.findall(text):
        if piece == ",":
            found.append([])
        else:
            found[-1].append(piece)
    return [without_counters(word) for pieces in found if (word := "".join(pieces).strip())]


def without_counters(rule: str) -> str:
    """What a rule or an element says without what it has counted."""
    return _COUNTED.sub("counter", rule)


def print_nft(tables: Sequence[NftTable]) -> str:
    """Tables as `nft -f` takes them."""
    lines: list[str] = []
    for table in tables:
        lines.append(f"table {table.family} {table.name} {{")
        lines += [f"\t{said}" for said in table.head]
        for each in table.objects:
            lines.append(f"\t{each.kind} {each.name} {{")
            lines += [f"\t\t{said}" for said in (*each.head, *each.rules)]
            if each.elements:
                lines.append(f"\t\telements = {{ {', '.join(each.elements)} }}")
            lines.append("\t}")
        lines.append("}")
    return "".join(f"{line}\n" for line in lines)
