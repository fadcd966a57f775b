"""A ruleset staged with a prober at it: from a source that people have, or from a running node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from hostlab.firewall.answer import Answer, Step
from hostlab.firewall.packet import print_packet
from hostlab.firewall.prober import Prober
from hostlab.firewall.rule_index import Places
from hostlab.firewall.source import Source
from hostlab.firewall.stage import Stage, StageNode
from hostlab.firewall.staged import Staged, stage_copy, stage_source
from hostlab.firewall.target import Target
from hostlab.lab.access import NodeConnection

NODE = "stage"


class Probed(msgspec.Struct, frozen=True):
    """What there is to ask."""

    staged: Staged
    target: Target
    node: StageNode
    prober: Prober
    places: Places


@contextmanager
def probed(
    source: Source | NodeConnection,
    target: Target,
    *,
    time_limit_s: float = 60.0,
) -> Iterator[Probed]:
    """Stage a source, or a copy of what a node holds; Problem where the ruleset is at fault."""
    with Stage(target, (NODE,)) as stage:
        node = stage.nodes[NODE]
        if isinstance(source, Source):
            staged = stage_source(node, source, time_limit_s=time_limit_s)
            staged.require()
        else:
            staged = stage_copy(node, source)
        places: Places = {
            (each.family, each.table, each.chain, each.number, each.is_legacy): each.place
            for each in staged.origins
        }
        with Prober(stage, NODE, places=places) as prober:
            yield Probed(staged, target, node, prober, places)


def told(answer: Answer) -> list[str]:
    """An answer as people read it, a line each."""
    lines = [f"{answer.verdict.value:<7} {print_packet(answer.packet)}"]
    if answer.decided_by is not None:
        lines.append(f"  by {told_step(answer.decided_by)}")
    elif answer.verdict == "lost":
        lines.append("  by no rule: no route, or an address that cannot come from there")
    for number, step in enumerate(answer.steps, 1):
        lines.append(f"  {number:>3}. {told_step(step)}")
    if answer.left_as is not None:
        lines.append(f"  NAT: {_changes(answer)}")
    if answer.left_by is not None:
        lines.append(f"  leaves by {answer.left_by}")
    if answer.seen_by != "nft trace":
        lines.append(f"  seen by {answer.seen_by}")
    return lines


def told_step(step: Step) -> str:
    """A step in one line: where, which rule, what it said, and where that was written."""
    where = f"{step.family} {step.table} {step.chain}"
    rule = f"{where} {step.number}: {step.rule}" if step.rule else f"{where}: policy"
    place = f"  # {step.place.file}:{step.place.line}" if step.place is not None else ""
    return f"{rule}  [{step.verdict}]{place}"


def _changes(answer: Answer) -> str:
    before, after = answer.packet, answer.left_as
    assert after is not None
    found = []
    for word, old, new in (
        ("source", (before.source, before.source_port), (after.source, after.source_port)),
        (
            "destination",
            (before.destination, before.destination_port),
            (after.destination, after.destination_port),
        ),
    ):
        if old != new:
            found.append(f"{word} {endpoint(*old)} became {endpoint(*new)}")
    return ", ".join(found)


def endpoint(address: str, port: int) -> str:
    """As in a packet's text; without a port where it is 0."""
    if not port:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
