"""From the engine's word that a process shall start to the process.

What a job says of its processes becomes a `ProcessSetup` on top of what the node prescribes. All
steps of a job are set up alike but the one that loads a security profile, which stays root without
limits, and only the main one changes to that profile, as in Upstart (init/job_process.c).
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec

from hostlab.errors import Unsupported
from hostlab.init.spawning.cgroup_stanza import limit_of
from hostlab.init.spawning.cgroups import JobCgroups, Place
from hostlab.init.spawning.given import Accepting
from hostlab.init.spawning.group_names import group_name
from hostlab.init.spawning.process import ProcessSetup, SpawnFailed, start
from hostlab.init.spawning.sandbox import remove_temporary
from hostlab.init.spawning.unit_setup import (
    file_variables,
    login_variables,
    make_directories,
    remove_directories,
)
from hostlab.jobs.command import command
from hostlab.jobs.effects import Spawn
from hostlab.jobs.environment import ExpansionError, expand
from hostlab.linux import cgroups, sock_ops
from hostlab.spec.job import DEFAULT_UMASK, Console, Directory, Job, Step

APPARMOR_ENABLED: Final = "/sys/module/apparmor/parameters/enabled"
FIRST_FD: Final = 3
FDS: Final = "UPSTART_FDS"


class Around(Protocol):
    """What a launcher needs of the supervisor that has it."""

    @property
    def channel(self) -> socket.socket | None:
        """To the holder, whose child the process is; None makes it the caller's."""

    def wait_for_room(self) -> None:
        """Wait until the holder takes what a new process says first."""
        ...

    def setup(
        self, argv: tuple[str, ...], extra: Mapping[str, str], **changes: Any
    ) -> ProcessSetup:
        """A process with everything that the node prescribes, and these changes."""
        ...

    def namespaces_of(self, job: Job) -> tuple[int, ...]:
        """Descriptors of the namespaces that a job joins."""
        ...


class Launched(msgspec.Struct, frozen=True):
    """A process that runs."""

    pid: int
    pidfd: int
    """The caller closes it."""
    warnings: tuple[str, ...] = ()
    """What of its job it goes without, and why."""
    peer: str | None = None
    """Whose connection it has accepted."""


def key_of(spawn: int) -> str:
    """What the holder calls a job's process."""
    return f"job:{spawn}"


class Launcher:
    """Starts the processes of one init's jobs.

    `temporary` is a directory of init's own for the private /tmp of jobs; without one each of
    their processes has another.
    """

    def __init__(
        self, around: Around, job_cgroups: JobCgroups, *, temporary: str | None = None
    ) -> None:
        self.around = around
        self.cgroups = job_cgroups
        self.temporary = temporary
        self._transient: dict[tuple[str, str], tuple[Directory, ...]] = {}
        """Directories of instances, some of which go with them."""

    def launch(
        self,
        effect: Spawn,
        *,
        stdio: tuple[int, int, int],
        further: Mapping[int, int] | None = None,
        environment: Mapping[str, str] | None = None,
        accepting: Accepting | None = None,
    ) -> Launched:
        """Start a process; raises SpawnFailed, or Unsupported for what the machine lacks.

        `stdio` become 0, 1, 2, `further` the numbers that are its keys; `environment` goes above
        the effect's. A connection that it is `accepting` becomes 3, or 0 and 1. All descriptors
        remain the caller's.
        """
        warnings: list[str] = []
        numbers = _numbered(effect.fds, further or {})
        make_directories(effect.job)
        self._transient[effect.job.name, effect.instance] = effect.job.directories
        values = dict(effect.environment)
        if effect.process.commands:
            said = dict(effect.job.environment)
            values |= {k: v for k, v in login_variables(effect.job).items() if k not in said}
        values |= file_variables(effect.job.environment_files, warnings)
        if effect.fds:
            values[FDS] = " ".join(str(number) for number in list(numbers)[: len(effect.fds)])
        values |= environment or {}
        place = self._place(effect, values, warnings)
        try:
            changes = self._changes(effect, values, warnings)
            changes |= {
                "descriptors": stdio,
                "further": numbers | dict(further or {}),
                "cgroup": place.directory or self.cgroups.commands,
                "enter": place.enter,
                "accepting": accepting,
            }
            found = command(effect.process, values)
            setup = self.around.setup(found.argv, values, script=found.script, **changes)
            self.around.wait_for_room()
            started = start(setup, key=key_of(effect.spawn), channel=self.around.channel)
        except BaseException:
            self.cgroups.remove(effect.spawn)
            raise
        finally:
            place.close()
        warnings += started.warnings
        return Launched(started.pid, started.pidfd, tuple(warnings), started.peer)

    def forget(self, job: str, instance: str) -> None:
        """An instance is gone: so go its cgroups, its private /tmp, and directories of its run."""
        self.cgroups.remove_instance(job, instance)
        remove_directories(self._transient.pop((job, instance), ()))
        if self.temporary is not None:
            with contextlib.suppress(OSError):
                remove_temporary(f"{self.temporary}/{group_name(job, instance)}")

    def _place(self, effect: Spawn, values: dict[str, str], warnings: list[str]) -> Place:
        job = effect.job
        wanted = job.resources
        limits = list(cgroups.limits(memory=wanted.memory_bytes, cpu=wanted.cpu, pids=wanted.pids))
        for stanza in job.cgroups:
            limit, note = limit_of(stanza, values)
            if limit is not None:
                limits.append(limit)
            if note is not None:
                warnings.append(note)
        place = self.cgroups.make(
            effect.spawn, job.name, effect.instance, limits, beside=effect.beside
        )
        warnings += place.warnings
        if job.tcp_congestion is not None:
            try:
                _set_congestion(place, job.tcp_congestion)
            except BaseException:
                place.close()
                self.cgroups.remove(effect.spawn)
                raise
        return place

    def _changes(
        self, effect: Spawn, values: dict[str, str], warnings: list[str]
    ) -> dict[str, Any]:
        """What the job changes of what the node prescribes."""
        job = effect.job
        changes: dict[str, Any] = {
            "lenient": True,
            "debug": job.debug,
            "owns_output": job.console is Console.LOG,
        }
        if job.namespaces:
            changes["namespaces"] = self.around.namespaces_of(job)
        if job.apparmor_switch is not None and effect.step is Step.MAIN:
            profile = _profile(job.apparmor_switch, values, warnings)
            if profile is not None:
                changes["apparmor"] = profile
        if effect.step is Step.SECURITY or effect.process.privileged:
            return changes
        if job.limits:
            node = self.around.setup(("true",), {}).rlimits
            changes["rlimits"] = (*node, *_limits(job))
        changes |= {
            "umask": DEFAULT_UMASK if job.umask is None else job.umask,
            "nice": job.nice,
            "oom_score_adj": job.oom_score_adj,
            "chroot": job.chroot,
            "directory": _working_directory(job),
            "private_tmp": job.private_tmp,
            "readonly_paths": job.readonly_paths,
            "writable_paths": job.writable_paths,
            "hidden_paths": job.hidden_paths,
        }
        if job.private_tmp and self.temporary is not None:
            changes["temporary"] = f"{self.temporary}/{group_name(job.name, effect.instance)}"
        is_root = job.main_is_root and effect.step is Step.MAIN
        if not is_root:
            changes |= {"user": job.user, "group": job.group, "groups": job.groups}
        capabilities = job.capabilities if is_root or not job.main_is_root else ()
        if capabilities is not None:
            changes |= {"capabilities": capabilities, "ambient": not is_root}
        if job.no_new_privs:
            changes["no_new_privs"] = True
        changes["inert_capset"] = job.inert_capset
        return changes


def _working_directory(job: Job) -> str:
    """Where it is; `/` instead of one that may be missing and is."""
    path = job.directory.removeprefix("-")
    may_miss = path != job.directory
    return "/" if may_miss and not os.path.isdir(f"{job.chroot or ''}{path}") else path


def _numbered(fds: tuple[int, ...], further: Mapping[int, int]) -> dict[int, int]:
    """Numbers from 3 on for descriptors whose number does not matter, in their order."""
    free = (n for n in range(FIRST_FD, FIRST_FD + len(fds) + len(further)) if n not in further)
    return dict(zip(free, fds, strict=False))


def _limits(job: Job) -> tuple[tuple[int, int, int], ...]:
    return tuple(
        (getattr(resource, f"RLIMIT_{each.resource.upper()}"), each.soft, each.hard)
        for each in job.limits
    )


def _profile(name: str, values: Mapping[str, str], warnings: list[str]) -> str | None:
    """The AppArmor profile to change to; a kernel without AppArmor is no obstacle to the job."""
    try:
        with open(APPARMOR_ENABLED) as answer:
            has_apparmor = answer.read(1) == "Y"
    except OSError:
        has_apparmor = False
    if not has_apparmor:
        warnings.append(f"this kernel has no AppArmor for its profile {name}")
        return None
    try:
        return expand(name, values)
    except ExpansionError:
        raise SpawnFailed("switch security profile", 0, name) from None


def _set_congestion(place: Place, algorithm: str) -> None:
    """Have the sockets of a cgroup use this congestion control."""
    if place.directory is None:
        raise Unsupported(
            "tcp-congestion",
            f"no cgroup for a job whose TCP shall use {algorithm}",
            hint="`sysctls: {net.ipv4.tcp_congestion_control: …}` sets it for the whole node",
        )
    sock_ops.set_congestion(place.directory, algorithm)
