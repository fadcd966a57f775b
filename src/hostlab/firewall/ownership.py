"""Which part of a packet filter is ours: what is left is other people's, and is never touched.

Docker, fail2ban, libvirt, Kubernetes and the administrator's own hand all write into the same
tables. What is ours is known by what was applied last, and by what is to be applied; before the
first time, what is in a table that is to be applied is taken for the firewall that is replaced, but
for chains that are known to be somebody's and the rules that lead there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from hostlab.firewall.ipset_save import parse_ipset
from hostlab.firewall.iptables_save import SavedChain, SavedTable, parse, print_saved
from hostlab.firewall.ruleset import Ruleset
from hostlab.plan.nft_text import nft_tables

SAVED_PARTS: Final = ("iptables", "ip6tables", "legacy_iptables", "legacy_ip6tables")
FOREIGN_CHAINS: Final = re.compile(
    r"DOCKER.*|f2b-.*|fail2ban-.*|LIBVIRT_.*|KUBE-.*|CNI-.*|cali-.*|FLANNEL-.*|CILIUM_.*"
    r"|ufw6?-.*|sshguard|ts-.*|WEAVE.*|NETAVARK.*|LXC.*|f2b_.*"
)
"""Chains that known programs make for themselves."""
FOREIGN_INTERFACES: Final = re.compile(
    r"docker\d*|br-[0-9a-f]{12}|virbr\d+|cni\d+|flannel\.\d+|cali[0-9a-f]+|podman\d*|lxcbr\d+"
)
"""Interfaces that known programs make for themselves: Docker masquerades without a chain."""
_JUMPS: Final = ("-j", "-g", "--jump", "--goto")
_INTERFACES: Final = ("-i", "-o", "--in-interface", "--out-interface")


def own_part(present: Ruleset, *, ours: Sequence[Ruleset] | None, wanted: Ruleset) -> Ruleset:
    """What of `present` is ours.

    `ours` are the rulesets that may be there of ours: what was applied last, and of a change that
    stopped half-way both. None: nothing of ours was ever applied.
    """
    parts = {
        part: print_saved(
            _own_tables(
                parse(getattr(present, part), file=part),
                None if ours is None else [parse(getattr(o, part), file=part) for o in ours],
                parse(getattr(wanted, part), file=part),
            )
        )
        for part in SAVED_PARTS
    }
    known = (*(ours or ()), wanted)
    named = {name for each in known for name in nft_names(each)}
    nft = "".join(text for name, text in nft_tables(present.nft) if name in named)
    sets = {name for each in known for name in set_names(each.ipset)}
    return Ruleset(nft=nft, ipset=_sets(present.ipset, sets), **parts)


def _own_tables(
    present: Sequence[SavedTable],
    ours: Sequence[Sequence[SavedTable]] | None,
    wanted: Sequence[SavedTable],
) -> list[SavedTable]:
    found = []
    for table in present:
        last = [t for tables in ours or () for t in tables if t.name == table.name]
        new = [t for t in wanted if t.name == table.name]
        if not last and not new:
            continue
        chains = [
            SavedChain(
                name=chain.name,
                policy=chain.policy,
                rules=_own_rules(chain, last, is_first=ours is None),
            )
            for chain in table.chains
            if _is_own(chain, (*last, *new), is_first=ours is None)
        ]
        if chains:
            found.append(SavedTable(name=table.name, chains=tuple(chains)))
    return found


def _is_own(chain: SavedChain, known: Sequence[SavedTable], *, is_first: bool) -> bool:
    if chain.policy is not None or any(table.chain(chain.name) for table in known):
        return True
    return is_first and not FOREIGN_CHAINS.fullmatch(chain.name)


def _own_rules(
    chain: SavedChain, last: Sequence[SavedTable], *, is_first: bool
) -> tuple[tuple[str, ...], ...]:
    """The rules of a chain that are ours, in order."""
    if chain.policy is None:
        return chain.rules
    if is_first:
        return tuple(words for words in chain.rules if not is_foreign_rule(words))
    known: Counter[tuple[str, ...]] = Counter()
    for table in last:
        # As often as one of them has it: they are never there together.
        known |= Counter(before.rules if (before := table.chain(chain.name)) else ())
    found = []
    for words in chain.rules:
        if known[words]:
            known[words] -= 1
            found.append(words)
    return tuple(found)


def is_foreign_rule(words: Sequence[str]) -> bool:
    """Whether a rule leads to a known program's chain, or is about its interface."""
    for option, value in pairwise(words):
        if option in _JUMPS and FOREIGN_CHAINS.fullmatch(value):
            return True
        if option in _INTERFACES and FOREIGN_INTERFACES.fullmatch(value):
            return True
    return False


def nft_names(ruleset: Ruleset) -> set[tuple[str, str]]:
    """The family and name of each of nft's tables."""
    return {name for name, _ in nft_tables(ruleset.nft)}


def set_names(ipset: str) -> set[str]:
    """The names of the sets of `ipset save`."""
    return set(parse_ipset(ipset))


def _sets(ipset: str, names: set[str]) -> str:
    lines = [line for line in ipset.splitlines() if line.split()[1:2] and line.split()[1] in names]
    return "".join(f"{line}\n" for line in lines)
