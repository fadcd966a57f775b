"""How two rulesets differ by their text: policies, rules in their order, elements of sets; pure.

What does not matter is left out before: counters, handles, the order of tables, of chains and of
elements, chains that say nothing. The order of rules in a chain matters and is kept.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from hostlab.firewall.ipset_save import parse_ipset
from hostlab.firewall.iptables_save import normalised, parse, rule_text
from hostlab.firewall.ruleset import Ruleset
from hostlab.plan.nft_text import parse_nft


class Change(StrEnum):
    """What became of a line."""

    ADDED = "added"
    REMOVED = "removed"
    MOVED = "moved"
    """The same rule at another place of the same chain."""


class LineChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A rule, a policy or an element that differs."""

    change: Change
    text: str
    at: int = 0
    """Its number in the new chain, in the old one where it was removed; from 1; 0: no order."""


class PlaceChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One chain or set in which something differs."""

    part: str
    """A field of `Ruleset`."""
    place: str
    """`filter INPUT`, `inet mine set blocked`."""
    changes: tuple[LineChange, ...]


_CHOSEN: Final = re.compile(r" (?:initval|hashsize) \S+")


class _Place(msgspec.Struct, frozen=True):
    """What stands at one place, in a form that can be compared line by line."""

    head: tuple[str, ...]
    rules: tuple[str, ...] = ()
    elements: tuple[str, ...] = ()


def text_difference(old: Ruleset, new: Ruleset) -> tuple[PlaceChange, ...]:
    """Every place where they differ, in the order of the parts of a ruleset."""
    before, after = dict(_places(old)), dict(_places(new))
    found = []
    for key in sorted(before.keys() | after.keys()):
        empty = _Place(())
        changes = tuple(_changes(before.get(key, empty), after.get(key, empty)))
        if changes:
            found.append(PlaceChange(part=key[0], place=key[1], changes=changes))
    return tuple(found)


def _changes(old: _Place, new: _Place) -> Iterator[LineChange]:
    for kind in ("head", "elements"):
        before, after = Counter(getattr(old, kind)), Counter(getattr(new, kind))
        for text in sorted((before - after).elements()):
            yield LineChange(change=Change.REMOVED, text=text)
        for text in sorted((after - before).elements()):
            yield LineChange(change=Change.ADDED, text=text)
    yield from _ordered(old.rules, new.rules)


def _ordered(old: Sequence[str], new: Sequence[str]) -> Iterator[LineChange]:
    """Rules that were added, removed, or stand elsewhere."""
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    removed: list[tuple[int, str]] = []
    added: list[tuple[int, str]] = []
    for tag, old_at, old_end, new_at, new_end in matcher.get_opcodes():
        if tag != "equal":
            removed += [(n + 1, old[n]) for n in range(old_at, old_end)]
            added += [(n + 1, new[n]) for n in range(new_at, new_end)]
    moved = Counter(text for _, text in removed) & Counter(text for _, text in added)
    still = moved.copy()
    for at, text in removed:
        if still[text]:
            still[text] -= 1
        else:
            yield LineChange(change=Change.REMOVED, text=text, at=at)
    for at, text in added:
        change = Change.MOVED if moved[text] else Change.ADDED
        if moved[text]:
            moved[text] -= 1
        yield LineChange(change=change, text=text, at=at)


def _places(ruleset: Ruleset) -> Iterator[tuple[tuple[str, str], _Place]]:
    for part in ("iptables", "ip6tables", "legacy_iptables", "legacy_ip6tables"):
        for table in normalised(parse(getattr(ruleset, part), file=part)):
            for chain in table.chains:
                policy = () if chain.policy is None else (f"policy {chain.policy}",)
                rules = tuple(map(rule_text, chain.rules))
                # A chain that a user made is there, also without a rule.
                head = policy or ("chain",)
                yield (part, f"{table.name} {chain.name}"), _Place(head, rules)
    yield from _nft_places(ruleset.nft)
    yield from _ipset_places(ruleset.ipset)


def _nft_places(text: str) -> Iterator[tuple[tuple[str, str], _Place]]:
    for table in parse_nft(text):
        name = f"{table.family} {table.name}"
        yield ("nft", name), _Place(("table", *table.head))
        for each in table.objects:
            place = _Place((each.kind, *each.head), each.rules, each.elements)
            yield ("nft", f"{name} {each.kind} {each.name}"), place


def _ipset_places(text: str) -> Iterator[tuple[tuple[str, str], _Place]]:
    for name, found in parse_ipset(text).items():
        place = _Place((_without_chance(found.kind),), (), tuple(sorted(found.elements)))
        yield ("ipset", name), place


def _without_chance(kind: str) -> str:
    """A set's kind without what the kernel chose for it: a hash's beginning, its present size."""
    return _CHOSEN.sub("", kind)
