"""Events as lines, as upstart-monitor prints them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

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

WHEN = datetime(2014, 1, 3, 23, 23, 43, 13_436, tzinfo=UTC).timestamp()


def finished(name: str, *environment: tuple[str, str], failed: bool = False) -> EventFinished:
    return EventFinished(serial=7, name=name, environment=environment, failed=failed)


def test_time_event_and_environment() -> None:
    event = finished("stopping", ("JOB", "tty2"), ("INSTANCE", ""), ("RESULT", "ok"))
    line = "2014-01-03 23:23:43.013436 stopping JOB='tty2' INSTANCE='' RESULT='ok'"
    assert monitor_line(event, WHEN, zone=UTC) == line
    assert monitor_line(finished("go"), 5e-6, zone=UTC) == "1970-01-01 00:00:00.000005 go"
    east = timezone(timedelta(hours=2))
    assert monitor_line(finished("go"), 0.0, zone=east) == "1970-01-01 02:00:00.000000 go"


def test_the_time_is_that_of_the_machines_zone() -> None:
    there = datetime.fromtimestamp(WHEN).astimezone().strftime("%F %T.%f")
    assert monitor_line(finished("go"), WHEN) == f"{there} go"


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
        "time": WHEN,
        "node": "a",
        "event": "go/failed",
        "environment": {"B": "1", "A": "é"},
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
    assert Filter(events=events, jobs=jobs).wants(event) is shown
    assert not Filter(jobs=("*x",)).wants(finished("go"))
