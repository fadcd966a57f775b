"""How two rulesets differ by what they do: packets really sent through both, and compared.

Nothing is proved by a model: each sample passes through the kernel twice. That nothing differs is
therefore said with what was sent: which dimensions, how many boundaries, and what no sample varies.
"""

from __future__ import annotations

import msgspec

from hostlab.firewall.answer import Answer, Verdict
from hostlab.firewall.demands import PlacedRule, placed_rules
from hostlab.firewall.packet import Packet
from hostlab.firewall.prober import Prober
from hostlab.firewall.ruleset import Ruleset
from hostlab.firewall.samples import beyond, covered, sample_packets
from hostlab.firewall.stage import Stage


class Disagreement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A packet of which the rulesets make different things, and how many more are like it."""

    packet: Packet
    old: Answer
    new: Answer
    others: int = 0
    """Of the other samples, how many the same two rules decide in the same two ways."""


class Meaning(msgspec.Struct, frozen=True, kw_only=True):
    """What was found, and how far it was looked for."""

    disagreements: tuple[Disagreement, ...]
    packets: int
    """How many were sent through each ruleset."""
    covered: dict[str, int]
    """Dimension -> boundaries of it that either ruleset mentions."""
    beyond: tuple[str, ...]
    """Matches that no sample varies, in their tools' words."""


Behaviour = tuple[Verdict, str | None, Packet | None]


def behaviour(answer: Answer) -> Behaviour:
    """What can be told of an answer from outside: the end, the way out, what NAT made of it."""
    return answer.verdict, answer.left_by, answer.left_as


def meaning_difference(
    stage: Stage, old: str, new: str, *, rulesets: tuple[Ruleset, Ruleset]
) -> Meaning:
    """Compare what is loaded in two nodes of a stage; `rulesets` are what was read there."""
    before, after = (list(placed_rules(ruleset)) for ruleset in rulesets)
    rules = [*before, *after]
    packets = sample_packets(rules, changed_rules(before, after), stage.target)
    with Prober(stage, old) as prober:
        first = prober.ask(packets)
    with Prober(stage, new) as prober:
        second = prober.ask(packets)
    return Meaning(
        disagreements=_grouped(first, second),
        packets=len(packets),
        covered=covered(rules),
        beyond=beyond(rules),
    )


def changed_rules(before: list[PlacedRule], after: list[PlacedRule]) -> frozenset[int]:
    """The numbers, in both lists together, of rules that only one of them has.

    A rule that has another before it than it had counts, and one whose set has other elements.
    """
    sides = [_with_neighbours(rules) for rules in (before, after)]
    common = set(sides[0]) & set(sides[1])
    return frozenset(
        number for number, key in enumerate((*sides[0], *sides[1])) if key not in common
    )


def _with_neighbours(rules: list[PlacedRule]) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    last = ("", "", "")
    for rule in rules:
        key = (rule.part, rule.chain, rule.text)
        wants = repr((rule.demand.wants, rule.demand.unwanted))
        found.append((*key, wants, last[2] if last[:2] == key[:2] else ""))
        last = key
    return found


def _grouped(first: tuple[Answer, ...], second: tuple[Answer, ...]) -> tuple[Disagreement, ...]:
    """One sample for each pair of rules and verdicts; those of most packets first."""
    groups: dict[tuple[object, ...], Disagreement] = {}
    for old, new in zip(first, second, strict=True):
        if behaviour(old) == behaviour(new):
            continue
        key = (old.verdict, new.verdict, _rule(old), _rule(new))
        found = groups.get(key)
        if found is None:
            groups[key] = Disagreement(packet=old.packet, old=old, new=new)
        else:
            groups[key] = msgspec.structs.replace(found, others=found.others + 1)
    return tuple(sorted(groups.values(), key=lambda each: -each.others))


def _rule(answer: Answer) -> tuple[str, ...]:
    step = answer.decided_by
    return () if step is None else (step.family, step.table, step.chain, step.rule)
