"""Processes of jobs, started as an init starts them, as children of the test itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from hostlab.init.spawning.cgroups import JobCgroups
from hostlab.init.spawning.launch import Launched, Launcher
from hostlab.init.spawning.process import DEFAULT_PATH, ProcessSetup, prepare_to_spawn, start
from hostlab.jobs.effects import Spawn
from hostlab.linux import cgroups
from hostlab.spec.job import Job, Process, Step

DEADLINE_S = 60.0
TOKEN = "HOSTLAB_TEST_RUN"
"""By it conftest finds what a test leaves running."""


@dataclass
class Alone:
    """What a launcher needs of a supervisor, without a node."""

    channel: socket.socket | None = None
    values: dict[str, Any] = field(default_factory=dict)

    def setup(
        self, argv: tuple[str, ...], extra: Mapping[str, str], **changes: Any
    ) -> ProcessSetup:
        environment = {"PATH": DEFAULT_PATH, TOKEN: os.environ[TOKEN]} | dict(extra)
        values = {"argv": argv, "environment": environment, **self.values, **changes}
        return ProcessSetup(**values)

    def wait_for_room(self) -> None:
        """There is no holder."""

    def namespaces_of(self, job: Job) -> tuple[int, ...]:
        return ()


@dataclass(frozen=True)
class Ran:
    """How a process ended, and what it said."""

    status: int
    out: str
    warnings: tuple[str, ...]


def run(setup: ProcessSetup) -> Ran:
    """Start a process with a pipe for its output, and wait for it."""
    prepare_to_spawn()
    with _output() as (writer, read):
        written = replace(setup, descriptors=(setup.descriptors[0], writer, writer))
        started = start(written, key="", channel=None)
        os.close(writer)
        return Ran(wait(started.pid, started.pidfd), read(), started.warnings)


@contextlib.contextmanager
def _output() -> Iterator[tuple[int, Callable[[], str]]]:
    reader, writer = os.pipe2(os.O_CLOEXEC)

    def read() -> str:
        with os.fdopen(os.dup(reader), "rb") as file:
            return file.read().decode()

    try:
        yield writer, read
    finally:
        os.close(reader)
        with contextlib.suppress(OSError):
            os.close(writer)


def wait(pid: int, pidfd: int) -> int:
    """The exit code of a child, negative for a signal; fails after the deadline."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    ready = poll.poll(DEADLINE_S * 1000)
    os.close(pidfd)
    if not ready:
        os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert ready, f"process {pid} did not end in {DEADLINE_S} s"
    return status


@dataclass
class Site:
    """A launcher whose jobs have cgroups below one of the test's own."""

    launcher: Launcher
    path: Path | None
    v1: dict[str, Path]
    spawned: int = 0

    @property
    def cgroups(self) -> JobCgroups:
        return self.launcher.cgroups

    def spawn(self, job: Job, *, instance: str = "", step: Step = Step.MAIN, **more: Any) -> Spawn:
        """The effect that would start a job's process."""
        self.spawned += 1
        return Spawn(
            spawn=self.spawned,
            job=job,
            instance=instance,
            step=step,
            process=job.process(step) or Process(),
            environment=more.pop("environment", {}),
            **more,
        )

    def launch(self, job: Job, **more: Any) -> tuple[int, Launched]:
        """Start a job's main process: its spawn number, and what came of it."""
        effect = self.spawn(job, **more)
        return effect.spawn, self.launcher.launch(effect, stdio=(0, 1, 2))

    def run(
        self, job: Job, *, further: dict[int, int] | None = None, keep: bool = False, **more: Any
    ) -> Ran:
        """Start a process of a job, and wait until it has ended and has said everything.

        Its instance goes then, unless it is to be kept.
        """
        effect = self.spawn(job, **more)
        with _output() as (writer, read):
            got = self.launcher.launch(effect, stdio=(0, writer, writer), further=further)
            os.close(writer)
            said = read()
        ran = Ran(wait(got.pid, got.pidfd), said, got.warnings)
        if not keep:
            wait_empty(self.cgroups, effect.spawn)
            self.launcher.forget(job.name, effect.instance)
        return ran


@contextlib.contextmanager
def site(tmp_path: Path, *, unified: bool = True, v1: bool = True) -> Iterator[Site]:
    """A place for jobs; their cgroups, and whatever is in them, are gone afterwards."""
    prepare_to_spawn()
    found = cgroups.find()
    name = f"hostlab-test-{os.getpid()}"
    path = Path(found.unified or "/nowhere", name) if unified and found.unified else None
    groups: dict[str, Path] = {}
    if v1:
        groups = {c: Path(found.v1[c], name) for c in ("memory", "cpu", "pids") if c in found.v1}
    opened: dict[Path, int] = {}
    launcher = None
    try:
        for each in (path, *groups.values()):
            if each is not None:
                cgroups.make(str(each))
                opened[each] = os.open(each, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        below = JobCgroups(
            None if path is None else opened[path], {c: opened[p] for c, p in groups.items()}
        )
        launcher = Launcher(Alone(), below, temporary=str(tmp_path / "private"))
        yield Site(launcher, path, groups)
    finally:
        if launcher is not None:
            launcher.cgroups.close()
        for each, fd in opened.items():
            if each == path:
                cgroups.write(f"{each}/cgroup.kill", "1")
                cgroups.wait_empty(fd, timeout_s=DEADLINE_S)
            os.close(fd)
            cgroups.remove(str(each))


def needs_v2() -> None:
    """Skip where no cgroup v2 can be made."""
    if cgroups.find().unified is None:
        pytest.skip("here: no cgroup v2 for this user")


def wait_empty(below: JobCgroups, spawn: int) -> None:
    """Wait as an init does until nothing of a spawn is left."""

    async def wait_for_it() -> None:
        gone = asyncio.Event()
        below.watch_empty(spawn, gone.set)
        await asyncio.wait_for(gone.wait(), DEADLINE_S)

    asyncio.run(wait_for_it())


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Ask again until it holds; fails after the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not in {DEADLINE_S} s: {what}"
        select.select([], [], [], 0.01)
