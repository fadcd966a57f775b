"""A ruleset that keeps things out by IPv4 only, on a host that has IPv6: a remark; pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from hostlab.firewall.iptables_save import parse
from hostlab.firewall.ruleset import Ruleset
from hostlab.firewall.target import Target
from hostlab.firewall.troubles import Blame, Trouble
from hostlab.plan.nft_text import parse_nft

_ENDS = ("DROP", "REJECT")
_NO_IPV6 = ("net.ipv6.conf.all.disable_ipv6", "1")


def left_open(ruleset: Ruleset, target: Target) -> Iterator[Trouble]:
    """A remark where rules of iptables end packets and none is for IPv6, which the target has."""
    addresses = (address for each in target.interfaces if each.is_up for address in each.addresses)
    if _NO_IPV6 in target.sysctls or not any(":" in address for address in addresses):
        return
    if _keeps_out(ruleset.iptables + ruleset.legacy_iptables) and not _is_about_v6(ruleset):
        yield Trouble(
            blame=Blame.REMARK,
            message="it keeps out IPv4 only; of IPv6, which this host has, all stays as it is",
            hint="ip6tables takes the same rules; a table inet of nft is for both",
        )


def _keeps_out(saved: str) -> bool:
    return any(
        chain.policy in _ENDS or any(_ends(rule) for rule in chain.rules)
        for table in parse(saved, file="iptables")
        for chain in table.chains
    )


def _ends(rule: tuple[str, ...]) -> bool:
    return any(word == "-j" and target in _ENDS for word, target in itertools.pairwise(rule))


def _is_about_v6(ruleset: Ruleset) -> bool:
    saved = parse(ruleset.ip6tables + ruleset.legacy_ip6tables, file="ip6tables")
    if any(c.rules or c.policy in _ENDS for table in saved for c in table.chains):
        return True
    tables = (each for each in parse_nft(ruleset.nft) if each.family in ("ip6", "inet"))
    return any(
        each.rules or "policy drop" in " ".join(each.head) for t in tables for each in t.objects
    )
