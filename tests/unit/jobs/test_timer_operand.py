"""`timer …` in `start on`: what it says, and which events match it."""

from __future__ import annotations

import pytest

from hostlab.errors import SpecError
from hostlab.jobs import calendar_text, named_event, timer_operand
from hostlab.jobs.cron import Cron
from hostlab.jobs.expression import Leaf
from hostlab.jobs.schedules import After, Every, Timer
from hostlab.spec.job import Match
from tests.unit.jobs.jobs_world import World

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("words", "timer"),
    [
        (("CALENDAR=Mon 03:00",), Timer(calendar_text.parse("Mon 03:00"))),
        (("CALENDAR=daily", "ZONE=Asia/Tokyo"), Timer(calendar_text.parse("daily Asia/Tokyo"))),
        (("CRON=*/5 * * * *", "ZONE=UTC"), Timer(Cron("*/5 * * * *", "UTC"))),
        (("EVERY=90s",), Timer(Every(90.0))),
        (("AFTER=15m",), Timer(After(900.0))),
        (
            ("NAME=a", "EVERY=1h", "DELAY=5m", "FIXED=1", "PERSISTENT=yes"),
            Timer(Every(3600.0), 300.0, is_delay_fixed=True, is_persistent=True),
        ),
    ],
)
def test_what_an_operand_says(words: tuple[str, ...], timer: Timer) -> None:
    assert timer_operand.parse(words) == timer


@pytest.mark.parametrize(
    "words",
    [
        ("CALENDAR=daly",),
        ("CRON=* * * *",),
        ("EVERY=0",),
        ("EVERY=x",),
        ("EVERY=$INTERVAL",),
        ("AFTER=-1s",),
        ("EVERY=1s", "AFTER=1s"),
        ("EVERY=1s", "EVERY=2s"),
        ("EVERY!=1s",),
        ("EVERY=1s", "PERSISTENT=maybe"),
        ("EVERY=1s", "DELAY=long"),
        ("CALENDAR=daily", "ZONE=Mars"),
        ("CALENDAR=daily", "daily"),
        ("CALENDAR=daily", "COLOUR=red"),
        ("NAME=a",),
        (),
    ],
)
def test_what_is_no_timer(words: tuple[str, ...]) -> None:
    with pytest.raises(SpecError):
        timer_operand.parse(words)


def told(*words: str) -> tuple[tuple[str, str], ...]:
    return (*named_event.environment(named_event.arguments(Match("timer", words))), ("AT", "x"))


def test_only_its_own_event_matches() -> None:
    leaf = Leaf(Match("timer", ("CALENDAR=*-*-* 03:00",)), 0)
    assert leaf.accepts("timer", told("CALENDAR=*-*-* 03:00"))
    assert not leaf.accepts("timer", told("CALENDAR=Mon *-*-* 03:00")), "it is no glob pattern"
    assert not leaf.accepts("timer", told("CALENDAR=*-*-* 03:00", "DELAY=1h"))
    assert not leaf.accepts("timer", (("CALENDAR", "*-*-* 03:00"),))


def test_a_name_is_listened_to() -> None:
    event = told("NAME=backup.timer", "CALENDAR=daily")
    assert Leaf(Match("timer", ("NAME=backup.timer",)), 0).accepts("timer", event)
    assert Leaf(Match("timer", ("NAME=backup.timer", "CALENDAR=daily")), 0).accepts("timer", event)
    assert not Leaf(Match("timer", ("NAME=*",)), 0).accepts("timer", event)
    assert not named_event.says(Match("timer", ("NAME=backup.timer",)))
    assert named_event.says(Match("timer", ("EVERY=1s",)))
    assert not named_event.says(Match("started", ("EVERY=1s",)))


def test_a_job_is_started_and_knows_why() -> None:
    world = World(
        a='start on timer CRON="*/5 * * * *" or timer EVERY=1h\nexec x\n',
        b='start on timer CRON="1-59/5 * * * *"\nexec x\n',
    )
    world.emit("timer", **dict(told("CRON=*/5 * * * *")))
    assert [spawn.job.name for spawn in world.spawns()] == ["a"]
    environment = dict(world.spawns()[0].environment)
    assert (environment["CRON"], environment["AT"]) == ("*/5 * * * *", "x")
