"""SIGKILL at random instants leaves a lab that the same command brings to its end.

`HOSTLAB_KILLS` is the number of rounds, `HOSTLAB_SEED` the seed; `HOSTLAB_ROUND` repeats one round.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.netns.lab.campaign import Campaign, Site

pytestmark = pytest.mark.netns
SHORT = 20
SEED = 20
PARTS = 4
"""So that none takes long on a slow machine."""


report = print


@pytest.mark.parametrize("part", range(PARTS))
def test_kills_at_random_instants_leave_nothing_and_stop_nothing(tmp_path: Path, part: int) -> None:
    seed = int(os.environ.get("HOSTLAB_SEED", SEED))
    count = int(os.environ.get("HOSTLAB_KILLS", SHORT))
    only = os.environ.get("HOSTLAB_ROUND")
    numbers = range(part, count, PARTS)
    if only is not None:
        numbers = range(int(only), int(only) + 1) if int(only) in numbers else range(0)
    campaign = Campaign(Site(tmp_path, f"kills{os.getpid()}"), seed)
    campaign.measure()
    report(f"seed {seed}; usual durations in us: {campaign.usual_us}")
    kills = list(campaign.rounds(count, only=numbers))
    wrong = [kill for kill in kills if kill.problem]
    killed = sum(kill.killed != "nobody" for kill in kills)
    report(f"seed {seed}: {killed} killed in {len(kills)} rounds, {len(wrong)} went wrong")
    assert not wrong, "\n".join(map(str, wrong))
