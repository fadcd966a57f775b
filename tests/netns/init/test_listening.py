"""What a job `listens` to is heard while it runs: before those start that wait for it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from hostlab.init.sources import Sources, Surroundings, operands
from hostlab.init.spawning.launch import Launched
from hostlab.jobs import facts
from hostlab.spec.job import Job, Match
from hostlab.spec.upstart import load_conf
from tests.netns.init.engine_site import World, world

pytestmark = pytest.mark.netns

WHEN = Match("timer", ("NAME=x.timer", "EVERY=100ms"))


def sources_of(place: World) -> tuple[Sources, list[tuple[str, ...]]]:
    """The sources of an init, and what each look found open."""
    jobs = place.jobs()
    surroundings = Surroundings(
        tell=jobs.tell,
        warn=place.said.append,
        keep=place.keeper.keep,
        drop=place.keeper.drop,
        kept={},
    )
    sources = Sources(surroundings, lambda: operands(jobs.engine.classes.values()))
    seen: list[tuple[str, ...]] = []

    def look() -> None:
        sources.look()
        seen.append(sources.names)

    jobs.on_listening = look
    return sources, seen


def test_a_timer_of_a_job_runs_while_the_job_does(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as place:
            sources, seen = sources_of(place)
            jobs = place.begun[0]
            for job in (
                Job(name="x.timer", listens=(WHEN,)),
                load_conf("start on timer NAME=x.timer", file="x.conf", name="x"),
                load_conf("start on timer NAME=y.timer", file="y.conf", name="y"),
            ):
                jobs.tell(facts.Load(job=job))
            sources.look()
            jobs.tell(facts.Start(job="x.timer"))
            while jobs.engine.instance("x", "") is None:
                jobs.changed.clear()
                await jobs.changed.wait()
            assert jobs.engine.instance("y", "") is None
            looks = len(seen)
            jobs.tell(facts.Stop(job="x.timer"))
            assert len(seen) > looks
            assert WHEN not in set(operands(jobs.engine.classes.values()))
            sources.close()

    asyncio.run(asyncio.wait_for(main(), 60))


def test_it_listens_before_who_waits_for_it_goes_on(tmp_path: Path) -> None:
    """A socket must be there when `started x.socket` is heard."""

    async def main() -> None:
        async with world(tmp_path) as place:
            sources, seen = sources_of(place)
            jobs = place.begun[0]
            for job in (
                Job(name="x.timer", listens=(WHEN,)),
                load_conf("start on started x.timer\nexec true", file="after.conf", name="after"),
            ):
                jobs.tell(facts.Load(job=job))
            started: list[int] = []
            launch = jobs.launcher.launch

            def launched(*arguments: Any, **named: Any) -> Launched:
                started.append(len(seen))
                done = launch(*arguments, **named)
                os.waitid(os.P_PID, done.pid, os.WEXITED)
                return done

            jobs.launcher.launch = launched  # type: ignore[method-assign]  # A look, no other way.
            jobs.tell(facts.Start(job="x.timer"))
            assert seen == [("timer",)]
            assert started == [1], "the process came after the look"
            sources.close()

    asyncio.run(asyncio.wait_for(main(), 60))
