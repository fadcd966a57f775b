"""Lock-outs whose makers are killed at random: all are taken back, and nothing foreign is touched.

`HOSTLAB_LOCKOUTS` is the number of rounds, `HOSTLAB_SEED` the seed.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from tests.netns.firewall.lockouts import Round
from tests.netns.firewall.machine_site import Machine

pytestmark = pytest.mark.netns
PROGRAM = str(Path(__file__).with_name("lockouts.py"))
SHORT = 50
SEED = 6
"""In so many rounds of this seed each instant has its turn."""
COUNT = int(os.environ.get("HOSTLAB_LOCKOUTS", SHORT))

report = print


# Each round has deadlines of its own; fifty took more than two minutes on a busy machine.
@pytest.mark.timeout(30 * COUNT)
def test_lock_outs_with_kills_are_all_taken_back(host: Machine) -> None:
    seed = os.environ.get("HOSTLAB_SEED", str(SEED))
    root = str(Path(__file__).parents[3])
    done = host.server.execute(
        (sys.executable, PROGRAM, str(COUNT), seed), environment={"PYTHONPATH": root}
    )
    rounds = [msgspec.json.decode(line, type=Round) for line in done.stdout.splitlines()]
    report(f"seed {seed}: {len(rounds)} lock-outs, {sum(r.is_whole for r in rounds)} with an init;")
    report(f"killed: {Counter(r.instant or r.victim for r in rounds)}")
    wrong = [each for each in rounds if each.problem]
    assert not wrong, "\n".join(map(str, wrong))
    assert (done.status, len(rounds)) == (0, COUNT), done.stderr.decode()
