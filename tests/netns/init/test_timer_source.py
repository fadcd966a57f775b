"""The source of timers on the kernel's own timerfd: events, memory, sleep."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from hostlab.init.sources import Sources, timer, waited_for
from hostlab.init.sources.events import MODULES
from hostlab.init.sources.timer import FILE, KEPT, SystemClocks, TimerSource, read_notes
from hostlab.init.watches import Watches
from hostlab.spec.job import Job, Match
from hostlab.spec.upstart import load_conf
from tests.netns.init.source_site import Init, finish

pytestmark = pytest.mark.netns

DAY = 86400.0
NOON = datetime(2100, 6, 15, 12, 30, tzinfo=UTC).timestamp()
"""No hour, day or year begins near it."""


@dataclass
class SetClocks(SystemClocks):
    """The machine's clocks, but it is always the same day, and the wall clock can be set."""

    ahead_s: float = 0.0
    began: float = field(default_factory=time.time)

    def wall(self) -> float:
        return NOON + super().wall() - self.began + self.ahead_s


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_PATH)
    yield fd
    os.close(fd)


@asynccontextmanager
async def listening(
    init: Init, *arguments: str, clocks: SystemClocks | None = None
) -> AsyncIterator[TimerSource]:
    """A source with one operand for each text, which a supervisor's death ends."""
    source = TimerSource(init.surroundings(), clocks)
    try:
        source.listen(frozenset(Match("timer", (text,)) for text in arguments))
        yield source
    finally:
        kept = {name: os.dup(fd) for name, fd in init.kept.items()}
        source.close()
        init.kept.update(kept)


def test_events_come_at_their_time() -> None:
    async def main() -> None:
        init = Init()
        started = SystemClocks().monotonic()
        async with listening(init, "EVERY=200ms", "CALENDAR=*:*:*", "EVERY=1h"):
            await init.wait_told(7)
        assert SystemClocks().monotonic() - started >= 0.2
        beat = dict(next(e for e in init.told if e.environment[0][0] == "EVERY").environment)
        assert (beat["EVERY"], beat["NAME"]) == ("200ms", "EVERY=200ms")
        second = dict(next(e for e in init.told if e.environment[0][0] == "CALENDAR").environment)
        assert second["AT"].endswith("Z")
        assert {emit.name for emit in init.told} == {"timer"}
        assert not init.warnings
        finish(init)

    asyncio.run(main())


def test_the_next_supervisor_goes_on() -> None:
    """What was due while nobody was there comes at once; what has come is not repeated."""

    async def main() -> None:
        init = Init()
        clocks = SetClocks()
        async with listening(init, "CALENDAR=daily", "CALENDAR=hourly", clocks=clocks):
            pass
        before = read_notes(os.pread(init.kept[KEPT], 65536, 0))
        assert set(before) == {"CALENDAR=daily", "CALENDAR=hourly"}
        # One that dies when only some of the jobs have come has forgotten none of the others.
        async with listening(init, "CALENDAR=hourly", clocks=clocks):
            pass
        clocks.ahead_s = 2 * DAY
        async with listening(init, "CALENDAR=daily", "CALENDAR=hourly", clocks=clocks):
            assert len(init.told) == 2
        async with listening(init, "CALENDAR=daily", "CALENDAR=hourly", clocks=clocks):
            assert len(init.told) == 2
        finish(init)

    asyncio.run(main())


def test_a_persistent_timer_outlives_the_machines_start(directory: int, tmp_path: Path) -> None:
    async def main() -> None:
        init = Init(directory)
        source = TimerSource(init.surroundings(), SetClocks())
        daily = Match("timer", ("CALENDAR=daily", "PERSISTENT=1"))
        yearly = Match("timer", ("CALENDAR=yearly", "PERSISTENT=1"))
        source.listen(frozenset({daily, yearly, Match("timer", ("CALENDAR=hourly",))}))
        source.close()
        noted = ["CALENDAR=daily PERSISTENT=1", "CALENDAR=yearly PERSISTENT=1"]
        assert sorted(read_notes((tmp_path / FILE).read_bytes())) == noted
        finish(init)
        # A start in which only one of the jobs came.
        between = Init(directory)
        source = TimerSource(between.surroundings(), SetClocks())
        source.listen(frozenset({yearly}))
        source.close()
        finish(between)
        later = Init(directory)
        source = TimerSource(later.surroundings(), SetClocks(3 * DAY))
        # The jobs come one after the other; what comes first does not forget the others.
        source.listen(frozenset({Match("timer", ("CALENDAR=hourly",))}))
        source.listen(frozenset({daily, Match("timer", ("CALENDAR=hourly",))}))
        source.close()
        assert [dict(emit.environment)["CALENDAR"] for emit in later.told] == ["daily"]
        finish(later)

    asyncio.run(main())


def test_what_systemd_has_noted_counts(tmp_path: Path) -> None:
    """A host that comes from systemd does not forget when its timers came last."""

    async def main() -> None:
        init, clocks = Init(stamps=str(tmp_path)), SetClocks()
        for name, days in (("old.timer", 3), ("new.timer", 0)):
            stamp = tmp_path / f"stamp-{name}"
            stamp.touch()
            at = clocks.wall() - days * DAY
            os.utime(stamp, (at, at))
        source = TimerSource(init.surroundings(), clocks)
        source.listen(frozenset(
            Match("timer", (f"NAME={name}", "CALENDAR=daily", "PERSISTENT=1"))
            for name in ("old.timer", "new.timer", "other.timer")
        ))  # fmt: skip
        source.close()
        assert [dict(emit.environment)["NAME"] for emit in init.told] == ["old.timer"]
        finish(init)

    asyncio.run(main())


def test_the_clock_is_set() -> None:
    """What a cancelled timerfd makes the source do; the machine's clock is left alone."""

    async def main() -> None:
        init, clocks = Init(), SetClocks()
        async with listening(init, "CALENDAR=daily", "EVERY=1h", clocks=clocks) as source:
            clocks.ahead_s = DAY
            source._wake(source._fds[0])
            assert [dict(emit.environment)["NAME"] for emit in init.told] == ["CALENDAR=daily"]
        finish(init)

    asyncio.run(main())


def test_somebody_sets_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which a read of the timerfd says, whatever the time is then."""

    async def main() -> None:
        init = Init()
        async with listening(init, "ON=clock-change", "ON=zone-change") as source:
            fd = source._fds[0]
            source._wake(fd)
            assert init.told == []
            monkeypatch.setattr(fd, "read", lambda: False)
            source._wake(fd)
            assert [dict(emit.environment)["ON"] for emit in init.told] == ["clock-change"]
        finish(init)

    asyncio.run(main())


def test_ten_thousand_timers_sleep() -> None:
    """One is due soon: the process wakes for it, and for nothing else."""

    async def main() -> None:
        init = Init()
        hours = [f"EVERY={seconds}s" for seconds in range(10_000, 20_000)]
        async with listening(init, *hours, "EVERY=500ms"):
            found = []
            # The process has other things to do at times, its own garbage first of all.
            for _ in range(10):
                before = resource.getrusage(resource.RUSAGE_SELF)
                await init.wait_told(len(init.told) + 2)
                after = resource.getrusage(resource.RUSAGE_SELF)
                wakings, spent = after.ru_nvcsw - before.ru_nvcsw, after.ru_utime - before.ru_utime
                found.append((wakings, spent))
                if wakings <= 6 and spent < 0.1:
                    break
            else:
                pytest.fail(f"it does not sleep: {found}")
        finish(init)

    asyncio.run(main())


def test_a_mistake_costs_its_own_timer_only() -> None:
    async def main() -> None:
        init = Init()
        async with listening(init, "CALENDAR=daly", "EVERY=100ms") as source:
            await init.wait_told(1)
            words = ("CALENDAR=daly", "EVERY=100ms", "EVERY=1h")
            source.listen(frozenset(Match("timer", (text,)) for text in words))
        assert init.warnings == [
            "timer CALENDAR=daly: `daly` is neither a weekday nor a shorthand"
            " (did you mean `daily`?)"
        ]
        finish(init)

    asyncio.run(main())


def test_a_torn_note_is_left_out() -> None:
    assert read_notes(b'{"a":1.0,"b":2.0}\n{"a":3.0}\n{"b":') == {"a": 3.0, "b": 2.0}
    assert read_notes(b"") == {}


def job(name: str, text: str) -> Job:
    return load_conf(f"{text}\nexec true\n", file=f"{name}.conf", name=name)


def test_a_source_is_open_while_somebody_listens() -> None:
    async def main() -> None:
        init = Init()
        jobs = [job("a", "start on startup")]
        sources = Sources(init.surroundings(), lambda: waited_for(jobs))
        sources.look()
        assert list(sources.names) == []
        jobs.append(job("b", "start on started a or timer EVERY=100ms\nstop on timer EVERY=1h"))
        sources.changed()
        sources.changed()
        await init.wait_told(1)
        assert list(sources.names) == ["timer"]
        del jobs[1]
        sources.look()
        assert list(sources.names) == []
        assert KEPT not in init.kept
        sources.close()

    asyncio.run(main())


def test_a_source_that_cannot_be_opened_costs_its_events_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And is tried again when somebody listens anew."""

    async def main() -> None:
        init = Init()
        jobs = [job("a", "start on timer EVERY=100ms")]
        sources = Sources(init.surroundings(), lambda: waited_for(jobs))
        with monkeypatch.context() as patch:
            patch.setitem(MODULES, "timer", "hostlab.init.sources.nothing")
            sources.look()
        assert len(init.warnings) == 1
        taken = jobs.pop()
        sources.look()
        jobs.append(taken)
        sources.look()
        await init.wait_told(1)
        sources.close()

    asyncio.run(main())


def test_the_zone_of_the_machine_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen by inotify, through the link that /etc/localtime is."""
    localtime = tmp_path / "localtime"
    localtime.symlink_to("/usr/share/zoneinfo/UTC")
    monkeypatch.setattr(timer, "LOCALTIME", str(localtime))

    async def main() -> None:
        init = Init()
        watches = Watches(init.warnings.append)
        source = TimerSource(replace(init.surroundings(), watches=watches))
        source.listen(
            frozenset({Match("timer", ("ON=zone-change",)), Match("timer", ("CALENDAR=daily",))})
        )
        before = source._timers.deadline("CALENDAR=daily")
        new = tmp_path / "new"
        new.symlink_to("/usr/share/zoneinfo/Asia/Kolkata")
        new.rename(localtime)
        await init.wait_told(1)
        after = source._timers.deadline("CALENDAR=daily")
        assert before is not None
        assert after is not None
        assert (after - before) % 86400 == 86400 - 5.5 * 3600
        assert [dict(emit.environment)["ON"] for emit in init.told] == ["zone-change"]
        source.close()
        watches.close()
        finish(init)

    asyncio.run(main())


def test_a_timer_of_a_job_that_runs() -> None:
    """It comes once while the job runs, and again when that has ended."""

    async def main() -> None:
        init = Init()
        running: set[str] = set()
        heard: list[Callable[[str], None]] = []

        def watch(told: Callable[[str], None]) -> Callable[[], None]:
            heard.append(told)
            return heard.clear

        surroundings = replace(init.surroundings(), runs=running.__contains__, watch_jobs=watch)
        source = TimerSource(surroundings)
        source.listen(
            frozenset(
                {
                    Match("timer", ("EVERY=100ms", "JOB=x")),
                    Match("timer", ("SINCE_END=100ms", "JOB=x")),
                }
            )
        )
        running.add("x")
        heard[0]("x")
        await init.wait_told(1)
        assert "EVERY" in dict(init.told[0].environment)
        running.clear()
        heard[0]("x")
        while not any("SINCE_END" in dict(emit.environment) for emit in init.told):
            await init.wait_told(len(init.told) + 1)
        notes = read_notes(os.pread(init.kept[KEPT], 65536, 0))
        assert {"started x", "ended x"} <= notes.keys()
        source.listen(frozenset({Match("timer", ("EVERY=1h",))}))
        assert not heard, "nobody has a job any more"
        source.close()
        finish(init)

    asyncio.run(main())


def test_the_last_time_says_so() -> None:
    async def main() -> None:
        init = Init()
        async with listening(init, "IN=50ms", "EVERY=100ms"):
            await init.wait_told(2)
        found = {emit.environment[0][0]: dict(emit.environment).get("LAST") for emit in init.told}
        assert found == {"IN": "1", "EVERY": None}
        finish(init)

    asyncio.run(main())
