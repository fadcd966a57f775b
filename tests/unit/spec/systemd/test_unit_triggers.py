"""What timer and path units listen to, and what the units start on that they trigger."""

from __future__ import annotations

import pytest

from hostlab.jobs import named_event, timer_operand
from hostlab.spec.job import Expression, Match
from tests.unit.spec.systemd.unit_site import linked, loaded

pytestmark = pytest.mark.unit


def listens(text: str, name: str = "x.timer") -> tuple[Match, ...]:
    job = loaded(text, name).job
    assert job is not None
    return job.listens


def words(match: Match) -> tuple[str, ...]:
    return match.arguments


def test_each_line_of_a_timer_is_an_operand() -> None:
    found = listens(
        "[Timer]\nOnCalendar=daily\nOnCalendar=Mon *-*-* 00:00:00 UTC\nOnBootSec=15min\n"
        "OnActiveSec=1\nOnUnitActiveSec=1d\nOnUnitInactiveSec=90\nOnClockChange=yes\n"
        "RandomizedDelaySec=1h\nFixedRandomDelay=yes\nPersistent=true\nUnit=y.service\n"
    )
    same = ("DELAY=3600s", "FIXED=1", "JOB=y.service")
    assert [words(match) for match in found] == [
        ("NAME=x.timer", "CALENDAR=daily", "PERSISTENT=1", *same),
        ("NAME=x.timer", "CALENDAR=Mon *-*-* 00:00:00 UTC", "PERSISTENT=1", *same),
        ("NAME=x.timer", "IN=1s", *same),
        ("NAME=x.timer", "AFTER=900s", "LATE=1", *same),
        ("NAME=x.timer", "SINCE_START=86400s", "AGAIN=1", *same),
        ("NAME=x.timer", "SINCE_END=90s", "AGAIN=1", *same),
        ("NAME=x.timer", "ON=clock-change", *same),
    ]
    for match in found:
        assert timer_operand.parse(named_event.arguments(match)).job == "y.service"


def test_fractions_of_seconds_stay() -> None:
    (found,) = listens("[Timer]\nOnUnitActiveSec=1500ms\n")
    assert "SINCE_START=1.5s" in found.arguments
    (found,) = listens("[Timer]\nOnUnitActiveSec=0\n")
    assert "SINCE_START=0.1s" in found.arguments


def test_a_timer_that_does_not_remain() -> None:
    job = loaded("[Timer]\nOnBootSec=1s\nRemainAfterElapse=no\n", "x.timer").job
    assert job is not None
    assert job.stop_on == Expression((Match("timer", ("NAME=x.timer", "LAST=1")),))


def test_a_path() -> None:
    found = listens(
        "[Path]\nPathExists=/a\nPathExistsGlob=/b*\nPathChanged=/c\nPathModified=/d\n"
        "DirectoryNotEmpty=/e\nMakeDirectory=yes\nDirectoryMode=0700\nTriggerLimitBurst=3\n",
        "x.path",
    )
    same = ("JOB=x.service", "LIMIT=3/2s", "MAKE=0700")
    assert [words(match) for match in found] == [
        ("NAME=x.path", f"{key}={path}", *same)
        for key, path in (
            ("EXISTS", "/a"), ("EXISTS_GLOB", "/b*"), ("CHANGED", "/c"),
            ("MODIFIED", "/d"), ("NOT_EMPTY", "/e"),
        )
    ]  # fmt: skip


def test_what_they_trigger_starts_on_them() -> None:
    jobs = linked(
        x_timer="[Timer]\nOnCalendar=daily\n",
        y_path="[Path]\nPathExists=/a\nUnit=x.service\n",
        x_service="",
    )
    start, stop = jobs["x.service"].start_on, jobs["y.path"].stop_on
    assert start is not None
    assert set(start.matches) == {
        Match("timer", ("NAME=x.timer",)), Match("path", ("NAME=y.path",)),
    }  # fmt: skip
    assert stop is not None
    assert Match("path-limit", ("NAME=y.path",)) in stop.matches
