"""What is done before the first unit starts: users, files of tmpfiles.d, generated units.

Each is a job of the engine: so it has a log, its processes are init's children, and a supervisor
that follows knows how far it is.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from typing import Final

from hostlab.errors import UsageError
from hostlab.init.job_supervisor import UNIT_FILES_JOB
from hostlab.init.jobs import Jobs
from hostlab.init.units import generators
from hostlab.jobs import facts
from hostlab.jobs.effects import Level
from hostlab.spec.job import Command, Job

SYSUSERS: Final = "systemd-sysusers"
TMPFILES: Final = "systemd-tmpfiles"
FILES_WITHIN_S: Final = 60.0
NOT_OURS: Final = ("/dev", "/proc", "/sys")
"""Nothing is made below these: they are made with the node."""


class Setup:
    """Runs these jobs."""

    def __init__(self, jobs: Jobs, log: Callable[[Level, str], None], *, path: str) -> None:
        """`path` is where programs are looked for."""
        self._jobs = jobs
        self._log = log
        self._path = path
        self._lock = asyncio.Lock()

    async def make_files(self) -> None:
        """Users of sysusers.d, files and directories of tmpfiles.d."""
        await self.run(self._files(), FILES_WITHIN_S)

    async def generate(self) -> None:
        """Run the generators."""
        async with self._lock:
            try:
                generators.make_output()
            except OSError as error:
                self._log(Level.WARNING, f"no generator is run: {error}")
                return
            await self.run(generators.job(), generators.WITHIN_S)

    def _files(self) -> Job | None:
        commands = []
        for program, package, words in (
            (SYSUSERS, "systemd-standalone-sysusers", ()),
            (TMPFILES, "systemd-standalone-tmpfiles",
             ("--create", "--boot", *(f"--exclude-prefix={each}" for each in NOT_OURS))),
        ):  # fmt: skip
            found = shutil.which(program, path=self._path)
            if found is None:
                text = f"no {program} here, so what units count on may be missing"
                self._log(Level.WARNING, f"{text}; `apt-get install {package}` brings it")
                continue
            commands.append(Command(argv=(found, *words), ignore_failure=True))
        if not commands:
            return None
        description = "users and files of packages"
        return Job(
            name=UNIT_FILES_JOB, description=description, commands=tuple(commands), task=True
        )

    async def run(self, job: Job | None, within_s: float) -> None:
        """Run a job to its end; one that takes longer is stopped, and told."""
        if job is None:
            return
        self._jobs.tell(facts.Load(job=job))
        token = self._jobs.token()
        try:
            async with asyncio.timeout(within_s):
                try:
                    await self._jobs.ask(token, facts.Start(job=job.name, request=token))
                except UsageError:
                    # The supervisor before this one has started it.
                    await self._gone(job.name)
        except TimeoutError:
            self._log(Level.WARNING, f"{job.description}: not done in {within_s:g} s")
            self._jobs.tell(facts.Stop(job=job.name))
            return
        last = self._jobs.engine.classes[job.name].last
        if last is not None and last.failed:
            self._log(Level.WARNING, f"{job.description}: see `hostlab job log {job.name}`")

    async def _gone(self, name: str) -> None:
        while self._jobs.engine.instance(name) is not None:
            self._jobs.changed.clear()
            await self._jobs.changed.wait()
