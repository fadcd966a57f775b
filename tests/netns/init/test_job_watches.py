"""Directories of job files that appear while they are being looked for: none goes unwatched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from hostlab.init.job_directories import JobDirectories
from hostlab.jobs import facts
from hostlab.jobs.journal import AnyFact
from hostlab.linux.inotify import Inotify
from tests.netns.init.log_site import until

pytestmark = pytest.mark.netns

Appear = Callable[[], object]


def loaded(
    directories: list[Path],
    appear: Appear,
    patch: pytest.MonkeyPatch,
    *,
    then: Appear,
    expected: str,
) -> None:
    """`appear` happens between the first look and the first watch, `then` when all was read."""
    told: list[AnyFact] = []
    watch = Inotify.add

    def late(self: Inotify, path: str, mask: int) -> int:
        patch.setattr(Inotify, "add", watch)
        appear()
        return watch(self, path, mask)

    def found() -> set[str]:
        return {fact.job.description or "" for fact in told if isinstance(fact, facts.Load)}

    async def main() -> None:
        jobs = JobDirectories([str(each) for each in directories], tell=told.append, warn=print)
        jobs.read()
        patch.setattr(Inotify, "add", late)
        jobs.watch()
        then()
        await until(lambda: expected in found(), f"{expected}, not {found()}")
        jobs.close()

    asyncio.run(main())


def test_a_missing_directory_appears_while_its_place_is_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = tmp_path / "not" / "there" / "yet"
    loaded(
        [later],
        lambda: later.mkdir(parents=True),
        monkeypatch,
        then=lambda: (later / "late.conf").write_text("description new"),
        expected="new",
    )


def test_a_directory_appears_in_one_that_is_being_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded(
        [tmp_path],
        lambda: (tmp_path / "net").mkdir(),
        monkeypatch,
        then=lambda: (tmp_path / "net" / "deep.conf").write_text("description new"),
        expected="new",
    )


def test_a_missing_directory_below_another_takes_no_watch_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it would appear is watched already, for more than that: a file that is overwritten."""
    (tmp_path / "here.conf").write_text("description old")
    loaded(
        [tmp_path, tmp_path / "more"],
        lambda: None,
        monkeypatch,
        then=lambda: (tmp_path / "here.conf").write_text("description new"),
        expected="new",
    )
