"""Operands that no source can mean are told where they are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostlab.init.job_files import read_text
from hostlab.init.unit_files import read_unit_file
from hostlab.jobs.operand_mistakes import mistakes
from hostlab.jobs.source_events import EVENTS, source_of
from hostlab.jobs.unmet import unmet
from hostlab.spec.job import Expression, Job, Match
from hostlab.spec.model import Node

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("operand", "message"),
    [
        ("timer CALENDAR=daly", "`daly` is neither a weekday nor a shorthand"),
        ("timer CRON='61 * * * *'", "`61` is no minute"),
        ("timer EVERY=1ms", "`1ms` is shorter than 100ms"),
        ("timer SINCE_END=1m", "SINCE_END of which job is not said"),
        ("file FILE=/a EVENT=creat", "`creat` never happens to a file"),
        ("path NOT_EMPTY=spool", "`spool` is no absolute path"),
    ],
)
def test_a_job_file_says_where(operand: str, message: str) -> None:
    found = read_text(f"description x\nstart on a or {operand}\n", file="x.conf", name="x")
    assert found.errors == ()
    (remark,) = found.remarks
    assert str(remark).startswith("x.conf:2:1: `start on` of the job `x`: ")
    assert message in remark.message


def test_what_is_not_judged() -> None:
    for operand in ("timer NAME=x", "timer EVERY=$TIME", "file FILE=$DIR/x", "other CALENDAR=x"):
        found = read_text(f"start on {operand}\n", file="x.conf", name="x")
        assert found.remarks == (), operand
    assert list(mistakes(Job(name="x"))) == []


def test_a_timer_unit_says_where(tmp_path: Path) -> None:
    path = tmp_path / "x.timer"
    path.write_text("[Timer]\nOnCalendar=daily\nOnCalendar=Mon 25:00\n")
    (remark,) = read_unit_file(str(path)).remarks
    assert str(remark.where) == f"{path}:3:12"


def test_an_event_of_a_source_may_come() -> None:
    names = ["timer", "net-device-up", "usb-device-added", ":sys:x", "nothing"]
    jobs = tuple(Job(name=f"j{n}", start_on=Expression((Match(n),))) for n in names)
    assert [each.event for each in unmet(Node(name="n", hostname="n", jobs=jobs))] == ["nothing"]
    assert {source_of(row.event) for row in EVENTS} == {row.source for row in EVENTS}
