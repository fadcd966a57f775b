"""Which jobs have to do with an event."""

from __future__ import annotations

import pytest

from hostlab.jobs.find import Found, Role, find_event
from hostlab.spec.job import Said
from hostlab.spec.upstart import load_conf

pytestmark = pytest.mark.unit


def test_who_emits_starts_on_and_stops_on_with_file_and_line() -> None:
    jobs = [
        load_conf("emits x* w\nemits y\n", file="a.conf", name="a"),
        load_conf("exec x\nstart on y or\\\n  xy A=1\n", file="b.conf", name="b"),
        load_conf("stop on xy\n", file="c.conf", name="c"),
        load_conf("start on xyz\n", file="d.conf", name="d"),
    ]
    assert find_event(jobs, "xy") == (
        Found(
            job="a",
            role=Role.EMITS,
            text="x*",
            said=Said(stanza="emits", file="a.conf", line=1, words=("x*", "w")),
        ),
        Found(
            job="b",
            role=Role.STARTS_ON,
            text="(y or xy A=1)",
            said=Said(stanza="start on", file="b.conf", line=2),
        ),
        Found(
            job="c",
            role=Role.STOPS_ON,
            text="xy",
            said=Said(stanza="stop on", file="c.conf", line=1),
        ),
    )
