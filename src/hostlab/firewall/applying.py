"""Loading a ruleset, and taking it back: each read back and compared before anything is said.

Who loads and who takes back may be different processes, at any time; what both know is the change's
file (`change.py`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

import msgspec

from hostlab.errors import Failed
from hostlab.firewall import beside, kernel
from hostlab.firewall.change import ChangeDirectory, FirewallChange, Phase, boottime
from hostlab.firewall.difference import PlaceChange, text_difference
from hostlab.firewall.ownership import own_part
from hostlab.firewall.ruleset import Ruleset
from hostlab.firewall.transaction import transaction

DIES_AT: Final = "HOSTLAB_FIREWALL_DIES_AT"
"""For tests: the process kills itself at the instant of this name."""
SHOWN: Final = 5


def instant(name: str) -> None:
    """An instant at which a test lets this process die."""
    if os.environ.get(DIES_AT) == name:
        os.kill(os.getpid(), 9)


def load(place: ChangeDirectory, change: FirewallChange, run: kernel.Run) -> FirewallChange:
    """Load what is wanted and read it back; what fails is taken back at once.

    Returns the change as loaded; Failed when the old ruleset is there again, or is not.
    """
    with place.kernel():
        place.write(change.at(Phase.LOADING))
        instant("loading")
        try:
            _bring(run, (change.before,), change.wanted)
            instant("brought")
            change = _do(place, change, run)
            _verify(run, (change.before, change.wanted), change.wanted)
        except Failed as failure:
            reverted = _take_back(place, change, run)
            if reverted.phase is Phase.STUCK:
                raise Failed(
                    "stuck",
                    f"{failure.message}\nand the old ruleset is not back: {reverted.problem}",
                    hint="`hostlab firewall revert` tries again",
                ) from None
            raise Failed(
                failure.code,
                f"{failure.message}\nthe old ruleset is there, read back and compared",
                hint=failure.hint,
            ) from None
        instant("verified")
        loaded = change.at(Phase.LOADED, loaded=boottime())
        place.write(loaded)
    instant("loaded")
    return loaded


def take_back(place: ChangeDirectory, run: kernel.Run) -> FirewallChange | None:
    """Take the change back unless it is confirmed; how it stands then. None: there was none."""
    with place.kernel():
        change = place.read()
        if change is None or change.phase in (Phase.CONFIRMED, Phase.REVERTED):
            return change
        return _take_back(place, change, run)


def _take_back(place: ChangeDirectory, change: FirewallChange, run: kernel.Run) -> FirewallChange:
    try:
        _undo(change, run)
        _bring(run, (change.before, change.wanted), change.before)
        instant("brought back")
        _verify(run, (change.before, change.wanted), change.before)
        _verify_undone(change, run)
    except Failed as failure:
        ended = change.at(Phase.STUCK, problem=failure.message)
    else:
        ended = change.at(Phase.REVERTED, problem="")
    place.write(ended)
    return ended


def _bring(run: kernel.Run, ours: Sequence[Ruleset], wanted: Ruleset) -> None:
    """Carry out the transaction that leads from what is there to `wanted`."""
    present = kernel.read(run)
    own = own_part(present, ours=ours, wanted=wanted)
    for step in transaction(present, own, wanted):
        instant(f"before {step.part}")
        kernel.tool(run, step.argv, step.text)
        instant(f"behind {step.part}")


def _do(place: ChangeDirectory, change: FirewallChange, run: kernel.Run) -> FirewallChange:
    """Carry out what is beside rules, behind them: nothing is forwarded before the rules hold."""
    for number, operation in enumerate(change.operations, 1):
        change = change.at(Phase.LOADING, begun=number)
        place.write(change)
        instant("beside")
        kernel.tool(run, operation.do)
    return change


def _undo(change: FirewallChange, run: kernel.Run) -> None:
    """Take back what is beside rules, last first; of what had only begun, what is there."""
    for operation in _to_undo(change, run):
        kernel.tool(run, operation.do)
    for operation in reversed(change.operations[: change.begun]):
        if operation.kind is beside.Kind.MAIN and operation.undo:
            # Nobody can ask whether it was done; that its opposite fails means that it was not.
            run(operation.undo, timeout_s=kernel.TOOL_TIMEOUT_S)


def _to_undo(change: FirewallChange, run: kernel.Run) -> tuple[beside.Operation, ...]:
    opposite = [
        msgspec.structs.replace(each, do=each.undo, undo=each.do)
        for each in reversed(change.operations[: change.begun])
        if each.undo and each.kind is not beside.Kind.MAIN
    ]
    return beside.as_found(run, opposite, pid=os.getpid()) if opposite else ()


def _verify_undone(change: FirewallChange, run: kernel.Run) -> None:
    left = _to_undo(change, run)
    if left:
        raise Failed("differs", "not taken back: " + "; ".join(each.describe() for each in left))


def _verify(run: kernel.Run, ours: Sequence[Ruleset], wanted: Ruleset) -> None:
    """Read back; Failed with what differs."""
    present = kernel.read(run)
    differences = text_difference(own_part(present, ours=ours, wanted=wanted), wanted)
    if differences:
        raise Failed("differs", "read back, and it differs: " + said(differences))


def said(differences: Sequence[PlaceChange]) -> str:
    """The first differences in a line each."""
    lines = [
        f"{place.part} {place.place}: {line.change} {line.text}"
        for place in differences
        for line in place.changes
    ]
    more = f"\n  and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    return "\n  ".join(lines[:SHOWN]) + more
