"""From what the kernel told of a packet on its way to an `Answer`; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from hostlab.firewall import witnesses
from hostlab.firewall.answer import Answer, Step, Verdict
from hostlab.firewall.frames import rewritten
from hostlab.firewall.packet import Packet
from hostlab.firewall.rule_index import NO_RULE, Base, Places, Rule, RuleIndex
from hostlab.linux.nflog import Logged
from hostlab.linux.nftrace import (
    NF_ACCEPT,
    NF_DROP,
    NF_QUEUE,
    NF_STOLEN,
    NFT_CONTINUE,
    NFT_GOTO,
    NFT_JUMP,
    NFT_RETURN,
    NFT_TRACETYPE_POLICY,
    NFT_TRACETYPE_RULE,
    TraceMessage,
)

_FAMILIES: Final = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
"""NFPROTO_* -> nft's word."""
_HOOKS: Final = ("prerouting", "input", "forward", "output", "postrouting")
"""By NF_INET_*."""
_VERDICTS: Final = {
    NF_DROP: "drop",
    NF_ACCEPT: "accept",
    NF_STOLEN: "stolen",
    NF_QUEUE: "queue",
    NFT_CONTINUE: "continue",
    NFT_RETURN: "return",
}
_ENDS: Final = frozenset({"drop", "reject", "stolen", "queue"})
"""Verdicts behind which a packet goes nowhere; a queue that nobody reads is one."""
_ARRIVING: Final = ("ingress", "prerouting", "input", "forward", "postrouting", "egress")
"""Hooks in the order in which a packet comes to them."""
_OWN: Final = ("output", "postrouting", "egress", "prerouting", "input")
_FILTER_HOOKS: Final = ("input", "forward", "output")
_LEGACY: Final = re.compile(r"TRACE: (\w+):(.+):(rule|return|policy):(\d+) ?$")
_TARGET: Final = re.compile(r"(?:^| )-([jg]) (\S+)")
_LEGACY_VERDICTS: Final = {
    "ACCEPT": "accept",
    "DNAT": "accept",
    "DROP": "drop",
    "MASQUERADE": "accept",
    "NETMAP": "accept",
    "NFQUEUE": "queue",
    "REDIRECT": "accept",
    "REJECT": "reject",
    "RETURN": "return",
    "SNAT": "accept",
}
"""Targets of iptables-extensions(8) behind which the next rule is not looked at."""


class Way:
    """What was told of one packet, in order."""

    __slots__ = ("logged", "traced")

    def __init__(self) -> None:
        self.traced: list[TraceMessage] = []
        self.logged: list[Logged] = []


class _Passed:
    """A step with how its chain is reached."""

    __slots__ = ("base", "step")

    def __init__(self, base: Base | None, step: Step) -> None:
        self.base, self.step = base, step


class Reader:
    """Makes answers, for one ruleset in one node."""

    def __init__(
        self, rules: RuleIndex, interfaces: Mapping[int, str], places: Places, *, is_legacy: bool
    ) -> None:
        self._rules, self._interfaces, self._places = rules, interfaces, places
        self._is_legacy = is_legacy
        self._steps: dict[tuple[int, str, str, int, int, int, str], Step] = {}

    def answer(self, packet: Packet, way: Way) -> Answer:
        """What became of the packet."""
        traced, end = self._traced(way)
        passed = [*traced, *self._legacy(packet, way)]
        if way.logged:
            order = _ARRIVING if packet.interface not in (None, "lo") else _OWN
            passed.sort(key=lambda each: _rank(each.base, order))
        steps = tuple(each.step for each in passed)
        verdict, decided = self._ended(way, traced, passed, end)
        left_as = left_by = None
        if end is not None:
            seen = rewritten(packet, end.network_header, end.transport_header)
            left_as = seen if seen != packet else None
            if not end.chain.startswith("input"):
                left_by = self._interfaces.get(end.oif)
        return Answer(
            packet=packet,
            verdict=verdict,
            decided_by=decided,
            steps=steps,
            left_by=left_by,
            left_as=left_as,
            seen_by=_seen_by(traced, way),
        )

    def _traced(self, way: Way) -> tuple[list[_Passed], TraceMessage | None]:
        """The steps in nf_tables, and the last witness if the packet came to it."""
        found: list[_Passed] = []
        base: Base | None = None
        bases = self._rules.bases
        for told in way.traced:
            if told.table == witnesses.TABLE:
                is_last = told.chain.startswith(("input", "postrouting", "egress"))
                is_end = told.chain.endswith(witnesses.END)
                if is_last and is_end and told.verdict == NF_DROP:
                    return found, told
            elif told.handle or told.type == NFT_TRACETYPE_POLICY:
                # Else it is a chain's end: before Linux 6.18 a NFT_TRACETYPE_RETURN, then a rule 0.
                family = _FAMILIES.get(told.family, "")
                base = bases.get((family, told.table, told.chain), base)
                found.append(_Passed(base, self._step(family, told)))
        return found, None

    def _step(self, family: str, told: TraceMessage) -> Step:
        key = told.family, told.table, told.chain, told.type, told.handle, told.verdict, told.jump
        step = self._steps.get(key)
        if step is None:
            rule = NO_RULE
            if told.type == NFT_TRACETYPE_RULE:
                rule = self._rules.rule(family, told.table, told.chain, told.handle)
            verdict = _verdict(told)
            if verdict == "drop" and rule.is_reject:
                verdict = "reject"
            step = Step(
                family=family,
                table=told.table,
                chain=told.chain,
                rule=rule.text,
                handle=told.handle,
                number=rule.number,
                verdict=verdict,
                place=self._places.get((family, told.table, told.chain, rule.number, False)),
            )
            self._steps[key] = step
        return step

    def _legacy(self, packet: Packet, way: Way) -> Iterator[_Passed]:
        family = "ip6" if ":" in packet.source else "ip"
        for logged in way.logged:
            found = _LEGACY.match(logged.prefix)
            if found is None:
                continue
            table, chain = found[1], found[2]
            # A rule without a match that ends the chain is told of as a policy or a return, too.
            rule = self._rules.legacy_rule(family, table, chain, int(found[4]))
            verdict = self._legacy_verdict(family, table, rule)
            if rule is NO_RULE and found[3] == "policy":
                verdict = self._rules.legacy_policy(family, table, chain)
            elif rule is NO_RULE:
                continue
            hook = _HOOKS[logged.hook] if logged.hook < len(_HOOKS) else ""
            step = Step(
                family=family,
                table=table,
                chain=chain,
                rule=rule.text,
                number=rule.number,
                verdict=verdict,
                place=self._places.get((family, table, chain, rule.number, True)),
            )
            yield _Passed(Base("nat" if table == "nat" else "filter", hook), step)

    def _legacy_verdict(self, family: str, table: str, rule: Rule) -> str:
        found = _TARGET.search(rule.text)
        if found is None:
            return "continue"
        if self._rules.is_legacy_chain(family, table, found[2]):
            return f"{'goto' if found[1] == 'g' else 'jump'} {found[2]}"
        return _LEGACY_VERDICTS.get(found[2], "continue")

    def _ended(
        self,
        way: Way,
        traced: list[_Passed],
        passed: list[_Passed],
        end: TraceMessage | None,
    ) -> tuple[Verdict, Step | None]:
        if end is not None:
            return Verdict.ACCEPT, _accepted_by(passed)
        if traced and traced[-1].step.verdict in _ENDS:
            by = traced[-1].step
            return (Verdict.REJECT if by.verdict == "reject" else Verdict.DROP), by
        if self._is_legacy and (hook := _unfinished(way)):
            steps = [e.step for e in passed if e not in traced and e.base and e.base.hook == hook]
            step = steps[-1] if steps else None
            is_reject = step is not None and step.verdict == "reject"
            return (Verdict.REJECT if is_reject else Verdict.DROP), step
        return Verdict.LOST, None


def _verdict(told: TraceMessage) -> str:
    if told.verdict == NFT_JUMP:
        return f"jump {told.jump}"
    if told.verdict == NFT_GOTO:
        return f"goto {told.jump}"
    # A queue's number and an errno are in the upper bits.
    code = told.verdict & 0xFF if told.verdict >= 0 else told.verdict
    return _VERDICTS.get(code, "continue")


def _accepted_by(passed: list[_Passed]) -> Step | None:
    """The last rule that let the packet pass where it could be stopped, else the last policy."""
    accepting = [each for each in passed if each.step.verdict == "accept"]
    filters = [e for e in accepting if e.base and e.base.hook in _FILTER_HOOKS]
    filters = [e for e in filters if e.base and e.base.type == "filter"]
    filters = [e for e in filters if e.step.table != "mangle"] or filters
    for candidates in (filters, accepting):
        rules = [each.step for each in candidates if each.step.rule]
        if rules:
            return rules[-1]
        if candidates:
            return candidates[-1].step
    return None


def _unfinished(way: Way) -> str:
    """The hook that a packet came into and did not leave; empty when there is none."""
    open_hook = ""
    for told in way.traced:
        if told.table == witnesses.TABLE:
            hook, _, which = told.chain.partition("_")
            open_hook = hook if which == witnesses.BEGIN else ""
    return open_hook


def _rank(base: Base | None, order: tuple[str, ...]) -> int:
    return order.index(base.hook) if base and base.hook in order else 0


def _seen_by(traced: list[_Passed], way: Way) -> str:
    if not way.logged:
        return "nft trace"
    return "nft trace and TRACE" if traced else "TRACE"
