"""A supervisor is killed while a job writes: every line is in its log once, and in order."""

from __future__ import annotations

import asyncio
import os
import random
import select
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from hostlab.init.logs.pipes import Logs
from hostlab.init.logs.policy import LogPolicy
from hostlab.init.spawning.process import ProcessSetup, spawn
from hostlab.init.supervisor import Request, Supervisor
from tests.netns.init.init_site import control_of, holding
from tests.netns.lab.lab_site import wait_until

pytestmark = pytest.mark.netns

KILLS = 50
SEED = 20_261_121
WRITER = """
import os, sys
name, stop = sys.argv[1:]
number = 0
while number <= 50 or not os.path.exists(stop):
    end = number + 1 + number % 50
    text = "".join(f"{name} {n:09d} {'x' * (n % 97)}\\n" for n in range(number, end))
    sys.stdout.write(text)
    sys.stdout.flush()
    number = end
print("end of", name)
"""
POLICY = LogPolicy(max_bytes=4 << 20, old_files=1000, burst_bytes=1 << 40)


class Logger(Supervisor):
    """Starts, once, jobs that write numbered lines, and moves them to their logs."""

    directory: Path

    async def started(self) -> None:
        place = os.open(self.directory / "logs", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.logs = Logs(place, keep=self.keep, drop=self.drop, policy=POLICY)
        self.handlers["run"] = self.run_writer
        self.handlers["kept"] = self.list_kept
        self.handlers["running"] = self.list_running
        self.jobs: set[int] = set()
        self.logs.restore(self.kept)
        # A word to the holder, so that it takes no supervisor for one that died at its start.
        self.drop("nothing")

    async def run_writer(self, request: Request) -> None:
        name, command = request.message["name"], tuple(request.message["argv"])
        log = self.logs.writer(name)
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        setup = ProcessSetup(command, dict(os.environ), descriptors=(null, log, log))
        pid, pidfd = spawn(setup, key=f"job:{name}", channel=self.channel)
        self.spawn_task(self.wait_for(pid, self.ended(pid)))
        for fd in (log, null, pidfd):
            os.close(fd)

    async def wait_for(self, pid: int, ended: asyncio.Future[int]) -> None:
        self.jobs.add(pid)
        await ended
        self.jobs.discard(pid)

    async def list_running(self, request: Request) -> list[int]:
        return sorted(self.jobs)

    async def list_kept(self, request: Request) -> list[str]:
        return sorted(self.logs.pipes())


def logger(directory: Path) -> Any:
    def make(inheritance: Any) -> Logger:
        supervisor = Logger(inheritance)
        supervisor.directory = directory
        return supervisor

    return make


def kept(directory: Path) -> list[str]:
    with control_of(directory) as control:
        found: list[str] = control.call("kept")
        return found


def kill_supervisor(directory: Path) -> None:
    """Kill it; the test's connection to it ends with it."""
    with control_of(directory) as control:
        os.kill(control.call("ping")["pid"], signal.SIGKILL)
        assert control.socket.recv(1) == b"", "its connections end with it"


def whole(directory: Path, name: str) -> str:
    """A log with its rotated files, the oldest first."""
    rotated = sorted(directory.glob(f"{name}.log.*"), key=lambda p: -int(p.suffix[1:]))
    files = (*rotated, *directory.glob(f"{name}.log"))
    return "".join(file.read_text() for file in files)


def test_no_line_is_lost_or_doubled_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    chance = random.Random(SEED)
    names = ("one", "two")
    with holding(tmp_path, logger(tmp_path)):
        with control_of(tmp_path) as control:
            for name in names:
                argv = [sys.executable, "-c", WRITER, name, str(tmp_path / "stop")]
                control.call("run", name=name, argv=argv)
        logs = [tmp_path / "logs" / f"{name}.log" for name in names]
        wait_until(lambda: all(log.exists() for log in logs), "both write")
        for _ in range(KILLS):
            select.select([], [], [], chance.random() * 0.02)
            kill_supervisor(tmp_path)
        assert len(kept(tmp_path)) == len(names), "both still write"
        (tmp_path / "stop").touch()
        wait_until(lambda: kept(tmp_path) == [], "the writers are done")
    for name in names:
        *lines, last = whole(tmp_path / "logs", name).splitlines()
        assert last == f"end of {name}"
        assert len(lines) > KILLS
        assert lines == [f"{name} {n:09d} {'x' * (n % 97)}" for n in range(len(lines))]
        rotated = (tmp_path / "logs").glob(f"{name}.log.*")
        assert all(p.read_bytes().endswith(b"\n") for p in rotated), "no line is split"
    assert (tmp_path / "log").read_text() == ""


def test_who_outlives_its_job_is_not_held_up_by_a_dead_supervisor(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    go = tmp_path / "go"
    os.mkfifo(go)
    # More than a pipe holds: without a supervisor it would wait for ever.
    child = f"read x < {go}; yes line | head -n 100000; echo the end"
    with holding(tmp_path, logger(tmp_path), eager=False):
        with control_of(tmp_path) as control:
            argv = ["/bin/sh", "-c", f"({child}) & echo main"]
            control.call("run", name="job", argv=argv)
            wait_until(lambda: whole(tmp_path / "logs", "job") == "main\n", "the main process")
            wait_until(lambda: not control.call("running"), "its status is known")
        kill_supervisor(tmp_path)
        go.write_text("go\n")
        end = "the end\n"
        wait_until(lambda: whole(tmp_path / "logs", "job").endswith(end), "nobody connects")
        assert whole(tmp_path / "logs", "job") == "main\n" + "line\n" * 100_000 + end
