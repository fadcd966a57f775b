"""Timers: what is due when, clocks that are set, what is remembered, and how much it costs."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.jobs import calendar_text, cron
from hostlab.jobs.schedules import After, Change, Every, In, On, Schedule, Since, Timer
from hostlab.jobs.timers import Timers

pytestmark = pytest.mark.unit

HOUR = 3600.0
DAY = 24 * HOUR
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC).timestamp()
UP = 1000.0
"""The monotonic clock at noon."""
MANY = 10_000


class World:
    """Timers with two clocks that a test moves."""

    def __init__(self, wall: float = NOON, monotonic: float = UP) -> None:
        self.wall = wall
        self.monotonic = monotonic
        self.timers = Timers(UTC, seed="host")

    def add(self, name: str, schedule: Schedule, since: float | None = None, **how: object) -> None:
        timer = Timer(schedule, **how)  # type: ignore[arg-type]  # the names are Timer's own
        self.timers.add(name, timer, self.wall, self.monotonic, since=since)

    def after(self, seconds: float) -> list[str]:
        """Let time pass; who came."""
        self.wall += seconds
        self.monotonic += seconds
        return self.due()

    def set(self, seconds: float) -> list[str]:
        """Set the wall clock; who came."""
        self.wall += seconds
        return self.due()

    def job(self, name: str, *, runs: bool) -> None:
        self.timers.job_changed(name, self.monotonic, runs=runs)

    def due(self) -> list[str]:
        return [firing.name for firing in self.timers.due(self.wall, self.monotonic)]

    def left_s(self) -> float | None:
        deadline = self.timers.next_deadline(self.wall, self.monotonic)
        return None if deadline is None else deadline - self.monotonic


def test_who_comes_first() -> None:
    world = World()
    assert world.left_s() is None
    world.add("hourly", calendar_text.parse("hourly"))
    world.add("late", calendar_text.parse("12:30"))
    world.add("beat", Every(600))
    world.add("once", After(UP + 900))
    assert world.left_s() == 600
    assert world.after(599) == []
    assert world.after(1) == ["beat"]
    assert world.left_s() == 300
    assert world.after(300) == ["once"]
    assert world.after(901) == ["beat", "late"], "the earliest first, each once"
    assert world.after(1799) == ["beat", "hourly"]
    assert world.timers.deadline("once") is None
    assert len(world.timers) == 4


def test_every_keeps_its_beats() -> None:
    world = World()
    world.add("beat", Every(10))
    assert world.after(47) == ["beat"], "what was missed comes once"
    assert world.left_s() == 3
    assert world.after(3) == ["beat"]
    assert world.left_s() == 10


def test_a_start_that_is_past_is_missed() -> None:
    world = World()
    world.add("once", After(900))
    assert world.left_s() is None
    world.add("coming", After(1900))
    assert world.after(900) == ["coming"]
    assert world.timers.remembered()["coming"] == UP + 900
    world.add("coming", After(1900), since=UP + 900)
    assert world.left_s() is None, "what has come is not repeated by another supervisor"


def test_a_random_delay() -> None:
    delays = set()
    for number in range(40):
        world = World()
        world.add(f"t{number}", calendar_text.parse("13:00"), random_delay_s=HOUR)
        left = world.left_s()
        assert left is not None
        assert HOUR <= left <= 2 * HOUR
        delays.add(left)
    assert len(delays) == 40
    assert max(delays) - min(delays) > HOUR / 2


def test_a_random_delay_is_drawn_anew_or_fixed() -> None:
    world = World()
    world.add("drawn", Every(HOUR), random_delay_s=60)
    world.add("fixed", Every(HOUR), random_delay_s=60, is_delay_fixed=True)
    world.after(61)
    drawn, fixed = set(), set()
    for _ in range(5):
        at = [world.timers.deadline(name) for name in ("drawn", "fixed")]
        assert None not in at
        drawn.add(round((at[0] or 0) % HOUR, 6))
        fixed.add(round((at[1] or 0) % HOUR, 6))
        world.after(HOUR)
    assert (len(drawn), len(fixed)) == (5, 1)


def test_another_supervisor_draws_the_same() -> None:
    world = World()
    world.add("a", calendar_text.parse("13:00"), random_delay_s=HOUR)
    before = world.timers.deadline("a")
    since = world.timers.remembered()["a"]
    world.after(1.0)
    world.timers = Timers(UTC, seed="host")
    world.add("a", calendar_text.parse("13:00"), since, random_delay_s=HOUR)
    assert world.timers.deadline("a") == before


def test_what_was_missed_comes_once() -> None:
    world = World()
    daily = calendar_text.parse("daily")
    world.add("a", daily, since=NOON - 10 * DAY, is_persistent=True)
    assert world.timers.persistent() == {"a": NOON - 10 * DAY}
    (firing,) = world.timers.due(world.wall, world.monotonic)
    assert (firing.name, firing.late_s) == ("a", 9.5 * DAY)
    assert world.left_s() == DAY / 2
    assert world.timers.persistent() == {"a": NOON}
    world.add("b", daily, is_persistent=True)
    assert world.timers.persistent()["b"] == NOON, "before it has ever come"
    world.add("future", daily, since=NOON + 5 * DAY, is_persistent=True)
    assert world.timers.deadline("future") == NOON + DAY / 2


def test_the_clock_is_set_forwards() -> None:
    world = World()
    world.add("calendar", calendar_text.parse("13:00"))
    world.add("cron", cron.parse("0 13 * * *"))
    world.add("star", cron.parse("*/30 * * * *"))
    world.add("beat", Every(2 * HOUR))
    assert world.set(2 * HOUR) == ["calendar", "cron"]
    assert world.left_s() == HOUR / 2
    assert world.due() == []
    assert world.set(24 * HOUR) == ["calendar"], "a correction of the clock, for cron"
    assert world.timers.deadline("cron") == NOON + 2 * DAY + HOUR


def test_the_clock_is_set_back() -> None:
    world = World()
    world.add("calendar", calendar_text.parse("11:30"), since=NOON - HOUR)
    world.add("cron", cron.parse("30 11 * * *"), since=NOON - HOUR)
    world.add("star", cron.parse("*/30 * * * *"))
    assert world.due() == ["calendar", "cron"]
    assert world.set(-HOUR) == []
    assert world.left_s() == HOUR / 2
    assert world.after(HOUR / 2) == ["calendar", "star"], "cron does not repeat"
    assert world.timers.deadline("cron") == NOON + DAY - HOUR / 2
    assert world.set(-5 * HOUR) == []
    assert world.timers.deadline("cron") == NOON - HOUR / 2


def test_a_clock_that_drifts_is_not_set() -> None:
    world = World()
    world.add("star", cron.parse("* * * * *"))
    came = []
    for _ in range(6):
        world.wall += 0.4
        came += world.after(60)
    assert came == ["star"] * 6


def test_changed_and_removed() -> None:
    world = World()
    world.add("a", calendar_text.parse("13:00"))
    world.add("a", Every(10))
    assert world.after(HOUR) == ["a"]
    assert world.timers.next_wall() is None
    world.timers.remove("a")
    world.timers.remove("a")
    assert list(world.timers) == []
    assert world.left_s() is None


def test_the_zone_of_the_machine_changes() -> None:
    world = World()
    world.add("a", calendar_text.parse("18:00"))
    world.add("utc", calendar_text.parse("18:00 UTC"))
    world.timers.set_local(ZoneInfo("Europe/Berlin"))
    assert world.timers.deadline("a") == NOON + 4 * HOUR
    assert world.timers.deadline("utc") == NOON + 6 * HOUR


def test_many_timers() -> None:
    """One of ten thousand comes each second; a heap that grew with each change would be seen."""
    world = World()
    for number in range(MANY):
        world.add(f"t{number}", Every(MANY), since=UP + number - MANY + 1)
    before = time.process_time()
    for second in range(2000):
        assert world.after(1.0) == [f"t{second}"]
        assert world.left_s() == 1.0
    assert time.process_time() - before < 1.0
    for _ in range(15):
        for number in range(0, MANY, 10):
            world.add(f"t{number}", Every(MANY))
    assert len(world.timers._monotonic.entries) <= 2 * MANY


steps = st.lists(
    st.tuples(st.sampled_from(["after", "set"]), st.integers(-5 * 3600, 30 * 3600)), max_size=12
)


@given(steps)
def test_nothing_is_overdue_and_nothing_comes_early(moves: list[tuple[str, int]]) -> None:
    world = World()
    world.add("calendar", calendar_text.parse("*:17"))
    world.add("cron", cron.parse("17 3 * * *"))
    world.add("beat", Every(1000), random_delay_s=100)
    for move, seconds in moves:
        before = {name: world.timers.deadline(name) for name in world.timers}
        came = world.after(float(abs(seconds))) if move == "after" else world.set(float(seconds))
        assert len(set(came)) == len(came)
        assert world.due() == []
        left = world.left_s()
        assert left is not None
        assert left > 0
        wall = world.timers.deadline("calendar")
        assert wall is not None
        assert wall - world.wall <= HOUR, "an hourly one is never further away"
        if move == "after":
            late = before["calendar"]
            assert late is not None
            assert ("calendar" in came) == (late <= world.wall)


def test_a_timer_waits_while_its_job_runs() -> None:
    """And what came meanwhile comes then, once."""
    world = World()
    world.add("hourly", calendar_text.parse("hourly"), job="x")
    world.timers.recall_job("x", {}, world.monotonic, runs=False)
    assert world.after(HOUR) == ["hourly"]
    world.job("x", runs=True)
    world.timers.settle("hourly")
    assert world.left_s() is None
    assert world.after(2.5 * HOUR) == []
    world.job("x", runs=False)
    assert world.due() == ["hourly"]
    world.timers.settle("hourly")
    assert world.left_s() == HOUR / 2, "nothing was started: it goes on"


def test_since_a_job_started_and_ended() -> None:
    world = World()
    world.add("start", Since(100), job="x")
    world.add("end", Since(10, is_end=True, comes_again=True), job="x")
    world.timers.recall_job("x", {}, world.monotonic, runs=False)
    assert world.left_s() is None, "it has not been started yet"
    world.job("x", runs=True)
    assert world.left_s() == 100
    assert world.after(30) == []
    world.job("x", runs=False)
    assert world.after(10) == ["end"]
    world.timers.settle("end")
    assert world.left_s() == 10, "again, although nothing came of it"
    world.timers.remove("end")
    assert world.after(60) == ["start"]
    world.timers.settle("start")
    assert world.left_s() is None
    assert not world.timers.is_over("start")


def test_the_next_supervisor_knows_when_a_job_started() -> None:
    world = World()
    world.add("start", Since(100, comes_again=True), job="x")
    world.timers.recall_job("x", {}, world.monotonic, runs=True)
    notes = {**world.timers.remembered(), **world.timers.remembered_jobs()}
    assert notes["started x"] == UP
    later = World(monotonic=UP + 40)
    later.add("start", Since(100, comes_again=True), since=notes["start"], job="x")
    later.timers.recall_job("x", notes, later.monotonic, runs=False)
    assert later.left_s() == 60
    assert later.timers.remembered_jobs() == {"started x": UP, "ended x": UP + 40}


def test_once_after_it_was_armed() -> None:
    world = World()
    world.add("in", In(10))
    assert world.after(10) == ["in"]
    assert world.timers.is_over("in")
    world.add("in", In(10), since=world.timers.remembered()["in"])
    assert world.left_s() is None, "the next supervisor does not repeat it"


def test_a_start_that_is_past_comes_late() -> None:
    world = World()
    world.add("boot", After(900, comes_late=True))
    assert world.due() == ["boot"]
    assert world.timers.is_over("boot")


def test_on_a_change_of_the_clock() -> None:
    world = World()
    world.add("clock", On(Change.CLOCK))
    world.add("zone", On(Change.ZONE))
    assert world.left_s() is None
    world.timers.set_changed(Change.CLOCK)
    assert world.due() == ["clock"]
    assert world.due() == []
