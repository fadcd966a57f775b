"""Loading a ruleset, and taking it back: each read back and compared before anything is said.

Who loads and who takes back may be different processes, at any time; what both know is the change's
file (`change.py`).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from typing import Final

from hostlab.errors import Failed
from hostlab.firewall import kernel
from hostlab.firewall.change import ChangeDirectory, FirewallChange, Phase, boottime
from hostlab.firewall.difference import PlaceChange, text_difference
from hostlab.firewall.ownership import own_part
from hostlab.firewall.ruleset import Ruleset
from hostlab.firewall.transaction import transaction
from hostlab.lab.access import Completed

DIES_AT: Final = "HOSTLAB_FIREWALL_DIES_AT"
"""For tests: the process kills itself at the instant of this name."""
SHOWN: Final = 5


def on_machine(
    argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float | None = None
) -> Completed:
    """Run a tool here (kernel.Run)."""
    try:
        done = subprocess.run(
            argv, input=stdin, capture_output=True, timeout=timeout_s, check=False
        )
    except FileNotFoundError:
        raise Failed(
            "no-tool", f"there is no {argv[0]} here", hint="apt-get install nftables iptables ipset"
        ) from None
    return Completed(done.returncode, None, done.stdout, done.stderr)


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
        _bring(run, (change.before, change.wanted), change.before)
        instant("brought back")
        _verify(run, (change.before, change.wanted), change.before)
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
