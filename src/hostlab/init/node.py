"""A node's supervisor: runs commands for clients, and the node's jobs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from hostlab import typed
from hostlab.errors import UsageError
from hostlab.init import boot
from hostlab.init.connection import Connection
from hostlab.init.devices import program as stand_in
from hostlab.init.holder import Inheritance
from hostlab.init.job_supervisor import JobSupervisor, Place
from hostlab.init.protocol import LOGS
from hostlab.init.sessions import Sessions
from hostlab.init.spawning.process import DEFAULT_PATH, ROOT_HOME, ProcessSetup
from hostlab.init.supervisor import Request
from hostlab.spec.job import Job
from hostlab.spec.model import Node

if TYPE_CHECKING:
    from hostlab.init.resume import Resumption

STATE_FILE: Final = "node.json"
"""The node as it is to be, in its directory below the lab's run directory."""
RUN_DIRECTORY: Final = "/run/hostlab/.init"
"""Where a node's jobs find their init."""


class NodeConfig(msgspec.Struct, frozen=True):
    """What a node's init knows from its first moment; the descriptors survive the pivot."""

    node: Node
    state_dir: int
    cgroup: int | None
    seccomp: bytes | None
    shared: Mapping[tuple[str, str], int] = msgspec.field(default_factory=dict)
    """(kind, other node) -> descriptor of that node's namespace, for jobs that run in it."""
    forks: int | None = None
    """Processes of the lab's user above which no command or job may fork; init itself may."""
    v1: Mapping[str, int] = msgspec.field(default_factory=dict)
    """Controller -> descriptor of the node's group in its v1 hierarchy, for the limits of jobs."""


def supervise(config: NodeConfig, inheritance: Inheritance) -> None:
    """A node's supervisor's whole life."""
    asyncio.run(_run(config, inheritance))


async def _run(config: NodeConfig, inheritance: Inheritance) -> None:
    await NodeSupervisor(config, inheritance).run()


def environment(node: Node) -> dict[str, str]:
    """What every process of a node finds in its environment."""
    base = {
        "PATH": f"{RUN_DIRECTORY}/bin:{DEFAULT_PATH}",
        "HOME": ROOT_HOME,
        "HOSTNAME": node.hostname,
        "TERM": "linux",
    }
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


class NodeSupervisor(JobSupervisor):
    """Serves commands and jobs inside one node."""

    def __init__(self, config: NodeConfig, inheritance: Inheritance) -> None:
        self.config = config
        self.inheritance = inheritance
        self.node = _stored(config)
        place = Place(
            state_dir=config.state_dir,
            log_dir=_log_directory(config),
            run_directory=RUN_DIRECTORY,
            environment=environment(self.node),
            cgroup=config.cgroup,
            v1=config.v1,
            directories=self.node.job_files,
            crontabs=self.node.crontabs,
            units=self.node.units,
            emissions=lambda: boot.events_of(self.node),
        )
        super().__init__(inheritance, place)
        self.sessions = Sessions(self)
        self.handlers |= {**self.sessions.handlers, "reload": self.reload}

    def described_jobs(self) -> tuple[Job, ...]:
        return self.node.jobs

    def install_names(self) -> None:
        """Upstart's names, and the stand-in for a daemon that a node cannot have."""
        super().install_names()
        with contextlib.suppress(OSError):
            stand_in.install(self.place.bin)

    def disconnected(self, connection: Connection) -> None:
        self.sessions.disconnected(connection)

    def setup(
        self, argv: tuple[str, ...], extra: Mapping[str, str], **changes: Any
    ) -> ProcessSetup:
        """A process with everything that the node prescribes, and these changes."""
        node = self.node
        values: dict[str, Any] = {
            "argv": argv,
            "environment": environment(node) | dict(extra),
            "capabilities": node.capabilities,
            "no_new_privs": node.no_new_privs,
            "seccomp": self.config.seccomp,
            "rlimits": (*_fork_limit(self.config.forks), *rlimits(node)),
            "cgroup": self.jobs.cgroups.commands if "jobs" in vars(self) else self.config.cgroup,
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

    def network_of(self, job: Job) -> int | None:
        pair = next((pair for pair in job.namespaces if pair[0] == "net"), None)
        return None if pair is None else self.config.shared.get(pair)

    def resumption(self) -> Resumption:
        from hostlab.init import resume

        return resume.of_node(self.config, self.inheritance)

    async def reload(self, request: Request) -> None:
        """Take up the node's changed description; the jobs that are named restart or reload."""
        self.node = _stored(self.config)
        self.begin()
        self.directories.change(self.node.job_files)
        self.crontabs.change(self.node.crontabs)
        await self.change_units(self.node.units)
        restart, reload = (request.message.get(key, ()) for key in ("restart", "reload"))
        await self.described.change(frozenset(restart), frozenset(reload))
        # A name that is described no longer is a file's again.
        self.directories.read()


def _log_directory(config: NodeConfig) -> int:
    with contextlib.suppress(FileExistsError):
        os.mkdir(LOGS, mode=0o700, dir_fd=config.state_dir)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    return os.open(LOGS, flags, dir_fd=config.state_dir)


def _stored(config: NodeConfig) -> Node:
    """The node as last written, or as it was at the start when the run directory is gone."""
    try:
        fd = os.open(STATE_FILE, os.O_RDONLY | os.O_CLOEXEC, dir_fd=config.state_dir)
    except OSError:
        return config.node
    with os.fdopen(fd, "rb") as file:
        return typed.decode(file.read(), Node)
