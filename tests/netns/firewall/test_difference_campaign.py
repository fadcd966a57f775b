"""What `diff` says of random pairs of rulesets by their meaning, held against a model of both.

A packet that it names must be treated as it says, and of all that it sends so many must differ as
the model says. Where it finds none, the model may find none either, in many more on and beside all
boundaries. `HOSTLAB_PAIRS` is the number of pairs; a pair
is made of its number alone, so that `HOSTLAB_PAIRS=107:108` repeats one.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest

from hostlab.firewall.demands import placed_rules
from hostlab.firewall.meaning import Meaning, changed_rules, meaning_difference
from hostlab.firewall.packet import Packet, print_packet
from hostlab.firewall.prober import Prober
from hostlab.firewall.ruleset import Ruleset
from hostlab.firewall.samples import sample_packets
from hostlab.firewall.stage import Stage
from tests.netns.firewall import random_filters
from tests.netns.firewall.filter_model import Filter, outcome, outcome_of, printed
from tests.netns.firewall.prober_site import TARGET, replace
from tests.netns.lab.lab_site import probe

pytestmark = pytest.mark.netns

FIRST, _, LAST = os.environ.get("HOSTLAB_PAIRS", "0:6").rpartition(":")
PAIRS = range(int(FIRST or "0"), int(LAST))
ASKED = 40
"""Random packets that are sent through both rulesets of a pair, beside those of `diff`."""
JUDGED = 3000
"""Random packets that only the model is asked of, where `diff` says that nothing differs."""
NODES = ("old", "new")
report = print


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    probe()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOSTLAB_RUN", str(tmp_path_factory.mktemp("run")))
        with Stage(TARGET, NODES) as found:
            for node in found.nodes.values():
                node.shell("true")
            yield found


def pair(number: int) -> tuple[Filter, Filter]:
    """Three of four are a filter and what became of it; the others have nothing in common."""
    rng = Random(f"pair {number}")
    old = random_filters.drawn(rng)
    is_mutation = number % 4 != 3
    return old, random_filters.mutated(rng, old) if is_mutation else random_filters.drawn(rng)


def test_a_model_agrees_about_random_pairs(stage: Stage) -> None:
    count: Counter[str] = Counter()
    wrong: list[str] = []
    for number in PAIRS:
        wrong += _disagreements(stage, number, count)
    report(f"pairs {PAIRS.start} to {PAIRS.stop}: {dict(count)}")
    assert not wrong, "\n".join(wrong[:20])
    assert count["asked"] == len(PAIRS) * ASKED * len(NODES)
    assert count["sent"] > len(PAIRS)


def _disagreements(stage: Stage, number: int, count: Counter[str]) -> Iterator[str]:
    """Where a pair's model says something else than `ask` or `diff`."""
    filters = pair(number)
    rng = Random(f"packets {number}")
    asked = tuple(random_filters.packets(rng, filters, ASKED))
    read = []
    for name, held in zip(NODES, filters, strict=True):
        node = stage.nodes[name]
        replace(node, printed(held))
        read.append(node.read())
        with Prober(stage, name) as prober:
            for answer in prober.ask(asked):
                count["asked"] += 1
                if outcome_of(answer) != outcome(held, answer.packet):
                    yield f"pair {number}: {name}: {print_packet(answer.packet)}: {answer.steps}"
    found = meaning_difference(stage, *NODES, rulesets=(read[0], read[1]))
    count["sent"] += found.packets
    count["different" if found.disagreements else "equal"] += 1
    for each in found.disagreements:
        count["named"] += 1
        said, packet = (outcome_of(each.old), outcome_of(each.new)), each.packet
        if said != (outcome(filters[0], packet), outcome(filters[1], packet)):
            yield f"pair {number}: {print_packet(packet)}: {said}"
    if _number(found) != (by_model := _number_by_model(filters, read)):
        yield f"pair {number}: {_number(found)} packets differ, by the model {by_model}"
    if not found.disagreements:
        judged = random_filters.packets(rng, filters, JUDGED)
        missed = [print_packet(each) for each in judged if _differs(filters, each)]
        if missed:
            yield f"pair {number}: {len(missed)} packets are missed: {missed[:3]}"


def _number(found: Meaning) -> int:
    return sum(1 + each.others for each in found.disagreements)


def _number_by_model(filters: tuple[Filter, Filter], read: list[Ruleset]) -> int:
    """Of the packets that `diff` sends."""
    old, new = (list(placed_rules(each)) for each in read)
    sent = sample_packets([*old, *new], changed_rules(old, new), TARGET)
    return sum(_differs(filters, each) for each in sent)


def _differs(filters: tuple[Filter, Filter], packet: Packet) -> bool:
    return outcome(filters[0], packet) != outcome(filters[1], packet)
