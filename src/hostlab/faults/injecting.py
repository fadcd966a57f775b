"""Faults done and taken back, each journalled before anything is changed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from hostlab.errors import Failed, Problem, UsageError
from hostlab.faults import record
from hostlab.faults.hands import HANDS
from hostlab.faults.record import Phase, Standing
from hostlab.faults.site import Site, State
from hostlab.lab.access import NODE_GONE
from hostlab.spec import fault_conflicts, faults
from hostlab.spec.model import Fault

LIVES: Final = "lives"
"""In a fault's state: which node each one was that it was done to,"""
CABLES: Final = "cables"
"""and which cable each one."""


def inject(site: Site, wanted: Sequence[Fault]) -> tuple[Standing, ...]:
    """Do these faults, in their order; when one cannot be done, those before it are taken back.

    UsageError for one that contradicts what is there, Failed on a dead node, Unsupported where the
    machine lacks what it needs.
    """
    done: list[Standing] = []
    with record.alone(site.directory):
        try:
            done.extend(_inject(site, fault) for fault in wanted)
        except (Problem, OSError):
            for standing in reversed(done):
                _clear(site, standing)
            raise
    return tuple(done)


def injected(site: Site) -> tuple[Standing, ...]:
    """What is broken now, in the order in which it was.

    What an `up` or `apply` has made anew, or has taken away, is not.
    """
    return _injected(site, record.read(site.directory))


def _injected(site: Site, journal: tuple[record.Line, ...]) -> tuple[Standing, ...]:
    return tuple(each for each in record.standing(journal) if not _has_ended(site, each))


def _has_ended(site: Site, standing: Standing) -> bool:
    """Whether all that it was done to is another one now, or gone: every node, or every cable."""
    lives: dict[str, str] = standing.state.get(LIVES, {})
    if lives and all(
        not site.is_dead(node) and not site.is_alive(node, life) for node, life in lives.items()
    ):
        return True
    cables: dict[str, str] = standing.state.get(CABLES, {})
    if not cables:
        return not faults.is_there(standing.fault, site.lab)
    now = faults.cables(site.lab)
    return all(now.get(end) != cable for end, cable in cables.items())


def clear(site: Site, numbers: Collection[int] | None = None) -> tuple[Standing, ...]:
    """Take faults back, the latest first; None is every one.

    What cannot be taken back stays in the list; Failed names it when all others are done.
    """
    with record.alone(site.directory):
        there = record.standing(record.read(site.directory))
        unknown = sorted(set(numbers or ()) - {each.number for each in there})
        if unknown:
            known = ", ".join(str(each.number) for each in there) or "none"
            hint = f"standing: {known}; `hostlab fault list`"
            raise UsageError("no-fault", f"there is no fault {unknown[0]}", hint=hint)
        wanted = [each for each in there if numbers is None or each.number in numbers]
        return _clear_each(site, wanted)


def mend(site: Site, broken: Iterable[Standing]) -> tuple[Standing, ...]:
    """`clear` of those of one's own that nobody else has cleared meanwhile."""
    with record.alone(site.directory):
        mine = {each.number for each in broken}
        there = record.standing(record.read(site.directory))
        return _clear_each(site, [each for each in there if each.number in mine])


def _clear_each(site: Site, wanted: Sequence[Standing]) -> tuple[Standing, ...]:
    done: list[Standing] = []
    troubles: list[str] = []
    for standing in reversed(wanted):
        try:
            _clear(site, standing)
            done.append(standing)
        except (Problem, OSError) as error:
            text = error.message if isinstance(error, Problem) else str(error)
            troubles.append(f"{standing.number} {standing.fault}: {text}")
    if troubles:
        hint = "repeat `hostlab fault clear`; `hostlab down` ends all of it"
        raise Failed("fault", "not cleared: " + "; ".join(troubles), hint=hint)
    return tuple(done)


def _inject(site: Site, fault: Fault) -> Standing:
    faults.checked(fault, site.lab)
    journal = record.read(site.directory)
    there = [each.fault for each in _injected(site, journal)]
    # The other end of a cable may stand, of which one has gone from the description.
    there = [each for each in there if faults.is_there(each, site.lab)]
    why = fault_conflicts.contradiction(there, fault, site.lab)
    if why is not None:
        hint = "`hostlab fault list` shows what is there; `hostlab fault clear` ends it"
        raise UsageError("contradiction", f"{fault}: {why}", hint=hint)
    number = record.next_number(journal)
    hands = HANDS[fault.kind]
    state = hands.look(site, fault, number) | _identity(site, fault)
    record.write(site.directory, number, Phase.BEGUN, fault, state)
    try:
        hands.apply(site, fault, state)
    except (Problem, OSError):
        hands.undo(site, fault, state)
        record.write(site.directory, number, Phase.CLEARED)
        raise
    line = record.write(site.directory, number, Phase.INJECTED)
    return Standing(number=number, fault=fault, phase=Phase.INJECTED, since=line.time, state=state)


def _identity(site: Site, fault: Fault) -> State:
    """Which nodes and cables these are, to be told from those that come in their place."""
    lives = {node: site.life(node) for node in sorted(fault_conflicts.touched(fault, site.lab))}
    if not faults.KINDS[fault.kind].is_of_cables:
        return {LIVES: lives}
    every = faults.cables(site.lab)
    ends = [f"{node}:{name}" for node, name in faults.links(fault, site.lab)]
    return {LIVES: lives, CABLES: {end: every[end] for end in ends}}


def _clear(site: Site, standing: Standing) -> None:
    try:
        HANDS[standing.fault.kind].undo(site, standing.fault, standing.state)
    except Failed as failure:
        # What was done to a node ends with it.
        if failure.code != NODE_GONE:
            raise
    record.write(site.directory, standing.number, Phase.CLEARED)
