"""The picture shows the table."""

from __future__ import annotations

import pytest

from hostlab.jobs.picture import state_machine_dot
from hostlab.jobs.states import State

pytestmark = pytest.mark.unit


def test_every_state_and_its_ways_are_in_the_picture() -> None:
    dot = state_machine_dot()
    for state in State:
        assert f'"{state}" [label="{state}\\n' in dot
        assert f'"{state}" -> ' in dot
    assert '"running" -> "pre-stopping" [label="stop", color=firebrick];' in dot
    assert '"killed" -> "post-stopping" [];' in dot
    assert '"post-start" -> "stopping" [label="respawn", color=darkorange];' in dot
