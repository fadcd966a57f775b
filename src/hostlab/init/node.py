"""A node's supervisor: runs commands for clients, and the node's jobs.

A command gets its caller's own descriptors, so nothing of ours stands between a program and the
terminal, pipe or file it is used with. Only an interactive one has a terminal made for it, inside
the node, whose master end goes back to the caller.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import signal
import struct
import termios
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from hostlab.errors import UsageError
from hostlab.init.child import EXECUTE
from hostlab.init.connection import Connection
from hostlab.init.holder import Inheritance
from hostlab.init.jobs import JobRunner
from hostlab.init.process import (
    DEFAULT_PATH,
    ROOT_HOME,
    ProcessSetup,
    SpawnFailed,
    exit_of,
    signal_group,
    spawn,
)
from hostlab.init.supervisor import Request, Supervisor
from hostlab.spec.job import Job
from hostlab.spec.model import Node

TIOCSPTLCK: Final = 0x40045431
TIOCGPTN: Final = 0x80045430
"""include/uapi/asm-generic/ioctls.h; Python's termios lacks them."""
STATE_FILE: Final = "node.json"
"""The node as it is to be, in its directory below the lab's run directory."""


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What a node's init knows from its first moment; the descriptors survive the pivot."""

    node: Node
    state_dir: int
    cgroup: int | None
    seccomp: bytes | None
    shared: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """(kind, other node) -> descriptor of that node's namespace, for jobs that run in it."""
    forks: int | None = None
    """Processes of the lab's user above which no command or job may fork; init itself may."""
    v1: Mapping[str, int] = field(default_factory=dict)
    """Controller -> descriptor of the node's group in its v1 hierarchy, for the limits of jobs."""


def supervise(config: NodeConfig, inheritance: Inheritance) -> None:
    """A node's supervisor's whole life."""
    asyncio.run(_run(config, inheritance))


async def _run(config: NodeConfig, inheritance: Inheritance) -> None:
    await NodeSupervisor(config, inheritance).run()


def environment(node: Node) -> dict[str, str]:
    """What every process of a node finds in its environment."""
    base = {"PATH": DEFAULT_PATH, "HOME": ROOT_HOME, "HOSTNAME": node.hostname, "TERM": "linux"}
    return base | dict(node.environment)


def rlimits(node: Node) -> tuple[tuple[int, int, int], ...]:
    """A node's resource limits by the kernel's numbers."""
    return tuple((getattr(resource, r.resource), r.soft, r.hard) for r in node.rlimits)


def _fork_limit(bound: int | None) -> tuple[tuple[int, int, int], ...]:
    if bound is None:
        return ()
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    lower = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
    return ((resource.RLIMIT_NPROC, lower, lower),)


class NodeSupervisor(Supervisor):
    """Serves `exec`, `signal`, `jobs` and `job` inside one node."""

    def __init__(self, config: NodeConfig, inheritance: Inheritance) -> None:
        super().__init__(inheritance)
        self.config = config
        self.node = _stored(config)
        self.jobs = JobRunner(self, config.cgroup, config.state_dir)
        self._sessions: dict[Connection, set[int]] = {}
        self.handlers |= {
            "exec": self.exec,
            "signal": self.signal,
            "jobs": self.list_jobs,
            "job": self.control_job,
            "reload": self.reload,
            "wait-started": self.wait_started,
        }

    async def started(self) -> None:
        """Take up the jobs of before, start those that have never run."""
        self.jobs.configure(self.node.jobs)

    def found_running(self, key: str, pid: int) -> None:
        kind, _, name = key.partition(":")
        if kind == "job":
            self.jobs.found_running(name, pid)

    def found_ended(self, key: str, pid: int, status: int) -> None:
        kind, _, name = key.partition(":")
        if kind == "job":
            self.jobs.found_ended(name, pid, status)

    def is_settled(self, key: str) -> bool:
        """How a job ended is told to every supervisor until the job starts again."""
        return not key.startswith("job:")

    def disconnected(self, connection: Connection) -> None:
        """A client that goes away hangs up on what it started, as a terminal does."""
        for pid in self._sessions.pop(connection, ()):
            signal_group(pid, signal.SIGHUP)

    def setup(self, argv: tuple[str, ...], extra: dict[str, str], **changes: Any) -> ProcessSetup:
        """A process with everything that the node prescribes, and these changes."""
        node = self.node
        values: dict[str, Any] = {
            "argv": argv,
            "environment": environment(node) | extra,
            "capabilities": node.capabilities,
            "no_new_privs": node.no_new_privs,
            "seccomp": self.config.seccomp,
            "rlimits": (*_fork_limit(self.config.forks), *rlimits(node)),
            "cgroup": self.config.cgroup,
            "apparmor": node.apparmor,
        }
        return ProcessSetup(**(values | changes))

    def namespaces_of(self, job: Job) -> tuple[int, ...]:
        """Descriptors of the namespaces that a job joins."""
        if any(kind == "pid" for kind, _ in job.namespaces):
            raise UsageError(
                "namespace",
                f"job {job.name}: a process cannot move into another pid namespace",
                hint="share it by the whole node: `namespaces: {pid: NODE}`",
            )
        try:
            return tuple(self.config.shared[pair] for pair in job.namespaces)
        except KeyError as error:
            kind, other = error.args[0]
            raise UsageError(
                "namespace",
                f"the {kind} namespace of {other} was not there when this node was staged",
                hint="`hostlab down` and `up` the lab, so that the node gets it",
            ) from None

    async def exec(self, request: Request) -> dict[str, Any]:
        """Run a program for a client with the client's descriptors, or on a terminal."""
        message = request.message
        tty = message.get("tty")
        fds = [] if tty else request.take(3)
        master = -1
        try:
            argv = tuple(map(str, message["argv"]))
            if not argv:
                raise UsageError("no-command", "nothing to run")
            if tty:
                master, terminal = _open_terminal(int(tty["rows"]), int(tty["columns"]))
                fds = [terminal, terminal, terminal]
            setup = self.setup(
                argv,
                {str(k): str(v) for k, v in message.get("environment", {}).items()},
                user=message.get("user"),
                directory=message.get("directory", "/"),
                descriptors=tuple(fds),
                controlling_tty=bool(tty),
            )
            pid, pidfd = self._spawn_command(setup)
            os.close(pidfd)
            ended = self.ended(pid)
            request.reply({"pid": pid}, more=True, fds=(master,) if tty else ())
        finally:
            for fd in {*fds, master} - {-1}:
                os.close(fd)
        sessions = self._sessions.setdefault(request.connection, set())
        sessions.add(pid)
        if not request.connection.is_open:
            self.disconnected(request.connection)
        status = await ended
        sessions.discard(pid)
        return exit_of(status)

    def _spawn_command(self, setup: ProcessSetup) -> tuple[int, int]:
        try:
            return spawn(setup, key="exec", channel=self.channel)
        except SpawnFailed as failed:
            failed.code = "not-found" if failed.step == EXECUTE else "spawn"
            raise

    async def signal(self, request: Request) -> None:
        """Send a signal to a command that this client started."""
        pid, number = int(request.message["pid"]), int(request.message["signal"])
        if pid in self._sessions.get(request.connection, ()):
            signal_group(pid, number)

    async def list_jobs(self, request: Request) -> list[dict[str, Any]]:
        """Every job with its state."""
        return self.jobs.report()

    async def control_job(self, request: Request) -> dict[str, Any]:
        """start, stop or restart one job."""
        return await self.jobs.control(request.message["name"], request.message["action"])

    async def reload(self, request: Request) -> None:
        """Take up the node's changed description; jobs that changed are restarted."""
        self.node = _stored(self.config)
        await self.jobs.reconfigure(self.node.jobs, set(request.message.get("restart", ())))

    async def wait_started(self, request: Request) -> list[dict[str, Any]]:
        """Answer once every job has been tried."""
        return self.jobs.report()


def _open_terminal(rows: int, columns: int) -> tuple[int, int]:
    """A new terminal of this mount namespace: (master, slave)."""
    master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    fcntl.ioctl(master, TIOCSPTLCK, struct.pack("i", 0))
    number = struct.unpack("I", fcntl.ioctl(master, TIOCGPTN, bytes(4)))[0]
    slave = os.open(f"/dev/pts/{number}", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    return master, slave


def _stored(config: NodeConfig) -> Node:
    """The node as last written, or as it was at the start when the run directory is gone."""
    try:
        fd = os.open(STATE_FILE, os.O_RDONLY | os.O_CLOEXEC, dir_fd=config.state_dir)
    except OSError:
        return config.node
    with os.fdopen(fd, "rb") as file:
        return msgspec.json.decode(file.read(), type=Node)
