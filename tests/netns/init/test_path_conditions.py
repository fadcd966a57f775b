"""What path units look for, on the kernel's own inotify."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from hostlab.init.sources import Sources, operands
from hostlab.init.sources.file import FileSource
from hostlab.jobs import facts
from hostlab.spec.job import Match
from hostlab.spec.systemd.loading import load_units
from hostlab.spec.systemd.unit import read_unit
from tests.netns.init.engine_site import World, world
from tests.netns.init.source_site import Init, finish

pytestmark = pytest.mark.netns


class Paths(Init):
    """An init that looks for one path, and whose job runs or not."""

    def __init__(self) -> None:
        super().__init__()
        self.running: set[str] = set()
        self.heard: list[Callable[[str], None]] = []

    def watch(self, told: Callable[[str], None]) -> Callable[[], None]:
        self.heard.append(told)
        return self.heard.clear

    def job(self, *, runs: bool) -> None:
        self.running = {"x"} if runs else set()
        for told in self.heard:
            told("x")

    @contextmanager
    def looking(self, *words: str) -> Iterator[FileSource]:
        """A source that a supervisor's death ends: what is kept stays."""
        surroundings = replace(
            self.surroundings(), runs=lambda job: job in self.running, watch_jobs=self.watch
        )
        source = FileSource(surroundings)
        try:
            source.listen(frozenset({Match("path", ("NAME=x.path", *words))}))
            yield source
        finally:
            kept = {name: os.dup(fd) for name, fd in self.kept.items()}
            source.close()
            self.kept.update(kept)
            assert not self.heard


def run(test: Callable[[Paths], Awaitable[None]]) -> Paths:
    async def main() -> Paths:
        init = Paths()
        try:
            await test(init)
        finally:
            finish(init)
        return init

    return asyncio.run(main())


def test_a_path_that_exists(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"

    async def life(init: Paths) -> None:
        with init.looking(f"EXISTS={path}", "JOB=x"):
            assert init.told == []
            path.mkdir(parents=True)
            await init.wait_told(1)
            init.job(runs=True)
            path.rmdir()
            path.mkdir()
            init.job(runs=False)
            await init.wait_told(2)
            path.rmdir()
            init.job(runs=False)
            assert len(init.told) == 2, "it holds no more"
        assert dict(init.told[0].environment) == {
            "NAME": "x.path", "TRIGGER_UNIT": "x.path", "TRIGGER_PATH": str(path),
        }  # fmt: skip

    run(life)


def test_a_pattern_and_a_directory_that_is_not_empty(tmp_path: Path) -> None:
    async def life(init: Paths) -> None:
        with init.looking(f"EXISTS_GLOB={tmp_path}/*.go"):
            (tmp_path / "no").touch()
            (tmp_path / "x.go").touch()
            await init.wait_told(1)
        spool = tmp_path / "spool"
        init.told.clear()
        with init.looking(f"NOT_EMPTY={spool}", "MAKE=0750"):
            assert spool.stat().st_mode & 0o777 == 0o750
            (spool / ".hidden").touch()
            (spool / "old~").touch()
            (spool / "mail").touch()
            await init.wait_told(1)
        assert len(init.told) == 1

    run(life)


def test_changes(tmp_path: Path) -> None:
    path = tmp_path / "f"

    async def life(init: Paths) -> None:
        path.write_text("x")
        with init.looking(f"CHANGED={path}"):
            with path.open("a") as file:
                file.write("y")
                file.flush()
                await asyncio.sleep(0)
                assert init.told == [], "it is still open"
            await init.wait_told(1)
            init.told.clear()
            (tmp_path / "new").write_text("z")
            (tmp_path / "new").rename(path)
            await init.wait_told(1)
            init.told.clear()
            path.unlink()
            await init.wait_told(1)
            init.told.clear()
            path.write_text("again")
            await init.wait_told(1)
        init.told.clear()
        with init.looking(f"MODIFIED={path}"), path.open("a") as file:
            file.write("y")
            file.flush()
            await init.wait_told(1)

    run(life)


def test_the_next_supervisor_knows_what_it_was_like(tmp_path: Path) -> None:
    changed, held = tmp_path / "changed", tmp_path / "held"

    async def life(init: Paths) -> None:
        changed.write_text("x")
        held.touch()
        with init.looking(f"CHANGED={changed}"):
            pass
        with init.looking(f"CHANGED={changed}"):
            assert init.told == []
        changed.write_text("other")
        with init.looking(f"CHANGED={changed}"):
            assert len(init.told) == 1
        with init.looking(f"EXISTS={held}"):
            assert len(init.told) == 2
        with init.looking(f"EXISTS={held}"):
            assert len(init.told) == 2, "it has held all the time"
        held.unlink()
        with init.looking(f"EXISTS={held}"):
            pass
        held.touch()
        with init.looking(f"EXISTS={held}") as source:
            assert len(init.told) == 3
            # A unit that is stopped and started again looks anew.
            source.listen(frozenset({Match("file", ("FILE=/nowhere/f",))}))
            source.listen(frozenset({Match("path", ("NAME=x.path", f"EXISTS={held}"))}))
            assert len(init.told) == 4

    run(life)


def test_one_that_triggers_too_often(tmp_path: Path) -> None:
    """A condition that holds still, and a job that ends at once: it does not go on for ever."""

    async def life(init: Paths) -> None:
        with init.looking(f"EXISTS={tmp_path}", "JOB=x", "LIMIT=3/1h"):
            for _ in range(10):
                init.job(runs=True)
                init.job(runs=False)
        assert [emit.name for emit in init.told] == ["path"] * 3 + ["path-limit"]

    (warning,) = run(life).warnings
    assert "has triggered more than 3 times" in warning


def units(place: World, **texts: str) -> Sources:
    """The sources of an init that has these units."""
    jobs = place.jobs()
    loaded = load_units(
        read_unit(name.replace("_", "."), [(text, name)]) for name, text in texts.items()
    )
    from hostlab.init import job_runs

    init = Init()
    surroundings = replace(
        init.surroundings(), tell=jobs.tell, warn=place.said.append,
        runs=lambda job: job_runs.runs(jobs, job),
        watch_jobs=lambda told: job_runs.watch_jobs(jobs, told),
    )  # fmt: skip
    sources = Sources(surroundings, lambda: operands(jobs.engine.classes.values()))
    jobs.on_listening = sources.look
    for job in loaded.jobs:
        jobs.tell(facts.Load(job=job))
    sources.look()
    return sources


def reap(pid: int) -> None:
    os.waitid(os.P_PID, pid, os.WEXITED)


def test_a_path_unit_starts_its_service(tmp_path: Path) -> None:
    """Until the spool is empty, and not once it is stopped."""
    spool, out = tmp_path / "spool", tmp_path / "out"

    async def main() -> None:
        async with world(tmp_path) as place:
            sources = units(
                place,
                x_path=f"[Path]\nDirectoryNotEmpty={spool}\nMakeDirectory=yes\n",
                x_service=f"[Service]\nType=oneshot\nExecStart=/bin/mv {spool}/mail {out}\n",
            )
            jobs = place.begun[0]
            jobs.tell(facts.Start(job="x.path"))
            (spool / "mail").write_text("hello")
            while jobs.engine.instance("x.service", "") is None:
                jobs.changed.clear()
                await jobs.changed.wait()
            service = jobs.engine.instance("x.service", "")
            assert service is not None
            assert service.main is not None
            reap(service.main.pid or 0)
            assert out.read_text() == "hello"
            jobs.tell(facts.Stop(job="x.path"))
            assert sources.names == ()
            sources.close()

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_path_unit_that_triggers_too_often_stops(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as place:
            sources = units(
                place,
                x_path=f"[Path]\nPathExists={tmp_path}\nTriggerLimitBurst=0\n",
                y_path=f"[Path]\nPathChanged={tmp_path}/f\nTriggerLimitBurst=1\n"
                "TriggerLimitIntervalSec=1h\nUnit=nothing.service\n",
            )
            jobs = place.begun[0]
            for name in ("x.path", "y.path"):
                jobs.tell(facts.Start(job=name))
            for number in range(2):
                (tmp_path / "f").write_text(str(number))
            while jobs.engine.instance("y.path", "") is not None:
                (tmp_path / "f").write_text("more")
                jobs.changed.clear()
                await jobs.changed.wait()
            assert jobs.engine.instance("x.path", "") is not None
            sources.close()

    asyncio.run(asyncio.wait_for(main(), 60))
