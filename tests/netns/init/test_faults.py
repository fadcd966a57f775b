"""What the machine refuses: descriptors, room, places. Jobs go on, and a message says what."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from hostlab.init.jobs import Jobs
from hostlab.jobs import facts
from hostlab.spec.job import Expect, Job, Readiness
from tests.netns.init.engine_site import world
from tests.netns.init.job_site import wait_until
from tests.netns.init.log_site import small_disk
from tests.netns.lab.lab_site import site

pytestmark = pytest.mark.netns
SLEEP = ("sleep", "1000")


@contextmanager
def without_descriptors(*, left: int = 0) -> Iterator[None]:
    """This process may have as many as it has, and `left` more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + left, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def start(jobs: Jobs, job: Job) -> int | None:
    """Load and start a job: the pid of its main process, if it has one."""
    jobs.tell(facts.Load(job=job))
    jobs.tell(facts.Start(job=job.name))
    instance = jobs.engine.instance(job.name)
    return None if instance is None or instance.main is None else instance.main.pid


def end(jobs: Jobs, spawn: int, pid: int) -> None:
    """What the holder does and tells."""
    os.kill(pid, signal.SIGKILL)
    jobs.ended(spawn, *os.waitpid(pid, 0))


@pytest.mark.parametrize("left", range(0, 9, 2))
def test_a_supervisor_without_descriptors(tmp_path: Path, left: int) -> None:
    """However far a start gets: it fails and says so, nothing of it stays, the others go on."""

    async def test() -> None:
        async with world(tmp_path) as place:
            jobs = place.jobs()
            pid = start(jobs, Job(name="old", argv=SLEEP))
            assert pid is not None
            new = Job(name="new", argv=SLEEP, readiness=Readiness(kind=Expect.NOTIFY))
            with without_descriptors(left=left):
                assert start(jobs, new) is None
                (failed,) = (text for text in place.said if "Failed to spawn new" in text)
                assert failed.endswith("Too many open files")
                end(jobs, 1, pid)
                assert jobs.engine.instance("old") is None
            jobs.tell(facts.Start(job="new"))
            instance = jobs.engine.instance("new")
            assert instance is not None
            assert instance.main is not None
            assert instance.main.pid is not None
            end(jobs, instance.main.spawn, instance.main.pid)

    asyncio.run(test())


def test_no_room_for_a_socket() -> None:
    async def test(disk: Path) -> None:
        async with world(disk) as place:
            jobs = place.jobs()
            assert (
                start(jobs, Job(name="a", argv=SLEEP, readiness=Readiness(kind=Expect.NOTIFY)))
                is None
            )
            assert [text for text in place.said if text.startswith("Failed to spawn")] == [
                "Failed to spawn a main process: unable to open its log and sockets:"
                " No space left on device"
            ]

    # Its root, the directory for sockets, the job's log.
    with small_disk(1 << 20, files=3) as disk:
        (disk / "notify").mkdir()
        (disk / "a.log").touch()
        asyncio.run(test(disk))


JOBS = """
nodes:
  a:
    jobs:
      talks: {script: "while :; do echo talks; sleep 0.02; done"}
      waits: {start_on: go, script: "echo here; sleep 1000"}
"""


def test_logs_that_are_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody who writes is stopped, a job starts that has no log, and init says what is missing."""
    with site(tmp_path, monkeypatch) as place:
        node = place.up(JOBS)["a"]
        node.wait_settled()
        shutil.rmtree(Path(node.directory) / "log")
        node.emit("go")
        rows = {row["name"]: row["state"] for row in node.job_table()}
        assert rows == {"talks": "running", "waits": "running"}
        said = Path(node.init_log_path())
        for name in rows:
            word = f"log {name}: lines are dropped: No such file or directory"
            wait_until(partial(_says, said, word), word)


def _says(file: Path, text: str) -> bool:
    return file.exists() and text in file.read_text()
