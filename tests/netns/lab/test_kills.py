"""SIGKILL at random instants leaves a lab that the same command brings to its end.

`HOSTLAB_KILLS` is the number of rounds, `HOSTLAB_SEED` the seed; `HOSTLAB_ROUND` repeats one round.
"""

from __future__ import annotations

import os

import pytest

from tests.netns.lab.campaign import Campaign, Site

pytestmark = pytest.mark.netns
SHORT = 15
SEED = 20
PARTS = 5
"""Tests that have the rounds among them, so that none takes long."""


report = print


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """Its lab, and how long each operation takes."""
    seed = int(os.environ.get("HOSTLAB_SEED", SEED))
    campaign = Campaign(Site(tmp_path_factory.mktemp("kills"), f"kills{os.getpid()}"), seed)
    campaign.measure()
    report(f"seed {seed}; usual durations in us: {campaign.usual_us}")
    return campaign


@pytest.mark.parametrize("part", range(PARTS))
def test_kills_at_random_instants_leave_nothing_and_stop_nothing(
    campaign: Campaign, part: int
) -> None:
    count = int(os.environ.get("HOSTLAB_KILLS", SHORT))
    only = os.environ.get("HOSTLAB_ROUND")
    numbers = range(part, count, PARTS)
    kills = list(campaign.rounds(numbers, only=None if only is None else int(only)))
    wrong = [kill for kill in kills if kill.problem]
    killed = sum(kill.killed != "nobody" for kill in kills)
    report(f"seed {campaign.seed}: {killed} killed in {len(kills)} rounds, {len(wrong)} went wrong")
    assert not wrong, "\n".join(map(str, wrong))
