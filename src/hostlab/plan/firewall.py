"""A described firewall as nft's text: one table of hostlab's own, changed in one transaction.

The table that is there is emptied but for its base chains, and filled anew (nft_switch.py): to the
kernel that is one change, so no packet meets half of it, and where it refuses a line nothing has
changed (nft(8), `-f`). Other tables are not named. In both filtering chains stand, in this order:
answers to what was allowed, loopback, neighbour discovery, what is denied, what is allowed, zones'
defaults; the chain's policy is the firewall's default.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import collapse_addresses, ip_network
from typing import Any, Final

import msgspec

from hostlab.errors import Place
from hostlab.plan.nft_switch import Around, anew, around
from hostlab.plan.nft_text import parse_nft
from hostlab.spec.firewall import Ends, Firewall, Forward, Rule, Service, Verdict

TABLE: Final = "inet hostlab"
_FAMILY, _NAME = TABLE.split()
_COMMENT_BYTES: Final = 127
"""Of a rule's comment (NFTNL_UDATA_COMMENT_MAXLEN less the NUL)."""
_NEIGHBOURS: Final = (
    "icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert,"
    " mld-listener-query, mld-listener-report, mld2-listener-report }"
    ' accept comment "neighbour discovery"'
)
_ADDED: Final = re.compile(
    r"\bchain\s+(input|forward|output|prerouting|postrouting)\s*\{(?!\s*type\b)"
)
"""Rules of somebody's own for a chain that is made here; with a `type` it is a chain of its own."""
_CHAINS: Final = re.compile(r"\bchain\s+([^\s{]+)\s*\{\s*(type\b[^;}]*;(?:\s*policy\s+\w+\s*;)?)?")
_ANSWERS: Final = 'ct state established,related accept comment "answers"'


class Line(msgspec.Struct, frozen=True):
    """A line for nft, and the place in the description that it comes from."""

    text: str
    place: Place | None = None


def render(node: str, firewall: Firewall | None, there: str = "") -> tuple[Line, ...]:
    """What makes a node's table so; `there` is nft's listing of the one it has, if it has one."""
    if firewall is None:
        return tuple(map(Line, anew(_FAMILY, _NAME)))
    table = _Table(firewall)
    made = [Line(f"table {TABLE} {{")]
    for chain in table.chains():
        made.append(Line(f"\tchain {chain.name} {{"))
        made.append(Line(f"\t\ttype {chain.head};"))
        made += [Line(f"\t\t{line.text}", line.place) for line in chain.lines]
        made.append(Line("\t}"))
    made += [*_raw(firewall), Line("}")]
    said = _around(there, text(made))
    head = f"# The firewall of {node}, as its description says: hostlab makes it anew."
    return Line(head), *map(Line, said.before), *made, *map(Line, said.behind)


def _around(there: str, made: str) -> Around:
    found = parse_nft(there)
    # Only `raw` can say something of the table as a whole, and nobody can take that back.
    if len(found) != 1 or found[0].head:
        return Around(anew(_FAMILY, _NAME))
    chains: dict[str, str] = {}
    for name, head in _CHAINS.findall(made):
        chains[name] = chains.get(name) or head
    return around(found[0], chains)


def text(lines: Iterable[Line]) -> str:
    """The lines as `nft -f` reads them."""
    return "".join(f"{line.text}\n" for line in lines)


class _Chain(msgspec.Struct):
    name: str
    head: str
    lines: list[Line] = msgspec.field(default_factory=list)


class _Table:
    def __init__(self, firewall: Firewall) -> None:
        self.firewall = firewall
        policy = "accept" if firewall.default is Verdict.ACCEPT else "drop"
        self.input, self.forward = (
            _Chain(name, f"filter hook {name} priority filter; policy {policy}")
            for name in ("input", "forward")
        )
        self.output = _Chain("output", "filter hook output priority filter; policy accept")
        self.output.lines += [Line(_ANSWERS), Line('oifname "lo" accept')]

    def chains(self) -> Iterator[_Chain]:
        """Those that this firewall needs."""
        firewall = self.firewall
        added = {found[1] for found in _ADDED.finditer(firewall.raw)}
        if firewall.publish or "prerouting" in added:
            yield self._prerouting()
        filters = firewall.deny or firewall.allow or any(z.default for z in firewall.zones)
        if filters or firewall.default is not Verdict.ACCEPT or added & {"input", "forward"}:
            self._filter()
            yield self.input
            yield self.forward
        if any(rule.sources.host for rule in firewall.deny + firewall.allow) or "output" in added:
            yield self.output
        if firewall.masquerade or "postrouting" in added:
            yield self._postrouting()

    def _filter(self) -> None:
        firewall = self.firewall
        self.forward.lines.append(Line(_ANSWERS))
        self.input.lines += [Line(_ANSWERS), Line('iifname "lo" accept'), Line(_NEIGHBOURS)]
        denial = "reject" if firewall.default is Verdict.REJECT else "drop"
        for rule in firewall.deny:
            self._rule(rule, denial)
        for each in firewall.publish:
            self.forward.lines += _let_through(each)
        for rule in firewall.allow:
            self._rule(rule, "accept")
        for zone in firewall.zones:
            verdict = zone.default
            if verdict is not None and verdict is not firewall.default and zone.interfaces:
                said = f'iifname {_names(zone.interfaces)} {verdict} comment "zone {zone.name}"'
                self.input.lines.append(Line(said))
                self.forward.lines.append(Line(said))
        if firewall.default is Verdict.REJECT:
            self.input.lines.append(Line('reject comment "default"'))
            self.forward.lines.append(Line('reject comment "default"'))

    def _rule(self, rule: Rule, verdict: str) -> None:
        ways: list[tuple[_Chain, list[_Match]]] = []
        targets = rule.targets
        if rule.sources.host:
            ways.append((self.output, _ends(targets, "o", "d")))
            sources: list[_Match] = [(0, "")]
        else:
            sources = _ends(rule.sources, "i", "s")
            here = [(0, "")] if targets.host or targets.anywhere else _prefixes(targets.own, "d")
            ways.append((self.input, here))
            ways.append((self.forward, _ends(targets, "o", "d")))
        for chain, found in ways:
            for parts in itertools.product(sources, found, _services(rule.services)):
                if len({family for family, _ in parts if family}) < 2:
                    words = [said for _, said in parts if said]
                    line = " ".join([*words, verdict, _comment(rule.said)])
                    chain.lines.append(Line(line, rule.place))

    def _prerouting(self) -> _Chain:
        chain = _Chain("prerouting", "nat hook prerouting priority dstnat; policy accept")
        for each in self.firewall.publish:
            for target in each.addresses:
                family, host = ("ip6", f"[{target}]") if ":" in target else ("ip", target)
                words = [
                    f"meta nfproto ipv{4 if family == 'ip' else 6}",
                    *([f"iifname {_names(each.interfaces)}"] if each.interfaces else []),
                    f"fib daddr type local {each.protocol} dport {each.port}",
                    f"dnat {family} to {host}:{each.inner}",
                    _comment(each.said),
                ]
                chain.lines.append(Line(" ".join(words), each.place))
        return chain

    def _postrouting(self) -> _Chain:
        chain = _Chain("postrouting", "nat hook postrouting priority srcnat; policy accept")
        if self.firewall.masquerade:
            names = _names(self.firewall.masquerade)
            said = f'meta nfproto ipv4 oifname {names} masquerade comment "masquerade"'
            chain.lines.append(Line(said))
        return chain


_Match = tuple[int, str]
"""4, 6 or 0 for either family, and what a rule says."""


def _raw(firewall: Firewall) -> Iterator[Line]:
    place = firewall.raw_place
    for number, line in enumerate(firewall.raw.split("\n") if firewall.raw else ()):
        where = None if place is None else Place(place.file, place.line + number, place.column)
        yield Line(f"\t{line}" if line.strip() else "", where)


def _let_through(each: Forward) -> Iterator[Line]:
    came_in = f"iifname {_names(each.interfaces)} " if each.interfaces else ""
    for target in each.addresses:
        family = "ip6" if ":" in target else "ip"
        said = f"{family} daddr {target} {each.protocol} dport {each.inner} ct status dnat accept"
        yield Line(f"{came_in}{said} {_comment(each.said)}", each.place)


def _ends(ends: Ends, direction: str, side: str) -> list[_Match]:
    """Alternatives, each for a rule of its own."""
    if ends.anywhere:
        return [(0, "")]
    found: list[_Match] = []
    if ends.interfaces:
        found.append((0, f"{direction}ifname {_names(ends.interfaces)}"))
    return found + _prefixes(ends.addresses, side)


def _prefixes(addresses: Sequence[str], side: str) -> list[_Match]:
    found: list[_Match] = []
    for version, word in ((4, "ip"), (6, "ip6")):
        # A prefix within another says nothing more; some nft refuse the two in one set.
        networks: list[Any] = [n for a in addresses if (n := ip_network(a)).version == version]
        listed = [
            str(n.network_address) if n.num_addresses == 1 else str(n)
            for n in collapse_addresses(networks)
        ]
        if listed:
            found.append((version, f"{word} {side}addr {_set(listed)}"))
    return found


def _services(services: Sequence[Service]) -> list[_Match]:
    if not services:
        return [(0, "")]
    found: list[_Match] = []
    whole = [each.protocol for each in services if not each.first]
    for protocol in ("tcp", "udp"):
        ranges = _merged((s.first, s.last) for s in services if s.first and s.protocol == protocol)
        listed = [str(first) if first == last else f"{first}-{last}" for first, last in ranges]
        if listed and protocol not in whole:
            found.append((0, f"{protocol} dport {_set(listed)}"))
    for protocol in whole:
        if protocol == "ping":
            found.append((4, "icmp type echo-request"))
            found.append((6, "icmpv6 type echo-request"))
        else:
            found.append((0, f"meta l4proto {protocol}"))
    return found


def _merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


def _names(interfaces: Sequence[str]) -> str:
    return _set([f'"{name}"' for name in interfaces])


def _set(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{{ {', '.join(words)} }}"


def _comment(said: str) -> str:
    return f'comment "{said.encode()[:_COMMENT_BYTES].decode(errors="ignore")}"'
