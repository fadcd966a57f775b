"""The job files of a running init: what the engine is told when they are read again."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostlab.init.job_directories import JobDirectories
from hostlab.jobs import facts
from hostlab.jobs.journal import AnyFact

pytestmark = pytest.mark.unit


def test_a_job_that_the_description_takes_over_is_not_taken_away(tmp_path: Path) -> None:
    """What `apply` adds under the name of a file's job stays when a file changes later."""
    (tmp_path / "web.conf").write_text("exec true\n")
    told: list[AnyFact] = []
    taken: list[str] = []
    found = JobDirectories([str(tmp_path)], tell=told.append, warn=pytest.fail, taken=lambda: taken)
    found.read()
    taken.append("web")
    found.read()
    assert [type(fact) for fact in told] == [facts.Load]
    taken.clear()
    found.read()
    assert [type(fact) for fact in told] == [facts.Load, facts.Load]
