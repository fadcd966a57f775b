"""The picture shows the table."""

from __future__ import annotations

import re

import pytest

from hostlab.jobs.picture import state_machine_dot, state_machine_mermaid
from hostlab.jobs.states import TABLE, State

pytestmark = pytest.mark.unit


def test_every_state_and_its_ways_are_in_the_picture() -> None:
    dot = state_machine_dot()
    for state in State:
        assert f'"{state}" [label="{state}\\n' in dot
        assert f'"{state}" -> ' in dot
    assert '"running" -> "pre-stopping" [label="stop", color=firebrick];' in dot
    assert '"killed" -> "post-stopping" [];' in dot
    assert '"post-start" -> "stopping" [label="respawn", color=darkorange];' in dot


def test_mermaid_has_the_same_ways() -> None:
    text = state_machine_mermaid()
    numbers = {state: f"s{number}" for number, state in enumerate(TABLE)}
    for state in State:
        assert f'  {numbers[state]}("{state}<br/>' in text
    running, killed = numbers[State.RUNNING], numbers[State.KILLED]
    assert f"  {running} -->|stop| {numbers[State.PRE_STOPPING]}\n" in text
    assert f"  {killed} --> {numbers[State.POST_STOPPING]}\n" in text
    ways = text.count(" -->")
    assert ways == state_machine_dot().count(" -> ")
    styled = ",".join(re.findall(r"linkStyle ([\d,]+) ", text)).split(",")
    assert len(styled) == len(set(styled)) == text.count("-->|")
