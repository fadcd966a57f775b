"""Faults done and taken back, each journalled before anything is changed."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from hostlab.errors import Failed, Problem, UsageError
from hostlab.faults import record
from hostlab.faults.hands import HANDS
from hostlab.faults.record import Phase, Standing
from hostlab.faults.site import Site
from hostlab.lab.access import NODE_GONE
from hostlab.spec import faults
from hostlab.spec.model import Fault


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

    A killed node that an `up` has made anew is not.
    """
    return _injected(site, record.read(site.directory))


def _injected(site: Site, journal: tuple[record.Line, ...]) -> tuple[Standing, ...]:
    return tuple(
        each
        for each in record.standing(journal)
        if each.fault.kind != "node-killed" or not _lives_again(site, each)
    )


def _lives_again(site: Site, standing: Standing) -> bool:
    node = standing.fault.on
    return not site.is_dead(node) and not site.is_alive(node, standing.state["life"])


def clear(site: Site, numbers: Collection[int] | None = None) -> tuple[Standing, ...]:
    """Take faults back, the latest first; None is every one.

    What cannot be taken back stays in the list; Failed names it when all others are done.
    """
    done: list[Standing] = []
    troubles: list[str] = []
    with record.alone(site.directory):
        there = record.standing(record.read(site.directory))
        unknown = sorted(set(numbers or ()) - {each.number for each in there})
        if unknown:
            known = ", ".join(str(each.number) for each in there) or "none"
            hint = f"standing: {known}; `hostlab fault list`"
            raise UsageError("no-fault", f"there is no fault {unknown[0]}", hint=hint)
        for standing in reversed(there):
            if numbers is not None and standing.number not in numbers:
                continue
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
    why = faults.contradiction(there, fault, site.lab)
    if why is not None:
        hint = "`hostlab fault list` shows what is there; `hostlab fault clear` ends it"
        raise UsageError("contradiction", f"{fault}: {why}", hint=hint)
    number = record.next_number(journal)
    hands = HANDS[fault.kind]
    state = hands.look(site, fault, number)
    record.write(site.directory, number, Phase.BEGUN, fault, state)
    try:
        hands.apply(site, fault, state)
    except (Problem, OSError):
        hands.undo(site, fault, state)
        record.write(site.directory, number, Phase.CLEARED)
        raise
    line = record.write(site.directory, number, Phase.INJECTED)
    return Standing(number=number, fault=fault, phase=Phase.INJECTED, since=line.time, state=state)


def _clear(site: Site, standing: Standing) -> None:
    try:
        HANDS[standing.fault.kind].undo(site, standing.fault, standing.state)
    except Failed as failure:
        # What was done to a node ends with it.
        if failure.code != NODE_GONE:
            raise
    record.write(site.directory, standing.number, Phase.CLEARED)
