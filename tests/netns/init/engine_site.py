"""The engine with hands in a test's own process: supervisors that follow each other, no holder."""

from __future__ import annotations

import asyncio
import contextlib
import os
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

from hostlab.init.jobs import Jobs
from hostlab.init.logs.pipes import Logs
from hostlab.init.spawning.cgroups import JobCgroups
from hostlab.init.spawning.launch import Launcher
from hostlab.init.spawning.process import prepare_to_spawn
from hostlab.jobs.effects import Level
from tests.netns.init.job_site import DEADLINE_S, Alone

NOBODY = 65534


class Keeper:
    """What a holder keeps."""

    def __init__(self) -> None:
        self.kept: dict[str, int] = {}

    def keep(self, name: str, fd: int) -> None:
        self.drop(name)
        self.kept[name] = os.dup(fd)

    def drop(self, name: str) -> None:
        fd = self.kept.pop(name, None)
        if fd is not None:
            os.close(fd)

    def close(self) -> None:
        for name in tuple(self.kept):
            self.drop(name)


class World:
    """One holder's worth, and the supervisors that follow each other."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        self.keeper = Keeper()
        self.said: list[str] = []
        self.begun: list[Jobs] = []

    def jobs(self, running: Mapping[int, int] | None = None) -> Jobs:
        """The jobs of a supervisor that starts now."""
        cgroups = JobCgroups(None)
        found = Jobs(
            launcher=Launcher(Alone(), cgroups),
            cgroups=cgroups,
            logs=Logs(self.place, keep=self.keeper.keep, drop=self.keeper.drop),
            keep=self.keeper.keep,
            drop=self.keeper.drop,
            adopt=lambda pid, key: None,
            log=self._log,
            environment={},
            console=2,
            network=lambda job: None,
            notify_directory=str(self.directory / "notify"),
        )
        self.begun.append(found)
        found.restore(dict(self.keeper.kept), running or {}, ())
        return found

    def _log(self, level: Level, text: str) -> None:
        self.said.append(text)


@contextlib.asynccontextmanager
async def world(directory: Path) -> AsyncIterator[World]:
    prepare_to_spawn()
    found = World(directory)
    try:
        yield found
    finally:
        for jobs in found.begun:
            jobs.close()
        found.keeper.close()
        os.close(found.place)


def as_nobody(test: Callable[[], Awaitable[None]]) -> str:
    """What came of a test that another user runs: nothing, or what went wrong."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            asyncio.run(asyncio.wait_for(test(), DEADLINE_S))
        except BaseException:
            os.write(writer, traceback.format_exc().encode()[-4096:])
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    with open(reader) as file:
        return file.read()
