"""From what is there to what is wanted: one transaction a tool, other people's part untouched.

nft: all tables that change in one file, so a packet meets the old or the new ones. iptables: one
`-restore --noflush` a family, in which our chains are emptied and filled, and in the built-in ones
our rules are put back between other people's. ipset: each set is filled beside the old one and
swapped. `flush ruleset` is never said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

import msgspec

from hostlab.firewall.ipset_save import SavedSet, parse_ipset
from hostlab.firewall.iptables_save import SavedChain, SavedTable, parse, quoted, rule_text
from hostlab.firewall.ownership import SAVED_PARTS, set_names
from hostlab.firewall.ruleset import Ruleset
from hostlab.plan.nft_switch import Around, anew, around
from hostlab.plan.nft_text import nft_tables, parse_nft

_TOOLS: Final = {
    "iptables": ("iptables-nft-restore",),
    "ip6tables": ("ip6tables-nft-restore",),
    "legacy_iptables": ("iptables-legacy-restore", "--wait=60"),
    "legacy_ip6tables": ("ip6tables-legacy-restore", "--wait=60"),
}
_BESIDE: Final = "hostlab-{}"
"""What a set is called while it is filled; an ipset's name has up to 31 characters."""
MAX_SET_NAME: Final = 31

Rule = tuple[str, ...]


class ToolStep(msgspec.Struct, frozen=True):
    """One run of one tool: carried out whole or not at all; but ipset stops where it fails."""

    part: str
    """A field of `Ruleset`."""
    argv: tuple[str, ...]
    text: str
    """Its standard input."""


def transaction(present: Ruleset, own: Ruleset, wanted: Ruleset) -> tuple[ToolStep, ...]:
    """The steps from `present`, of which `own` is ours, to `wanted`, in their order.

    Sets are there before the rules that name them, and go after the rules that did.
    """
    steps = []
    if text := "".join(f"{line}\n" for line in _filled_sets(present.ipset, wanted.ipset)):
        steps.append(ToolStep("ipset", ("ipset", "restore"), text))
    for part in SAVED_PARTS:
        tables = (parse(getattr(each, part), file=part) for each in (present, own, wanted))
        if text := "".join(f"{line}\n" for line in _restore(*tables)):
            steps.append(ToolStep(part, (*_TOOLS[part], "--noflush"), text))
    if text := nft_transaction(own, wanted):
        steps.append(ToolStep("nft", ("nft", "-f", "-"), text))
    gone = sorted(set_names(own.ipset) - set_names(wanted.ipset))
    if gone:
        text = "".join(f"destroy {name}\n" for name in gone)
        steps.append(ToolStep("ipset", ("ipset", "restore"), text))
    return tuple(steps)


def nft_transaction(own: Ruleset, wanted: Ruleset) -> str:
    """All of nft's tables that change in one batch; one that stays keeps what it has learnt.

    Base chains stay where they can (plan/nft_switch.py); tables that go do so at the end.
    """
    there, new = dict(nft_tables(own.nft)), dict(nft_tables(wanted.nft))
    lines: list[str] = []
    behind: list[str] = []
    for key, text in new.items():
        if there.get(key) != text:
            said = _around(there[key], text) if key in there else Around(anew(*key))
            lines += [*said.before, text.rstrip("\n")]
            behind += said.behind
    for key in sorted(there.keys() - new.keys()):
        behind += anew(*key)
    return "".join(f"{line}\n" for line in (*lines, *behind))


def _around(old_text: str, new_text: str) -> Around:
    (old,), (new,) = parse_nft(old_text), parse_nft(new_text)
    if old.head != new.head:
        return Around(anew(old.family, old.name))
    chains = {o.name: o.head[0] if o.head else "" for o in new.objects if o.kind == "chain"}
    return around(old, chains)


def _restore(
    present: tuple[SavedTable, ...], own: tuple[SavedTable, ...], wanted: tuple[SavedTable, ...]
) -> Iterator[str]:
    by_name = [{table.name: table for table in tables} for tables in (present, own, wanted)]
    for name in sorted(by_name[1].keys() | by_name[2].keys()):
        empty = SavedTable(name=name)
        there, ours, new = (tables.get(name, empty) for tables in by_name)
        lines = list(_table(there, ours, new))
        if lines:
            yield f"*{name}"
            yield from lines
            yield "COMMIT"


def _table(there: SavedTable, ours: SavedTable, new: SavedTable) -> Iterator[str]:
    """The lines that change one table."""
    gone = [
        chain.name
        for chain in ours.chains
        if chain.policy is None and new.chain(chain.name) is None
    ]
    rules: list[str] = []
    for name in dict.fromkeys(c.name for c in (*new.chains, *ours.chains) if c.policy is not None):
        empty = SavedChain(name=name, policy="ACCEPT")
        chains = [table.chain(name) or empty for table in (there, ours, new)]
        merged = _merged(chains[0].rules, chains[1].rules, chains[2].rules)
        if chains[0].policy != chains[2].policy:
            yield f":{name} {chains[2].policy} [0:0]"
        if chains[0].rules != merged:
            rules.append(f"-F {quoted(name)}")
            rules += [_append(name, words) for words in merged]
    for chain in new.chains:
        if chain.policy is None and there.chain(chain.name) != chain:
            yield f":{chain.name} - [0:0]"
            rules += [_append(chain.name, words) for words in chain.rules]
    for name in gone:
        yield f":{name} - [0:0]"
    yield from rules
    for name in gone:
        yield f"-X {quoted(name)}"


def _append(chain: str, words: Rule) -> str:
    return f"-A {quoted(chain)} {rule_text(words)}".rstrip()


def _merged(
    there: tuple[Rule, ...], ours: tuple[Rule, ...], new: tuple[Rule, ...]
) -> tuple[Rule, ...]:
    """Our new rules between other people's: those that stood before our first one stay before."""
    own = Counter(ours)
    before: list[Rule] = []
    behind: list[Rule] = []
    met = False
    for words in there:
        if own[words]:
            own[words] -= 1
            met = True
        else:
            (behind if met else before).append(words)
    return (*before, *new, *behind)


def _filled_sets(present: str, wanted: str) -> Iterator[str]:
    """Each wanted set filled beside the one that is there, and put in its place."""
    there = parse_ipset(present)
    new = parse_ipset(wanted)
    for name in new:
        if (beside := _beside(name)) in there:
            # Of one that was killed.
            yield f"destroy {beside}"
    for name, found in new.items():
        if name not in there:
            yield from _filled(name, found)
        elif (found.kind, sorted(found.elements)) != (
            there[name].kind,
            sorted(there[name].elements),
        ):
            beside = _beside(name)
            yield from _filled(beside, found)
            yield f"swap {beside} {name}"
            yield f"destroy {beside}"


def _filled(name: str, found: SavedSet) -> Iterator[str]:
    yield f"create {name} {found.kind}"
    yield from (f"add {name} {element}" for element in found.elements)


def _beside(name: str) -> str:
    return _BESIDE.format(name)[:MAX_SET_NAME]
