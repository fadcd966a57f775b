"""Starting a process: the description of one, and the caller's side of `clone3`."""

from __future__ import annotations

import errno
import os
import signal
import socket
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from hostlab.errors import Failed
from hostlab.init.spawning import child, direct
from hostlab.init.spawning.given import Accepting
from hostlab.linux import vfork
from hostlab.linux.capabilities import remember_bounding_set
from hostlab.linux.clone import CLONE_PARENT, clone3

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ROOT_HOME: Final = child.ROOT_HOME


class SpawnFailed(Failed):
    """A process could not be set up: `step` is what failed, `errno` the kernel's reason or 0."""

    def __init__(self, step: str, number: int, what: str) -> None:
        super().__init__("spawn", f"{what}: {_unable(step, number)}", hint=_hint(step, number))
        self.step = step
        self.errno = number
        named = f": {what}" if step == child.EXECUTE else ""
        self.reason = f"{os.strerror(number)}{named}" if number else ""
        """As the engine's message has it behind the step."""


def _unable(step: str, number: int) -> str:
    reason = f": {os.strerror(number)}" if number else ""
    return f"unable to {step}{reason}"


def _hint(step: str, number: int) -> str | None:
    if step == child.EXECUTE and number == errno.ENOENT:
        return "the program is not in the node's PATH; see `hostlab exec NODE -- ls`"
    if step in (child.SETUID, "setgid") and number in (errno.EPERM, errno.EINVAL):
        return "a lab of a plain user has one user id; `hostlab doctor` says how to get more"
    return None


class ProcessSetup(msgspec.Struct, frozen=True):
    """One process to start."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: str = "/"
    user: str | None = None
    group: str | None = None
    capabilities: tuple[str, ...] | None = None
    """Exactly these; None leaves the caller's."""
    ambient: bool = False
    """A user other than root keeps them over `execve` too."""
    no_new_privs: bool = False
    seccomp: bytes | None = None
    inert_capset: bool = False
    """capset(2) says that it succeeded and changes nothing; implies `no_new_privs`."""
    rlimits: tuple[tuple[int, int, int], ...] = ()
    """(resource, soft, hard)."""
    descriptors: tuple[int, ...] = (0, 1, 2)
    """Become 0, 1, 2 … in this order."""
    controlling_tty: bool = False
    """Make descriptor 0 the session's terminal."""
    namespaces: tuple[int, ...] = ()
    """Descriptors of namespaces to join first."""
    cgroup: int | None = None
    """Descriptor of a cgroup v2 directory to start in."""
    umask: int = 0o022
    groups: tuple[str, ...] = ()
    """Supplementary groups beside the user's own."""
    oom_score_adj: int | None = None
    apparmor: str | None = None
    """The AppArmor profile that `execve` changes to."""
    owns_output: bool = False
    """Standard output and error are pipes that are to belong to its user."""
    script: str | None = None
    """Text of any length for the shell that `argv` starts, which gets its path behind `argv`."""
    further: Mapping[int, int] = msgspec.field(default_factory=dict)
    """Descriptors from 3 on: the number in the process -> the caller's own."""
    accepting: Accepting | None = None
    """A connection to accept first, which becomes 3, or 0 and 1."""
    enter: tuple[int, ...] = ()
    """`cgroup.procs` of cgroups v1, open for writing, to enter before anything else."""
    nice: int | None = None
    chroot: str | None = None
    private_tmp: bool = False
    """/tmp and /var/tmp that no other process sees."""
    temporary: str | None = None
    """Where those directories are, shared by all who name it; None: new and gone with it."""
    readonly_paths: tuple[str, ...] = ()
    """As the process names them, behind `chroot`."""
    writable_paths: tuple[str, ...] = ()
    """Within these."""
    hidden_paths: tuple[str, ...] = ()
    debug: bool = False
    """Stop before `execve`, for a debugger. Whether that succeeds is then not told."""
    lenient: bool = False
    """Refused limits, priority and OOM adjustment are a warning, as with systemd, no failure."""

    @property
    def has_own_mounts(self) -> bool:
        """Whether it sees other mounts than its node."""
        return bool(
            self.private_tmp or self.readonly_paths or self.writable_paths or self.hidden_paths
        )


class Started(NamedTuple):
    """A process whose `execve` has happened, and what it goes without, in sentences."""

    pid: int
    pidfd: int
    warnings: tuple[str, ...]
    peer: str | None = None
    """Whose connection it has accepted: `ADDRESS PORT`, or nothing of a Unix socket's."""


def spawn(setup: ProcessSetup, *, key: str, channel: socket.socket | None) -> tuple[int, int]:
    """As `start`, for a process that must have all that is asked for: (pid, pidfd)."""
    assert not setup.lenient, "there is nobody to warn"
    started = start(setup, key=key, channel=channel)
    return started.pid, started.pidfd


def start(setup: ProcessSetup, *, key: str, channel: socket.socket | None) -> Started:
    """Start a process; returns once `execve` has happened, or raises SpawnFailed.

    With a `channel` the process is the holder's child and tells it `key` first; else the caller's.
    """
    made = direct.plan(setup, key, channel)
    if made is not None:
        started = _start_directly(setup, made, channel)
        if started is not None:
            return started
    reader, writer = os.pipe2(os.O_CLOEXEC)
    flags = CLONE_PARENT if channel is not None else 0
    try:
        pid, pidfd = clone3(flags, cgroup=setup.cgroup, hooks=False)
        if pid == 0:
            child.run(setup, key, channel, writer)
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    with open(reader, "rb", buffering=0) as pipe:
        report = pipe.read()
    warnings, peer = [], None
    for line in (report or b"").decode(errors="replace").splitlines():
        kind, number, step = line.split(" ", 2)
        if kind == child.WARNING:
            warnings.append(f"{_unable(step, int(number))}; it goes without")
            continue
        if kind == child.PEER:
            peer = step
            continue
        os.close(pidfd)
        if channel is None:
            os.waitpid(pid, 0)
        raise SpawnFailed(step, int(number), setup.argv[0])
    return Started(pid, pidfd, tuple(warnings), peer)


def _start_directly(
    setup: ProcessSetup, made: direct.Plan, channel: socket.socket | None
) -> Started | None:
    """The short way; None when the holder has too much to take just now."""
    flags = CLONE_PARENT if channel is not None else 0
    meeting = made.meeting
    try:
        meet = None if meeting is None else meeting.meet
        pid, pidfd, results = vfork.run(made.rows, flags, setup.cgroup, meet)
    finally:
        if meeting is not None:
            meeting.close()
    failed = made.failed(results)
    if meeting is not None and meeting.refused:
        failed = child.too_many(meeting.refused), 0
    if failed is None:
        return Started(pid, pidfd, (), None if meeting is None else meeting.peer)
    os.close(pidfd)
    if channel is None:
        os.waitpid(pid, 0)
    step, number = failed
    if step == direct.TELL and number == errno.EAGAIN:
        return None
    raise SpawnFailed(step, number, setup.argv[0])


def exit_of(status: int) -> dict[str, int | None]:
    """A wait status as an exit status, or the signal that ended the process."""
    if os.WIFSIGNALED(status):
        return {"status": 128 + os.WTERMSIG(status), "signal": os.WTERMSIG(status)}
    return {"status": os.WEXITSTATUS(status), "signal": None}


def signal_group(pid: int, number: int) -> None:
    """Signal a process group; one that has ended needs no signal."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return


_prepared: set[int] = set()
"""The user namespace in which this process, or one that it is forked of, has prepared."""


def prepare_to_spawn() -> None:
    """What every child of this process is spared; once, at the start of whoever spawns.

    `execve` keeps what is ignored and resets what is handled (signal(7)). What Python, `nohup` or
    a script's `&` has made ignored is no concern of a job's, so it is handled here, by nothing.

    What is known of capabilities and users is inherited by fork, so a node's supervisor has it of
    the hub. A new user namespace has a full bounding set again.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _do_nothing)
    namespace = os.stat("/proc/self/ns/user").st_ino
    if namespace in _prepared:
        return
    _prepared.clear()
    _prepared.add(namespace)
    remember_bounding_set(anew=True)
    vfork.prepare()
    child.remember_users()


def _do_nothing(number: int, frame: object) -> None:
    """A handler that leaves a system call's error, such as EPIPE, to its caller."""
