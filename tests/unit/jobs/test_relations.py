"""Which jobs lead to which events, and what restrictions leave."""

from __future__ import annotations

import pytest

from hostlab.errors import UsageError
from hostlab.jobs.listing import read_listing
from hostlab.jobs.relations import (
    Graph,
    Kind,
    only,
    relate,
    restrict_to_events,
    restrict_to_jobs,
)

pytestmark = pytest.mark.unit

LISTING = """\
alone
bridge
  emits net-*
web
  emits ready
  start on (net-up and (started db or started db))
  stop on stopping db
db
  emits db-ready
  start on startup
net
  emits startup
  start on net-up IFACE=$IFACE
each
  start on $EVENT or started $JOB
"""


def graph() -> Graph:
    return relate(read_listing(LISTING, file="-"))


def lines(graph: Graph) -> set[str]:
    return {
        f"{each.job} {each.kind} {each.event}{' ' + each.other if each.other else ''}"
        for each in graph.relations
    }


def test_everything() -> None:
    found = graph()
    assert lines(found) == {
        "bridge emits net-*",
        "bridge emits net-up",
        "web emits ready",
        "web start-on net-up",
        "web start-on started db",
        "web stop-on stopping db",
        "db emits db-ready",
        "db start-on startup",
        "net emits startup",
        "net start-on net-up",
        "each start-on each:$EVENT",
        "each start-on started each:$JOB",
    }
    assert len(found.relations) == 12
    assert set(found.jobs) == {"alone", "bridge", "web", "db", "net", "each", "each:$JOB"}
    assert set(found.events) == {"net-*", "ready", "net-up", "db-ready", "startup", "each:$EVENT"}


def test_restricted_to_a_job_are_those_that_it_names_and_who_emits_what_it_awaits() -> None:
    found = restrict_to_jobs(graph(), ["web"])
    assert lines(found) == {
        "bridge emits net-up",
        "web emits ready",
        "web start-on net-up",
        "web start-on started db",
        "web stop-on stopping db",
        "db emits db-ready",
    }
    assert set(found.jobs) == {"web", "bridge", "db"}
    assert restrict_to_jobs(graph(), ["alone"]).jobs == ("alone",)


def test_restricted_to_events() -> None:
    found = restrict_to_events(graph(), ["startup"])
    assert lines(found) == {"net emits startup", "db start-on startup"}
    assert lines(restrict_to_events(graph(), ["stopping"])) == {"web stop-on stopping db"}


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown job 'wbe'") as job:
        restrict_to_jobs(graph(), ["wbe"])
    assert job.value.hint == "did you mean 'web'?"
    with pytest.raises(UsageError, match="'starup'") as event:
        restrict_to_events(graph(), ["starup"])
    assert event.value.hint == "did you mean 'startup'?"


def test_only_some_kinds_of_lines() -> None:
    found = only(graph(), [Kind.STOP_ON])
    assert lines(found) == {"web stop-on stopping db"}
    assert "alone" in found.jobs
    assert only(graph(), [Kind.STOP_ON], with_alone=False).jobs == ("web", "db")
