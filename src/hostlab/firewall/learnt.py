"""What packets teach a ruleset: elements of sets that rules themselves add; pure.

They come and go while rulesets are compared, so they are no difference between what was loaded and
what is read back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import msgspec

from hostlab.firewall.ruleset import Ruleset
from hostlab.plan.nft_text import NftTable, parse_nft, print_nft

_ADDED: Final = re.compile(r"--(?:add|del|map)-set (\S+)")
_FADES: Final = re.compile(r"\bflags [^\n]*\b(?:dynamic|timeout)\b|^timeout ")
_LEARNING: Final = re.compile(r"\b(?:dynamic|timeout)\b")


def without_learnt(*rulesets: Ruleset) -> tuple[Ruleset, ...]:
    """The same rulesets without the elements of sets that change by themselves."""
    named = {name for each in rulesets for name in _ADDED.findall(each.iptables + each.ip6tables)}
    named |= {
        name
        for each in rulesets
        for name in _ADDED.findall(each.legacy_iptables + each.legacy_ip6tables)
    }
    return tuple(
        msgspec.structs.replace(each, nft=_nft(each.nft), ipset=_ipset(each.ipset, named))
        for each in rulesets
    )


def _nft(text: str) -> str:
    if not _LEARNING.search(text):
        return text
    return print_nft([_table(table) for table in parse_nft(text)])


def _table(table: NftTable) -> NftTable:
    objects = tuple(
        msgspec.structs.replace(each, elements=()) if _fades(each.head) else each
        for each in table.objects
    )
    return msgspec.structs.replace(table, objects=objects)


def _fades(head: Iterable[str]) -> bool:
    return any(_FADES.search(said) for said in head)


def _ipset(text: str, named: set[str]) -> str:
    lines = text.splitlines(keepends=True)
    fading = {
        words[1]
        for line in lines
        if (words := line.split())[:1] == ["create"] and "timeout" in words
    }
    fading |= named
    return "".join(
        line
        for line in lines
        if not ((words := line.split())[:1] == ["add"] and words[1] in fading)
    )
