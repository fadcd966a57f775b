"""Every rule of a ruleset with what it asks for, and with the ways that lead to its chain; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from hostlab.firewall.boundaries import Demand, demand_of_nft, demand_of_saved
from hostlab.firewall.ipset_save import parse_ipset
from hostlab.firewall.iptables_save import parse, rule_text
from hostlab.firewall.ruleset import Ruleset
from hostlab.plan.nft_text import NftTable, parse_nft

HOOKS: Final = {
    "PREROUTING": "prerouting", "INPUT": "input", "FORWARD": "forward", "OUTPUT": "output",
    "POSTROUTING": "postrouting",
}  # fmt: skip
MAX_WAYS: Final = 3
"""Of a chain: so many of the jumps that lead to it are followed back."""
MAX_DEPTH: Final = 16
_HOOK: Final = re.compile(r"type \S+ hook (\S+)")
_LEADS: Final = re.compile(r"\b(?:jump|goto) (\S+?)[,;}\s]|\b(?:jump|goto) (\S+)$")


class Way(msgspec.Struct, frozen=True):
    """How packets come to a chain: from a hook, by these rules."""

    hook: str
    demands: tuple[Demand, ...] = ()


class PlacedRule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule where it stands."""

    part: str
    chain: str
    """`filter INPUT`, `inet mine input`."""
    text: str
    demand: Demand
    ways: tuple[Way, ...]


class _Chain(msgspec.Struct):
    """A chain while its ways are looked for."""

    hook: str | None
    rules: Sequence[tuple[str, Demand, tuple[str, ...]]]
    """Text, demand, and the chains it leads to."""


def placed_rules(ruleset: Ruleset) -> Iterator[PlacedRule]:
    """All rules, in the order in which they stand; those that nothing leads to are left out."""
    for part, table, chains in _tables(ruleset):
        ways = _ways(chains)
        for name, chain in chains.items():
            for text, demand, _ in chain.rules:
                if ways.get(name):
                    yield PlacedRule(
                        part=part,
                        chain=f"{table} {name}",
                        text=text,
                        demand=demand,
                        ways=tuple(ways[name]),
                    )


def _ways(chains: Mapping[str, _Chain]) -> dict[str, list[Way]]:
    """For each chain the first few ways that lead there."""
    found: dict[str, list[Way]] = {}
    waiting = [(name, Way(chain.hook)) for name, chain in chains.items() if chain.hook]
    while waiting:
        name, way = waiting.pop(0)
        ways = found.setdefault(name, [])
        if len(ways) >= MAX_WAYS or len(way.demands) > MAX_DEPTH:
            continue
        ways.append(way)
        waiting += [
            (target, Way(way.hook, (*way.demands, demand)))
            for _, demand, targets in chains[name].rules
            for target in targets
            if target in chains
        ]
    return found


def _tables(ruleset: Ruleset) -> Iterator[tuple[str, str, dict[str, _Chain]]]:
    sets = {name: found.elements for name, found in parse_ipset(ruleset.ipset).items()}
    for part in ("iptables", "ip6tables", "legacy_iptables", "legacy_ip6tables"):
        for table in parse(getattr(ruleset, part), file=part):
            chains = {}
            for chain in table.chains:
                rules = []
                for words in chain.rules:
                    demand = demand_of_saved(words, is_v6="6" in part, sets=sets)
                    rules.append((rule_text(words), demand, (demand.target,)))
                hook = HOOKS.get(chain.name) if chain.policy is not None else None
                chains[chain.name] = _Chain(hook, rules)
            yield part, table.name, chains
    for nft in parse_nft(ruleset.nft):
        yield "nft", f"{nft.family} {nft.name}", _nft_chains(nft)


def _nft_chains(table: NftTable) -> dict[str, _Chain]:
    sets = {each.name: each.elements for each in table.objects if each.elements}
    chains = {}
    for each in table.objects:
        if each.kind != "chain":
            continue
        hooks = [match[1] for said in each.head if (match := _HOOK.match(said))]
        rules = []
        for text in each.rules:
            leads = tuple(one or other for one, other in _LEADS.findall(text))
            demand = demand_of_nft(text, family=table.family, sets=sets)
            rules.append((text, demand, leads))
        chains[each.name] = _Chain(hooks[0] if hooks else None, rules)
    return chains
