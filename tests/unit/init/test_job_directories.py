"""The job files of a running init: what the engine is told when they are read again."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostlab.init import job_files
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


def test_a_directory_that_is_a_link_to_everything_is_told_and_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is served while files are read, so that has a bound; jobs go on as they are."""
    monkeypatch.setattr(job_files, "MAX_DIRECTORIES", 20)
    (tmp_path / "init").mkdir()
    (tmp_path / "init" / "web.conf").write_text("exec true\n")
    told: list[AnyFact] = []
    warned: list[str] = []
    found = JobDirectories([str(tmp_path / "init")], tell=told.append, warn=warned.append)
    found.read()
    (tmp_path / "init").rename(tmp_path / "old")
    (tmp_path / "init").symlink_to("/")
    found.read()
    assert [type(fact) for fact in told] == [facts.Load]
    assert warned == [f"{tmp_path}/init has more than 20 directories below it"]
