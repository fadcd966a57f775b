"""The jobs of one init: started, watched by the holder's word, stopped as a whole.

A job has a cgroup of its own below the node's, so that stopping it reaches everything it forked.
Where there is no cgroup, its process group is all that can be reached; `doctor` says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from hostlab.errors import Problem, UsageError
from hostlab.init.process import command_line, exit_of, signal_group, spawn
from hostlab.linux import cgroups
from hostlab.spec.job import Job

if TYPE_CHECKING:
    from hostlab.init.node import NodeSupervisor

STOP_TIMEOUT_S: Final = 5.0
"""Between SIGTERM and SIGKILL; Upstart's `kill timeout`."""
KILL_TIMEOUT_S: Final = 1.0
"""For killed processes to exit; one that cannot keeps its cgroup."""
LOG_DIRECTORY: Final = "log"


class JobState(StrEnum):
    """Where a job stands."""

    WAITING = "waiting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


class RunningJob:
    """One job and the process that it has now."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.state = JobState.WAITING
        self.pid = 0
        self.last = 0
        """The process that it had before, whose status the holder still has."""
        self.status: int | None = None
        self.reason: str | None = None
        self.finished = asyncio.Event()

    def report(self) -> dict[str, Any]:
        """What `status` and the checks read."""
        return {
            "name": self.job.name,
            "state": self.state,
            "pid": self.pid or None,
            "status": self.status,
            "reason": self.reason,
        }


class JobRunner:
    """Every job of a node."""

    def __init__(self, supervisor: NodeSupervisor, cgroup: int | None, state_dir: int) -> None:
        self.supervisor = supervisor
        self.cgroup = cgroup
        self.state_dir = state_dir
        self.jobs: dict[str, RunningJob] = {}
        self._before: dict[str, tuple[int, int | None]] = {}

    def found_running(self, name: str, pid: int) -> None:
        """A process that an earlier supervisor started."""
        self._before[name] = (pid, None)

    def found_ended(self, name: str, pid: int, status: int) -> None:
        """A process of an earlier supervisor has ended, before or after this one's start."""
        running = self.jobs.get(name)
        if running is not None and running.pid == pid:
            self._ended(running, status)
        elif running is not None and not running.pid:
            self._settle(running)
            running.last = pid
        elif running is None and self._before.get(name, (pid, 0)) in ((pid, None), (pid, 0)):
            self._before[name] = (pid, status)
        else:
            self.supervisor.acknowledge(_key(name), pid)

    def _settle(self, running: RunningJob) -> None:
        """Have the holder forget how the job's last process ended."""
        if running.last:
            self.supervisor.acknowledge(_key(running.job.name), running.last)
            running.last = 0

    def configure(self, jobs: Sequence[Job]) -> None:
        """Take up what runs already and start the rest."""
        for job in jobs:
            running = self.jobs[job.name] = RunningJob(job)
            pid, status = self._before.pop(job.name, (0, None))
            if not pid:
                self.start(running)
                continue
            running.pid, running.state = pid, JobState.RUNNING
            if status is not None:
                self._ended(running, status)
        for name, (pid, status) in self._before.items():
            self._end_stray(name, pid, is_running=status is None)
        self._before.clear()

    def _end_stray(self, name: str, pid: int, *, is_running: bool) -> None:
        """End what belongs to no job any more: a supervisor was killed amid a `reload`."""
        if is_running:
            signal_group(pid, signal.SIGKILL)
            self._kill_rest(name)
        else:
            self.supervisor.acknowledge(_key(name), pid)

    async def reconfigure(self, jobs: Sequence[Job], restart: set[str]) -> None:
        """Stop what is gone, restart what changed, start what is new; the rest is not touched."""
        wanted = {job.name: job for job in jobs}
        for name in [name for name in self.jobs if name not in wanted]:
            await self.stop(self.jobs[name])
            self._settle(self.jobs.pop(name))
        for name, job in wanted.items():
            running = self.jobs.get(name)
            if running is None:
                running = self.jobs[name] = RunningJob(job)
            elif name not in restart:
                running.job = job
                continue
            else:
                await self.stop(running)
                running.job = job
            self.start(running)

    async def control(self, name: str, action: str) -> dict[str, Any]:
        """start, stop or restart."""
        running = self.jobs.get(name)
        if running is None:
            known = ", ".join(sorted(self.jobs)) or "none"
            raise UsageError("no-job", f"no job {name!r} here", hint=f"jobs of this node: {known}")
        if action not in ("start", "stop", "restart"):
            raise UsageError(
                "bad-action", f"a job is started, stopped or restarted, not {action!r}"
            )
        if action != "start":
            await self.stop(running)
        if action != "stop" and not running.pid:
            self.start(running)
        return running.report()

    def report(self) -> list[dict[str, Any]]:
        """Every job's state, in the description's order."""
        return [running.report() for running in self.jobs.values()]

    def start(self, running: RunningJob) -> None:
        """Start a job's process; a failure is its state, with the step that failed."""
        job = running.job
        self._settle(running)
        running.status = running.reason = None
        running.finished = asyncio.Event()
        try:
            running.pid = self._spawn(job)
        except Problem as problem:
            running.state, running.reason, running.pid = JobState.FAILED, problem.message, 0
            running.finished.set()
            return
        except OSError as error:
            running.state, running.reason, running.pid = JobState.FAILED, str(error), 0
            running.finished.set()
            return
        running.state = JobState.RUNNING
        ended = self.supervisor.ended(running.pid)
        ended.add_done_callback(lambda future: self._ended(running, future.result()))

    def _spawn(self, job: Job) -> int:
        log = self._open_log(job.name)
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        cgroup = self._make_cgroup(job.name)
        try:
            changes: dict[str, Any] = {
                "descriptors": (null, log, log),
                "user": job.user,
                "group": job.group,
                "directory": job.directory,
                "cgroup": cgroup,
            }
            if job.groups:
                changes["groups"] = job.groups
            if job.umask is not None:
                changes["umask"] = job.umask
            if job.oom_score_adj is not None:
                changes["oom_score_adj"] = job.oom_score_adj
            if job.namespaces:
                changes["namespaces"] = self.supervisor.namespaces_of(job)
            if job.capabilities is not None:
                changes |= {"capabilities": job.capabilities, "ambient": True}
            if job.no_new_privs:
                changes["no_new_privs"] = True
            argv = job.argv or command_line(job.exec or "")
            if job.script is not None:
                argv = ("/bin/sh", "-e", "-c", job.script)
            setup = self.supervisor.setup(argv, dict(job.environment), **changes)
            pid, pidfd = spawn(setup, key=_key(job.name), channel=self.supervisor.channel)
            os.close(pidfd)
            return pid
        finally:
            os.close(log)
            os.close(null)
            if cgroup is not None:
                os.close(cgroup)

    def _open_log(self, name: str) -> int:
        """The job's log; a full or missing run directory costs the log, never the job."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        path = f"{LOG_DIRECTORY}/{name.replace('/', '_')}.log"
        try:
            return os.open(path, flags, 0o600, dir_fd=self.state_dir)
        except OSError:
            return os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)

    def _make_cgroup(self, name: str) -> int | None:
        if self.cgroup is None:
            return None
        directory = _cgroup_name(name)
        # A cgroup that has ever been killed kills whatever clone3 puts into it: Linux (6.14 on)
        # compares its count of kills with that of the parent's cgroup (cgroup_css_set_fork). So
        # every start gets a new one, and where the old one is still in use the node's.
        try:
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(directory, dir_fd=self.cgroup)
            os.mkdir(directory, dir_fd=self.cgroup)
        except OSError:
            return os.dup(self.cgroup)
        return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.cgroup)

    def _ended(self, running: RunningJob, status: int) -> None:
        running.status = exit_of(status)["status"]
        running.last, running.pid = running.pid, 0
        stopped = running.state is JobState.STOPPING or status == 0
        running.state = JobState.STOPPED if stopped else JobState.FAILED
        if not stopped:
            running.reason = _reason(status)
        running.finished.set()

    async def stop(self, running: RunningJob) -> None:
        """TERM to the process group, KILL to everything of the job after the timeout."""
        if running.state is JobState.STOPPING:
            await running.finished.wait()
        if running.state is not JobState.RUNNING:
            return
        running.state = JobState.STOPPING
        signal_group(running.pid, signal.SIGTERM)
        try:
            await asyncio.wait_for(running.finished.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            signal_group(running.pid, signal.SIGKILL)
        self._kill_rest(running.job.name)
        await running.finished.wait()

    def _kill_rest(self, name: str) -> None:
        if self.cgroup is None:
            return
        try:
            path = f"{_cgroup_name(name)}/cgroup.kill"
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=self.cgroup)
        except OSError:
            return
        try:
            os.write(fd, b"1")
        finally:
            os.close(fd)
        fd = os.open(_cgroup_name(name), os.O_RDONLY | os.O_DIRECTORY, dir_fd=self.cgroup)
        try:
            cgroups.wait_empty(fd, timeout_s=KILL_TIMEOUT_S)
        finally:
            os.close(fd)


def _key(job: str) -> str:
    return f"job:{job}"


def _cgroup_name(job: str) -> str:
    return f"job.{job.replace('/', '_')}"


def _reason(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"ended by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exit status {os.WEXITSTATUS(status)}"
