"""Timelines of faults: what is broken when; a description's `faults:`, with its mistakes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from hostlab.errors import UsageError
from hostlab.spec.fault_conflicts import contradiction
from hostlab.spec.faults import option, parse
from hostlab.spec.model import Fault, Lab, TimedFault
from hostlab.spec.shapes import Fields, Said
from hostlab.spec.source import Source


def expanded(timed: TimedFault) -> tuple[TimedFault, ...]:
    """The fault itself; a flap is a cable that is pulled several times, half of each period."""
    if timed.fault.kind != "flap":
        return (timed,)
    times, period_s = option(timed.fault, "times"), option(timed.fault, "period")
    down = Fault(kind="link-down", on=timed.fault.on)
    return tuple(
        TimedFault(at_s=timed.at_s + n * period_s, fault=down, for_s=period_s / 2)
        for n in range(times)
    )


class Step(NamedTuple):
    """A moment of a timeline."""

    at_s: float
    number: int
    """Which of the timeline's faults."""
    fault: Fault
    clears: bool = False


def steps(timeline: Iterable[TimedFault]) -> tuple[Step, ...]:
    """What is done when: at one time what is cleared comes first."""
    found = []
    for number, timed in enumerate(each for one in timeline for each in expanded(one)):
        found.append(Step(timed.at_s, number, timed.fault))
        if timed.for_s is not None:
            found.append(Step(timed.at_s + timed.for_s, number, timed.fault, clears=True))
    return tuple(sorted(found, key=lambda step: (step.at_s, not step.clears, step.number)))


def timeline_contradiction(timeline: Sequence[TimedFault], lab: Lab) -> tuple[Fault, str] | None:
    """The first fault that cannot be beside what is there at its time, and why."""
    there: dict[int, Fault] = {}
    for step in steps(timeline):
        if step.clears:
            there.pop(step.number, None)
            continue
        why = contradiction(there.values(), step.fault, lab)
        if why is not None:
            return step.fault, why
        there[step.number] = step.fault
    return None


def _length_trouble(fields: Fields) -> str | None:
    if fields.value("do") == "flap":
        return "how long a flap lasts is its `times` by its `period`"
    return None if fields.value("for") else "a fault that lasts no time at all is none"


def with_timeline(source: Source, top: Fields, lab: Lab) -> Lab:
    """The lab with its timeline; what is wrong is reported to the source."""
    said_faults: list[Said] = top.value("faults", [])
    if not said_faults or source.failed:
        # What a fault names may be there, and only be misspelt where it is described.
        return lab
    found: list[TimedFault] = []
    for said in said_faults:
        fields: Fields = said.value
        words = [f"{name}={each.value}" for name, each in fields.value("with", Fields()).items()]
        at_s, for_s = fields.value("at", 0.0), fields.value("for")
        if for_s is not None and (wrong := _length_trouble(fields)) is not None:
            source.report("value", wrong, fields["for"].at)
            continue
        for on in fields["on"].value:
            try:
                wanted = parse((fields.value("do"), on.value, *words), lab)
            except UsageError as error:
                source.report(error.code, error.message, on.at, error.hint)
                continue
            these = [TimedFault(at_s=at_s, fault=fault, for_s=for_s) for fault in wanted]
            trouble = timeline_contradiction([*found, *these], lab)
            if trouble is not None:
                source.report("contradiction", f"{trouble[0]}: {trouble[1]}", on.at)
            else:
                found += these
    return msgspec.structs.replace(lab, faults=tuple(found))
