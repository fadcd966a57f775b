"""Random schedules and their shrinking: pure, the same from the same seed.

A schedule is a few faults that stand at the same time, in the order in which they are done. One
that fails is shrunk by delta debugging: Zeller and Hildebrandt, "Simplifying and isolating
failure-inducing input", IEEE Transactions on Software Engineering 28 (2002), the algorithm ddmin.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from hostlab.errors import UsageError
from hostlab.spec import fault_conflicts, faults
from hostlab.spec.faults import KINDS, Form
from hostlab.spec.model import Fault, Lab
from hostlab.spec.routing import RawUse

T = TypeVar("T")

NOT_DRAWN = (
    "flap",
    "clock-skew",
    "dns-wrong",
    "port-filtered",
    "file-present",
    "certificate-expired",
)
"""What is no state but a course of them, cannot be done, or needs a word that only its user has."""


def pool(
    lab: Lab, kinds: Collection[str] | None = None, on: Collection[str] | None = None
) -> tuple[Fault, ...]:
    """Every fault that a schedule may have: of these kinds, on these targets or parts of them.

    UsageError for a kind or a target that does not exist, or when nothing is left.
    """
    for kind in kinds or ():
        if kind not in KINDS or kind in NOT_DRAWN:
            known = ", ".join(name for name in KINDS if name not in NOT_DRAWN)
            raise UsageError("fault-kind", f"no fault {kind!r} is drawn", hint=f"of: {known}")
    if on is not None:
        on = {target for word in on for target in _meant(lab, word)}
    found = tuple(
        fault
        for kind in KINDS.values()
        if kind.name not in NOT_DRAWN and (kinds is None or kind.name in kinds)
        for form in kind.forms
        for target in _targets(lab, form)
        if on is None or _is_among(target, on)
        for fault in _variants(lab, kind.name, target)
    )
    if not found:
        raise UsageError("no-fault", "no fault of these kinds can be done to these targets")
    return found


def _meant(lab: Lab, word: str) -> list[str]:
    """A target, or the nodes that a role stands for; UsageError for what is neither."""
    targets = {target for form in Form for target in _targets(lab, form)}
    found = [word] if word in targets else [n.name for n in lab.nodes if word in n.roles]
    if not found:
        hint = "a node, NODE:INTERFACE or segment with cables, NODE/JOB, or a role"
        raise UsageError("fault-target", f"lab {lab.name} has no {word!r} to break", hint=hint)
    return found


def _targets(lab: Lab, form: Form) -> list[str]:
    match form:
        case Form.NODE:
            return [node.name for node in lab.nodes]
        case Form.SEGMENT:
            return [segment.name for segment in lab.segments if segment.is_switched]
        case Form.LINK:
            return [f"{n.name}:{i.name}" for n in lab.nodes for i in n.interfaces if i.has_cable]
        case Form.JOB:
            return [f"{node.name}/{job.name}" for node in lab.nodes for job in node.jobs]


def _is_among(target: str, on: Collection[str]) -> bool:
    return target in on or target.partition(":")[0].partition("/")[0] in on


def _variants(lab: Lab, kind: str, target: str) -> list[Fault]:
    """A kind on a target with each value of an option that must be said."""
    match kind:
        case "node-cut-off":
            interfaces = lab.node(target).interfaces
            is_whole = bool(interfaces) and not any(i.device for i in interfaces)
            return [Fault(kind=kind, on=target)] if is_whole else []
        case "partition":
            nodes = sorted({node for node, _ in faults.links_of(lab, target)})
            values = [("apart", name) for name in nodes] if len(nodes) > 1 else []
        case "route-withdrawn":
            values = [("to", to) for to in dict.fromkeys(r.to for r in lab.node(target).routes)]
        case "announcement-withdrawn" | "bgp-session-reset":
            routing = lab.node(target).routing
            bgp = None if routing is None or routing.raw_use is RawUse.REPLACE else routing.bgp
            if bgp is None:
                values = []
            elif kind == "announcement-withdrawn":
                values = [("prefix", network.prefix) for network in bgp.networks]
            else:
                values = [("peer", name) for name in dict.fromkeys(p.name for p in bgp.peers)]
        case _:
            return [Fault(kind=kind, on=target)]
    return [Fault(kind=kind, on=target, options=(value,)) for value in values]


def draw(
    seed: int, run: int, choices: Sequence[Fault], lab: Lab, *, most: int
) -> tuple[Fault, ...]:
    """The schedule of a run: one to `most` faults of which none contradicts another.

    Only `random()` is promised to be the same in every version of Python.
    """
    chance = random.Random(f"{seed} {run}")
    wanted = 1 + int(chance.random() * most)
    found: list[Fault] = []
    for fault in sorted(choices, key=lambda _: chance.random()):
        if len(found) == wanted:
            break
        if fault_conflicts.contradiction(found, fault, lab) is None:
            found.append(fault)
    return tuple(found)


def shrink(items: Sequence[T], fails: Callable[[Sequence[T]], bool]) -> tuple[T, ...]:
    """The fewest of these, in their order, that still fail: without any one of them, none does.

    `items` must fail. What was asked once is not asked again.
    """
    known: dict[tuple[int, ...], bool] = {}

    def still(numbers: Sequence[int]) -> bool:
        key = tuple(numbers)
        if key not in known:
            known[key] = fails([items[n] for n in key])
        return known[key]

    left = list(range(len(items)))
    parts = 2
    while len(left) > 1:
        size = -(-len(left) // parts)
        chunks = [left[at : at + size] for at in range(0, len(left), size)]
        rests = [[n for n in left if n not in chunk] for chunk in chunks]
        smaller = next((c for c in chunks if still(c)), None) if parts == 2 else None
        rest = next((r for r in rests if r and still(r)), None) if smaller is None else None
        if smaller is not None:
            left, parts = smaller, 2
        elif rest is not None:
            left, parts = rest, max(parts - 1, 2)
        elif size == 1:
            break
        else:
            parts = min(parts * 2, len(left))
    return tuple(items[n] for n in left)
