"""A ruleset with one rule changed: taken away, put behind the next one, or turned round; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from hostlab.firewall.kernel import RESTORERS
from hostlab.firewall.listing import logical_lines
from hostlab.firewall.ruleset import Family, Ruleset


class Change(StrEnum):
    """What is done to a rule."""

    DELETE = "delete"
    SWAP = "swap"
    """With the next one of its chain, where the two end a packet differently."""
    INVERT = "invert"
    """What it accepts it drops, and what it stops it accepts."""


class RuleKey(NamedTuple):
    """Which rule of a ruleset."""

    family: str
    table: str
    chain: str
    number: int
    """Its place in the chain, from 1."""
    is_legacy: bool = False


class Written(NamedTuple):
    """A rule and where it stands in a part of a ruleset."""

    key: RuleKey
    text: str
    field: str
    """Of `Ruleset`."""
    line: int
    """From 0, among the lines of `lines_of`."""


class Mutant(msgspec.Struct, frozen=True, kw_only=True):
    """A ruleset that differs from another in one thing."""

    key: RuleKey
    rule: str
    change: Change
    field: str
    text: str
    """The part that is changed, whole."""


_TABLE: Final = re.compile(r"table (\S+) (\S+) \{")
_CHAIN: Final = re.compile(r"\tchain (\S+) \{")
_TARGET: Final = re.compile(r"(?:^| )-([jg]) (\S+)")
_IPTABLES_INVERT: Final = (
    (re.compile(r" -j ACCEPT$"), " -j DROP"),
    (re.compile(r" -j (?:DROP|REJECT(?: --reject-with \S+)?)$"), " -j ACCEPT"),
)
_COMMENT: Final = re.compile(r'( comment "[^"]*")?$')
_NFT_INVERT: Final = (
    (re.compile(r"(?<!\S)accept$"), "drop"),
    (re.compile(r"(?<!\S)(?:drop|reject(?: with .*)?)$"), "accept"),
)
_NFT_END: Final = re.compile(r"(?<!\S)(accept|drop|reject|return|jump \S+|goto \S+)(?: with .*)?$")
_NOT_INVERTED: Final = "nat"
"""The table of iptables in which nothing may be dropped."""


def lines_of(field: str, text: str) -> list[str]:
    """A part's lines, each rule on one."""
    return list(logical_lines(text)) if field == "nft" else text.split("\n")


def rules_of(ruleset: Ruleset) -> tuple[Written, ...]:
    """Every rule, in the order of the texts."""
    found: list[Written] = []
    for field, _ in RESTORERS:
        found += _saved_rules(field, getattr(ruleset, field))
    found += _nft_rules(ruleset.nft)
    return tuple(found)


def _saved_rules(field: str, text: str) -> Iterator[Written]:
    family = Family.IPV6 if "6" in field else Family.IPV4
    table = ""
    numbers: dict[str, int] = {}
    for at, line in enumerate(lines_of(field, text)):
        if line.startswith("*"):
            table, numbers = line[1:].strip(), {}
        elif line.startswith("-A "):
            chain = line.split(" ", 2)[1]
            numbers[chain] = numbers.get(chain, 0) + 1
            key = RuleKey(family, table, chain, numbers[chain], "legacy" in field)
            yield Written(key, line, field, at)


def _nft_rules(text: str) -> Iterator[Written]:
    family = table = chain = ""
    number = 0
    for at, line in enumerate(lines_of("nft", text)):
        if found := _TABLE.match(line):
            family, table, chain = found[1], found[2], ""
        elif found := _CHAIN.match(line):
            chain, number = found[1], 0
        elif line == "\t}":
            chain = ""
        elif chain and line.strip():
            said = line.strip()
            if not said.startswith("comment ") and not (
                said.startswith("type ") and " hook " in said
            ):
                number += 1
                yield Written(RuleKey(family, table, chain, number), said, "nft", at)


def mutants(ruleset: Ruleset) -> Iterator[Mutant]:
    """Every change of every rule that can make a difference."""
    rules = rules_of(ruleset)
    lines = {field: lines_of(field, getattr(ruleset, field)) for field in {r.field for r in rules}}
    for number, rule in enumerate(rules):
        ours = lines[rule.field]
        yield _mutant(rule, Change.DELETE, [*ours[: rule.line], *ours[rule.line + 1 :]])
        following = rules[number + 1] if number + 1 < len(rules) else None
        if following is not None and _is_next(rule, following) and _end(rule) != _end(following):
            swapped = list(ours)
            swapped[rule.line], swapped[following.line] = ours[following.line], ours[rule.line]
            yield _mutant(rule, Change.SWAP, swapped)
        turned = inverted(rule)
        if turned is not None:
            yield _mutant(rule, Change.INVERT, [*ours[: rule.line], turned, *ours[rule.line + 1 :]])


def _is_next(rule: Written, following: Written) -> bool:
    one, two = rule.key, following.key
    return rule.field == following.field and one[:3] == two[:3] and one.number + 1 == two.number


def _mutant(rule: Written, change: Change, lines: list[str]) -> Mutant:
    return Mutant(
        key=rule.key, rule=rule.text, change=change, field=rule.field, text="\n".join(lines)
    )


def _end(rule: Written) -> str:
    """What becomes of a packet that the rule matches."""
    if rule.field != "nft":
        found = _TARGET.search(rule.text)
        return found[0].strip() if found else ""
    found = _NFT_END.search(_COMMENT.sub("", rule.text))
    return found[0] if found else ""


def inverted(rule: Written) -> str | None:
    """The rule with the opposite end; None where it has none."""
    if rule.field != "nft":
        if rule.key.table == _NOT_INVERTED:
            return None
        for pattern, other in _IPTABLES_INVERT:
            if pattern.search(rule.text):
                return pattern.sub(other, rule.text)
        return None
    bare = _COMMENT.sub("", rule.text)
    for pattern, other in _NFT_INVERT:
        if pattern.search(bare):
            return "\t\t" + pattern.sub(other, bare) + rule.text[len(bare) :]
    return None
