"""How well expectations test a ruleset: which rules they reach, which changes they notice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from hostlab.errors import Failed
from hostlab.firewall import kernel
from hostlab.firewall.answer import Answer
from hostlab.firewall.candidates import candidates
from hostlab.firewall.expectations import Expected, failure
from hostlab.firewall.mutants import Mutant, RuleKey, Written, mutants, rules_of
from hostlab.firewall.packet import Packet, print_packet
from hostlab.firewall.probing import Probed, endpoint
from hostlab.firewall.stage import StageNode
from hostlab.plan.nft_text import nft_tables


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """Rules that a packet passed, and those that none did."""

    reached: tuple[Written, ...]
    missed: tuple[Written, ...]


def coverage(rules: Sequence[Written], answers: Iterable[Answer]) -> Coverage:
    """Which rules decided over, or were passed by, one of the packets at least."""
    hit = {
        RuleKey(step.family, step.table, step.chain, step.number, step.handle == 0)
        for answer in answers
        for step in answer.steps
        if step.number
    }
    return Coverage(
        reached=tuple(rule for rule in rules if rule.key in hit),
        missed=tuple(rule for rule in rules if rule.key not in hit),
    )


class Survivor(msgspec.Struct, frozen=True, kw_only=True):
    """A change that no expectation notices."""

    mutant: Mutant
    suggestion: str = ""
    """An expectation that would, as a line of the file; empty when no packet was found."""


class Tested(msgspec.Struct, frozen=True, kw_only=True):
    """What became of every change."""

    noticed: int
    survivors: tuple[Survivor, ...]
    refused: int = 0
    """Changes that make no ruleset."""

    @property
    def tried(self) -> int:
        """How many changes were loaded and asked of."""
        return self.noticed + len(self.survivors)

    @property
    def score(self) -> float:
        """The part that was noticed; 1.0 of nothing."""
        return self.noticed / self.tried if self.tried else 1.0


def mutate(
    found: Probed, expected: Sequence[Expected], progress: Callable[[int, int], None]
) -> Tested:
    """Load every mutant, ask all packets, and see whether one of them ends otherwise.

    Failed when the ruleset itself is not as expected.
    """
    ruleset = found.staged.ruleset
    answers = found.prober.ask(each.packet for each in expected)
    for each, answer in zip(expected, answers, strict=True):
        if wrong := failure(each, answer):
            hint = "`hostlab firewall prove` lists all of them"
            message = f"{each.place}: {wrong}: {print_packet(each.packet)}"
            raise Failed("expectation", message, hint=hint)
    likely = candidates(rules_of(ruleset), found.target)
    every = tuple(mutants(ruleset))
    tester = _Tester(found, expected, likely)
    try:
        for number, mutant in enumerate(every):
            progress(number, len(every))
            tester.test(mutant)
    finally:
        tester.restore()
    return Tested(noticed=tester.noticed, survivors=tuple(tester.survivors), refused=tester.refused)


class _Tester:
    """Tries one mutant after another in the same node."""

    def __init__(
        self,
        found: Probed,
        expected: Sequence[Expected],
        likely: Mapping[RuleKey, tuple[Packet, ...]],
    ) -> None:
        self._found, self._expected, self._likely = found, expected, likely
        self._changed = ""
        """The part that is not what it was."""
        packets = dict.fromkeys(packet for each in likely.values() for packet in each)
        self._usual = dict(zip(packets, found.prober.ask(packets), strict=True))
        self.noticed = self.refused = 0
        self.survivors: list[Survivor] = []

    def restore(self) -> None:
        """Put back what the last mutant changed."""
        if self._changed:
            whole = getattr(self._found.staged.ruleset, self._changed)
            load_part(self._found.node, self._changed, whole)
            self._found.prober.changed()
            self._changed = ""

    def test(self, mutant: Mutant) -> None:
        """Load one and ask everything."""
        if self._changed != mutant.field:
            self.restore()
        self._changed = mutant.field
        try:
            load_part(self._found.node, mutant.field, mutant.text)
        except Failed:
            self.refused += 1
            return
        prober = self._found.prober
        prober.changed()
        answers = prober.ask(each.packet for each in self._expected)
        if any(failure(each, a) for each, a in zip(self._expected, answers, strict=True)):
            self.noticed += 1
            return
        for answer in prober.ask(self._likely.get(mutant.key, ())):
            usual = self._usual[answer.packet]
            if _end(answer) != _end(usual):
                self.survivors.append(Survivor(mutant=mutant, suggestion=suggestion(usual)))
                return
        self.survivors.append(Survivor(mutant=mutant))


def _end(answer: Answer) -> tuple[object, ...]:
    return answer.verdict, answer.left_by, answer.left_as


def suggestion(answer: Answer) -> str:
    """The answer as an expectation, in a line of YAML."""
    said = f"{answer.verdict}: {print_packet(answer.packet)}"
    left = answer.left_as
    if left is None:
        return f"- {said}" if "[" not in said else f'- {answer.verdict}: "{said.partition(" ")[2]}"'
    packet = answer.packet
    parts = []
    if (left.source, left.source_port) != (packet.source, packet.source_port):
        parts.append(f"from {endpoint(left.source, left.source_port)}")
    if (left.destination, left.destination_port) != (packet.destination, packet.destination_port):
        parts.append(f"to {endpoint(left.destination, left.destination_port)}")
    return f'- {{{answer.verdict}: "{print_packet(packet)}", nat: "{" ".join(parts)}"}}'


def load_part(node: StageNode, field: str, text: str) -> None:
    """Put one part of a ruleset in place of what the node has of it; Failed as the tool says.

    The part must have the tables that are there.
    """
    restorers = dict(kernel.RESTORERS)
    if field in restorers:
        kernel.tool(node.execute, (restorers[field],), text)
        return
    gone = "".join(
        f"table {family} {name}\ndelete table {family} {name}\n"
        for (family, name), _ in nft_tables(text)
    )
    kernel.tool(node.execute, ("nft", "-f", "-"), gone + text)
