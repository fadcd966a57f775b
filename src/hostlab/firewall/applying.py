"""Loading a ruleset, and taking it back: each read back and compared before anything is said.

Who loads and who takes back may be different processes, at any time; what both know is the change's
file (`change.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from hostlab.errors import Failed, Problem
from hostlab.firewall import beside, kernel
from hostlab.firewall.change import ChangeDirectory, FirewallChange, Phase, boottime
from hostlab.firewall.difference import PlaceChange, text_difference
from hostlab.firewall.here import holding, run_here
from hostlab.firewall.learnt import without_learnt
from hostlab.firewall.ownership import own_part
from hostlab.firewall.ruleset import Ruleset
from hostlab.firewall.transaction import transaction

DIES_AT: Final = "HOSTLAB_FIREWALL_DIES_AT"
"""For tests: the process kills itself at the instant of this name."""
SHOWN: Final = 5
FAILURES: Final = (Problem, OSError)
"""What a tool, or its absence, comes to; a TimeoutError is an OSError."""


def instant(name: str) -> None:
    """An instant at which a test lets this process die."""
    if os.environ.get(DIES_AT) == name:
        os.kill(os.getpid(), 9)


def load(place: ChangeDirectory, change: FirewallChange) -> FirewallChange:
    """Load what is wanted and read it back; what fails is taken back at once.

    Returns the change as loaded; Failed when the old ruleset is there again, or is not.
    """
    with place.kernel() as lock:
        found = place.read()
        if found is None or found.phase is not Phase.ARMED or found.maker != change.maker:
            raise Failed("reverted", "it was taken back before it was loaded: nothing was changed")
        run = holding(lock)
        place.write(change.at(Phase.LOADING))
        instant("loading")
        try:
            _bring(run, (change.before,), change.wanted)
            instant("brought")
            change = _do(place, change, run)
            _verify(run, (change.before, change.wanted), change.wanted)
        except FAILURES as failure:
            # What was begun is in the file.
            raise _given_up(failure, _take_back(place, place.read() or change, run)) from None
        instant("verified")
        now = boottime()
        loaded = change.at(Phase.LOADED, loaded=now, deadline=now + change.within_s)
        place.write(loaded)
    instant("loaded")
    return loaded


def _given_up(failure: Exception, ended: FirewallChange) -> Failed:
    said = failure.message if isinstance(failure, Problem) else str(failure)
    code = failure.code if isinstance(failure, Problem) else "system"
    if ended.phase is Phase.STUCK:
        return Failed(
            "stuck",
            f"{said}\nand the old ruleset is not back: {ended.problem}",
            hint="it is tried again; `hostlab firewall revert` tries it now",
        )
    hint = failure.hint if isinstance(failure, Problem) else None
    return Failed(code, f"{said}\nthe old ruleset is there, read back and compared", hint=hint)


def take_back(
    place: ChangeDirectory, *, unless: Callable[[FirewallChange], bool] | None = None
) -> FirewallChange | None:
    """Take the change back unless it has ended; how it stands then. None: there was none.

    `unless` is asked when nobody else can go on with it any more.
    """
    with place.kernel() as lock:
        change = place.read()
        if change is None or change.has_ended or (unless is not None and unless(change)):
            return change
        return _take_back(place, change, holding(lock))


def _take_back(place: ChangeDirectory, change: FirewallChange, run: kernel.Run) -> FirewallChange:
    """One step that fails stops none behind it; only what is read back at the end counts."""
    ours = (change.before, change.wanted)
    problems = []
    try:
        _undo(change, run)
    except FAILURES as failure:
        problems.append(str(failure))
    try:
        _bring(run, ours, change.before)
    except FAILURES as failure:
        problems.append(str(failure))
    instant("brought back")
    try:
        _verify(run, ours, change.before)
        _verify_undone(change, run)
    except FAILURES as failure:
        ended = change.at(Phase.STUCK, problem="\n".join(dict.fromkeys((*problems, str(failure)))))
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
        is_main = operation.kind is beside.Kind.MAIN
        try:
            # What is for the real machine only may start a daemon, which must not keep the lock.
            kernel.tool(run_here if is_main else run, operation.do)
        except FAILURES:
            if is_main:
                # It has done nothing, so its opposite would take away what was there before.
                place.write(change.at(Phase.LOADING, begun=number - 1))
            raise
    return change


def _undo(change: FirewallChange, run: kernel.Run) -> None:
    """Take back what is beside rules, last first; of what had only begun, what is there."""
    problems = []
    for operation in _to_undo(change, run):
        try:
            kernel.tool(run, operation.do)
        except FAILURES as failure:
            problems.append(str(failure))
    for operation in reversed(change.operations[: change.begun]):
        if operation.kind is beside.Kind.MAIN and operation.undo:
            # Nobody can ask whether it was done; that its opposite fails means that it was not.
            run_here(operation.undo, timeout_s=kernel.TOOL_TIMEOUT_S)
    if problems:
        raise Failed("undo", "\n".join(problems))


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
    own = own_part(present, ours=ours, wanted=wanted)
    differences = text_difference(*without_learnt(own, wanted))
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
