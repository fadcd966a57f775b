"""The colours of a running init's jobs."""

from __future__ import annotations

import pytest

from hostlab.jobs.drawing import Colours, dot, mermaid
from hostlab.jobs.drawing_states import STATE_COLOURS, colours_of
from hostlab.jobs.drawing_svg import svg
from hostlab.jobs.job_state import JobState
from hostlab.jobs.relations import Graph

pytestmark = pytest.mark.unit

GRAPH = Graph(jobs=("db", "web"), events=(), relations=())


def test_every_state_has_a_colour() -> None:
    assert STATE_COLOURS.keys() == set(JobState)


@pytest.mark.parametrize(
    ("states", "shown"),
    [
        (["waiting"], "waiting"),
        (["running", "failed", "running"], "failed"),
        (["running", "starting"], "starting"),
        (["stopped", "running"], "running"),
    ],
)
def test_the_worst_of_a_jobs_instances_is_shown(states: list[str], shown: str) -> None:
    rows = [{"name": "tty", "state": state} for state in states]
    assert colours_of(rows) == {"tty": STATE_COLOURS[JobState(shown)]}


def test_a_job_without_a_colour_of_its_own_has_that_of_jobs() -> None:
    colours = Colours(job="white", jobs={"web": "#A8DDA8"})
    drawn = dot(GRAPH, colours)
    assert 'style=filled, fillcolor="white"' in next(x for x in drawn.splitlines() if "job_db" in x)
    assert 'fillcolor="#A8DDA8"' in next(x for x in drawn.splitlines() if "job_web" in x)
    assert "Boxes are jobs" in drawn
    assert svg(GRAPH, colours).count('fill="#A8DDA8"') == 1
    assert "  style j1 fill:#A8DDA8\n" in mermaid(GRAPH, colours)
    assert "style j0" not in mermaid(GRAPH, colours)
