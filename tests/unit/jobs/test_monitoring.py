"""Events as lines, as upstart-monitor prints them."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from hostlab.jobs.effects import EventFinished
from hostlab.jobs.monitoring import (
    Filter,
    monitor_header,
    monitor_line,
    monitor_record,
)

pytestmark = pytest.mark.unit

WHEN = datetime(2014, 1, 3, 23, 23, 43, 13_436, tzinfo=UTC)


def finished(name: str, *environment: tuple[str, str], failed: bool = False) -> EventFinished:
    return EventFinished(serial=7, name=name, environment=environment, failed=failed)


def test_time_event_and_environment() -> None:
    event = finished("stopping", ("JOB", "tty2"), ("INSTANCE", ""), ("RESULT", "ok"))
    line = "2014-01-03 23:23:43.013436 stopping JOB='tty2' INSTANCE='' RESULT='ok'"
    assert monitor_line(event, WHEN) == line
    assert monitor_line(finished("go"), WHEN.replace(microsecond=5)) == (
        "2014-01-03 23:23:43.000005 go"
    )


def test_a_lab_names_the_node() -> None:
    assert monitor_line(finished("go"), WHEN, node="web1").endswith(" web1 go")
    assert monitor_header("lab shop", nodes=True)[-2] == (
        "# Columns: time, node, event and environment"
    )
    assert monitor_header("node a\x1b[2J")[2:5] == (
        "# Connected to node a\\x1b[2J",
        "#",
        "# Columns: time, event and environment",
    )


def test_a_line_is_one_line_whatever_was_emitted() -> None:
    event = finished("a\nb", ("X", "1=2\x1b[2J\u2028\udc80 'é'"))
    assert monitor_line(event, WHEN)[27:] == "a\\nb X='1=2\\x1b[2J\\u2028\\udc80 'é''"


def test_for_programs() -> None:
    event = finished("go/failed", ("B", "1"), ("A", "é"), failed=True)
    assert msgspec.json.decode(msgspec.json.encode(monitor_record(event, WHEN, node="a"))) == {
        "time": "2014-01-03T23:23:43.013436+00:00",
        "node": "a",
        "serial": 7,
        "event": "go/failed",
        "environment": [["B", "1"], ["A", "é"]],
        "failed": True,
    }


@pytest.mark.parametrize(
    ("events", "jobs", "shown"),
    [
        ((), (), True),
        (("start*",), (), True),
        (("stop*", "started"), (), True),
        (("start",), (), False),
        ((), ("net/*",), True),
        ((), ("apache",), False),
        (("started",), ("x",), False),
    ],
)
def test_filters(events: tuple[str, ...], jobs: tuple[str, ...], *, shown: bool) -> None:
    event = finished("started", ("JOB", "net/apache"))
    assert Filter(events=events, jobs=jobs).accepts(event) is shown
    assert not Filter(jobs=("*x",)).accepts(finished("go"))
