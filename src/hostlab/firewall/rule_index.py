"""Which rule a trace means: nft's handles, and the numbers of legacy iptables; pure.

A trace names a table, a chain and a handle. The rule's text is taken from `nft -a list ruleset`,
and that of iptables-nft from iptables-save, where the same rules stand in the same order: nft does
not know how to write the matches of iptables.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from hostlab.errors import Place
from hostlab.firewall.listing import logical_lines
from hostlab.firewall.ruleset import IPTABLES_TABLES

Places = Mapping[tuple[str, str, str, int, bool], Place]
"""(family, table, chain, number in the chain from 1, whether it is legacy) -> where it stands."""

_TABLE: Final = re.compile(r"table (\S+) (\S+) \{")
_CHAIN: Final = re.compile(r"\tchain (\S+) \{")
_RULE: Final = re.compile(r"\t\t(.*) # handle (\d+)$")
_HOOK: Final = re.compile(r"\t\ttype (\S+) hook (\S+) (?:device .*)?priority ([^;]*);")
_QUOTED: Final = re.compile(r'"[^"]*"')
_NFT_REJECT: Final = re.compile(r"(?<![@\w])reject(?!\w)")
_IPTABLES_REJECT: Final = re.compile(r"(?:^| )-[jg] REJECT\b")
_REMEMBERS: Final = re.compile(
    r"-m (?:hashlimit|limit|recent|connlimit|quota|statistic|nth) |-j SET |(?<!\S)limit rate |"
    r"(?<!\S)quota (?:over |until )?\d|(?<!\S)numgen |"
    r"(?<!\S)(?:add|update|delete) @|(?<!\S)ct count "
)
_COUNTERS: Final = re.compile(r"^\[\d+:\d+\] ")
_COUNTER: Final = re.compile(r"\bcounter packets \d+ bytes \d+")


class Base(NamedTuple):
    """How a chain is reached from the network."""

    type: str
    """filter, nat, route."""
    hook: str
    """prerouting, input, forward, output, postrouting, ingress, egress."""


class Rule(NamedTuple):
    """A rule's text and its place in its chain, from 1."""

    text: str
    number: int

    @property
    def is_reject(self) -> bool:
        """Whether its drop tells the sender."""
        if self.text.startswith("-A "):
            return bool(_IPTABLES_REJECT.search(_QUOTED.sub("", self.text)))
        return bool(_NFT_REJECT.search(_QUOTED.sub("", self.text)))


NO_RULE: Final = Rule("", 0)


class RuleIndex:
    """Rules and base chains of a ruleset as it is loaded."""

    def __init__(
        self,
        listed: str,
        saved: Mapping[str, str],
        legacy: Mapping[str, str],
    ) -> None:
        """`listed` is nft's; `saved` and `legacy` are iptables-save's by family, ip and ip6."""
        self._rules: dict[tuple[str, str, str, int], Rule] = {}
        self.bases: dict[tuple[str, str, str], Base] = {}
        self._legacy = {family: _appended(text) for family, text in legacy.items()}
        appended = {family: _appended(text) for family, text in saved.items()}
        self._read(listed, appended)

    def _read(
        self, listed: str, appended: Mapping[str, Mapping[tuple[str, str], list[str]]]
    ) -> None:
        family = table = chain = ""
        number = 0
        texts: list[str] = []
        for line in logical_lines(listed):
            if found := _TABLE.match(line):
                family, table, chain = found[1], found[2], ""
            elif found := _CHAIN.match(line):
                chain, number = found[1], 0
                of_family = appended.get(family, {}) if table in IPTABLES_TABLES else {}
                texts = of_family.get((table, chain), [])
            elif line == "\t}":
                chain = ""
            elif chain and (found := _HOOK.match(line)):
                self.bases[family, table, chain] = Base(found[1], found[2])
            elif chain and (found := _RULE.match(line)):
                number += 1
                text = texts[number - 1] if number <= len(texts) else found[1]
                text = _COUNTER.sub("counter", text)
                self._rules[family, table, chain, int(found[2])] = Rule(text, number)

    def rule(self, family: str, table: str, chain: str, handle: int) -> Rule:
        """The rule; NO_RULE for one that has been taken away meanwhile."""
        return self._rules.get((family, table, chain, handle), NO_RULE)

    def remembering(self) -> Rule | None:
        """A rule that packets before change; None when the answer to each is always the same."""
        legacy = (
            Rule(text, number)
            for chains in self._legacy.values()
            for texts in chains.values()
            for number, text in enumerate(texts, 1)
        )
        every = (*self._rules.values(), *legacy)
        return next((rule for rule in every if _REMEMBERS.search(rule.text)), None)

    def legacy_rule(self, family: str, table: str, chain: str, number: int) -> Rule:
        """A rule of legacy iptables, `number` from 1."""
        texts = self._legacy.get(family, {}).get((table, chain), [])
        return Rule(texts[number - 1], number) if 0 < number <= len(texts) else NO_RULE

    def is_legacy_chain(self, family: str, table: str, name: str) -> bool:
        """Whether a target of legacy iptables is a chain."""
        return (table, f":{name}") in self._legacy.get(family, {})

    def legacy_policy(self, family: str, table: str, chain: str) -> str:
        """A built-in chain's policy as a verdict; empty for a chain without."""
        return (self._legacy.get(family, {}).get((table, f":{chain}")) or [""])[0].lower()


def _appended(saved: str) -> dict[tuple[str, str], list[str]]:
    """Table and chain -> its rules; table and `:CHAIN` -> its policy, `-` for none."""
    found: dict[tuple[str, str], list[str]] = {}
    table = ""
    for raw in saved.splitlines():
        line = _COUNTERS.sub("", raw)
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith("-A "):
            found.setdefault((table, line.split(" ", 2)[1]), []).append(line)
        elif line.startswith(":"):
            name, _, rest = line[1:].partition(" ")
            found[table, f":{name}"] = [rest.partition(" ")[0]]
    return found
