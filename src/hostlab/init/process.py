"""Starting a process: what happens between `clone3` and `execve`, in order, with named steps.

The child is a copy of the supervisor, so it may run Python, but it does as little as it can. Every
step that fails is reported through a close-on-exec pipe with its name and its errno; end of file on
that pipe means that `execve` has happened.
"""

from __future__ import annotations

import errno
import os
import resource
import shlex
import signal
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NoReturn

from hostlab.errors import Failed
from hostlab.linux.capabilities import (
    apply_sets,
    become,
    exact_sets,
    mask_of,
    remember_bounding_set,
)
from hostlab.linux.clone import CLONE_PARENT, clone3
from hostlab.linux.libc import prctl
from hostlab.linux.seccomp import apply as apply_seccomp

SHELL_CHARACTERS: Final = frozenset("~`!$^&*()=|\\{}[];\"'<>?\n")
"""As Upstart's: a command line with one of them is given to the shell (job_process.c)."""
DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ROOT_HOME: Final = "/root"
"""HOME of a process that says nothing else of it, unless it is another user's."""
PR_SET_DUMPABLE: Final = 4
_REPORT: Final = struct.Struct("=i")


class SpawnFailed(Failed):
    """A process could not be set up: `step` is what failed, `errno` the kernel's reason."""

    def __init__(self, step: str, number: int, what: str) -> None:
        reason = os.strerror(number)
        super().__init__("spawn", f"{what}: {step}: {reason}", hint=_hint(step, number))
        self.step = step
        self.errno = number


def _hint(step: str, number: int) -> str | None:
    if step == "exec" and number == errno.ENOENT:
        return "the program is not in the node's PATH; see `hostlab exec NODE -- ls`"
    if step == "user" and number == errno.EPERM:
        return "a lab of a plain user has one user id; `hostlab doctor` says how to get more"
    return None


@dataclass(frozen=True, slots=True)
class ProcessSetup:
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
    rlimits: tuple[tuple[int, int, int], ...] = ()
    """(resource, soft, hard)."""
    descriptors: tuple[int, ...] = (0, 1, 2)
    """Become 0, 1, 2 … in this order."""
    controlling_tty: bool = False
    """Make descriptor 0 the session's terminal."""
    namespaces: tuple[int, ...] = field(default=())
    """Descriptors of namespaces to join first."""
    cgroup: int | None = None
    """Descriptor of a cgroup v2 directory to start in."""
    umask: int = 0o022
    groups: tuple[str, ...] = ()
    """Supplementary groups beside the user's own."""
    oom_score_adj: int | None = None
    apparmor: str | None = None
    """The AppArmor profile that `execve` changes to."""


def command_line(command: str) -> tuple[str, ...]:
    """The argument vector of an `exec` line, through the shell where it needs one."""
    if SHELL_CHARACTERS.isdisjoint(command):
        words = shlex.split(command)
        if words:
            return tuple(words)
    return ("/bin/sh", "-e", "-c", command)


def spawn(setup: ProcessSetup, *, key: str, channel: socket.socket | None) -> tuple[int, int]:
    """Start a process; returns (pid, pidfd) once `execve` has happened, or raises SpawnFailed.

    With a `channel` the process is the holder's child and tells it `key` first; else the caller's.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    flags = CLONE_PARENT if channel is not None else 0
    try:
        pid, pidfd = clone3(flags, cgroup=setup.cgroup)
        if pid == 0:
            _child(setup, key, channel, writer)
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    try:
        report = os.read(reader, 256)
    finally:
        os.close(reader)
    if report:
        os.close(pidfd)
        if channel is None:
            os.waitpid(pid, 0)
        number = _REPORT.unpack_from(report)[0]
        raise SpawnFailed(report[_REPORT.size :].decode(), number, setup.argv[0])
    return pid, pidfd


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


class _Step(Exception):
    def __init__(self, name: str, number: int) -> None:
        super().__init__(name)
        self.name = name
        self.number = number


def _child(setup: ProcessSetup, key: str, channel: socket.socket | None, writer: int) -> NoReturn:
    try:
        if channel is not None:
            channel.send(f"+ {key}".encode())
        _prepare(setup)
        _execute(setup)
    except _Step as step:
        os.write(writer, _REPORT.pack(step.number) + step.name.encode())
    except OSError as error:
        os.write(writer, _REPORT.pack(error.errno or 0) + str(error.strerror).encode()[:200])
    except BaseException as error:
        os.write(writer, _REPORT.pack(errno.EPROTO) + repr(error).encode()[:200])
    finally:
        os._exit(127)


def _prepare(setup: ProcessSetup) -> None:
    """Everything before `execve`.

    The process has init's descriptors until then, and for its last steps no more capabilities than
    what runs in the node, which could open /proc/PID/fd. While it is not dumpable nobody may
    (ptrace(2), PTRACE_MODE_READ); `execve` makes it dumpable again.
    """
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    with _step("session"):
        os.setsid()
    _join(setup.namespaces)
    _descriptors(setup.descriptors)
    if setup.controlling_tty:
        with _step("terminal"):
            _control_terminal()
    os.umask(setup.umask)
    if setup.oom_score_adj is not None:
        _write_own("oom_score_adj", str(setup.oom_score_adj))
    if setup.apparmor is not None:
        _write_own("attr/apparmor/exec", f"exec {setup.apparmor}")
    with _step("limit"):
        for limit, soft, hard in setup.rlimits:
            resource.setrlimit(limit, (soft, hard))
    _identity(setup)
    with _step("directory"):
        os.chdir(setup.directory)


def prepare_to_spawn() -> None:
    """What every child of this process is spared; once, at the start of whoever spawns.

    `execve` keeps what is ignored and resets what is handled (signal(7)). What Python, `nohup` or
    a script's `&` has made ignored is no concern of a job's, so it is handled here, by nothing.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _do_nothing)
    remember_bounding_set()


def _do_nothing(number: int, frame: object) -> None:
    """A handler that leaves a system call's error, such as EPIPE, to its caller."""


class _step:
    """Names the step that an OSError inside belongs to."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise _Step(self.name, error.errno or 0) from None
        if isinstance(error, KeyError | ValueError):
            raise _Step(f"{self.name} {error}", errno.EINVAL) from None


def _write_own(name: str, value: str) -> None:
    with _step(name), open(f"/proc/self/{name}", "w") as file:
        file.write(value)


def _join(namespaces: Sequence[int]) -> None:
    if namespaces:
        from hostlab.linux.libc import setns

        with _step("namespace"):
            for fd in namespaces:
                setns(fd, 0)


def _descriptors(wanted: Sequence[int]) -> None:
    """Move descriptors to 0, 1, 2 … first out of the way, so that none overwrites another."""
    with _step("descriptors"):
        high = [_high_copy(fd) for fd in wanted]
        for target, fd in enumerate(high):
            os.dup2(fd, target, inheritable=True)
        for fd in high:
            os.close(fd)


def _high_copy(fd: int) -> int:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100)


def _control_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _identity(setup: ProcessSetup) -> None:
    """Users are looked up here, in the node's own /etc/passwd (job_process.c does the same).

    The filter comes first: without `no_new_privs` only CAP_SYS_ADMIN may set one (seccomp(2)).
    """
    uid, gid, groups = _look_up(setup.user, setup.group, setup.groups)
    with _step("seccomp"):
        apply_seccomp(setup.seccomp or b"", no_new_privs=setup.no_new_privs)
    with _step("capabilities"):
        if setup.capabilities is None:
            sets = None
        else:
            sets = exact_sets(mask_of(setup.capabilities), ambient=setup.ambient)
    with _step("user"):
        if uid is None and gid is None:
            if sets is not None:
                apply_sets(sets)
        elif sets is not None:
            become(uid or 0, gid or 0, tuple(groups or ()), sets, set_groups=_setgroups_allowed())
        else:
            os.setresgid(gid or 0, gid or 0, gid or 0)
            os.setresuid(uid or 0, uid or 0, uid or 0)


def _setgroups_allowed() -> bool:
    """A user namespace with one mapped id denies setgroups for good (user_namespaces(7))."""
    try:
        with open("/proc/self/setgroups") as answer:
            return answer.read().strip() != "deny"
    except OSError:
        return True


def _look_up(
    user: str | None, group: str | None, further: Sequence[str]
) -> tuple[int | None, int | None, list[int] | None]:
    if user is None and group is None and not further:
        return None, None, None
    import pwd

    uid = gid = None
    groups: list[int] = []
    with _step(f"user {user}"):
        if user is not None and user.isdigit():
            uid = gid = int(user)
        elif user is not None:
            entry = pwd.getpwnam(user)
            uid, gid = entry.pw_uid, entry.pw_gid
            groups = os.getgrouplist(user, gid)
    if group is not None:
        gid = _group(group)
    return uid, gid, groups + [_group(name) for name in further]


def _group(name: str) -> int:
    import grp

    with _step(f"group {name}"):
        return int(name) if name.isdigit() else grp.getgrnam(name).gr_gid
    raise AssertionError("a step either returns or raises")


def _execute(setup: ProcessSetup) -> NoReturn:
    environment = dict(setup.environment)
    if setup.user is not None and environment.get("HOME") == ROOT_HOME:
        environment["HOME"] = _home_of(setup.user)
    with _step("exec"):
        os.execvpe(setup.argv[0], setup.argv, environment)


def _home_of(user: str) -> str:
    """A user's home in the node's own /etc/passwd; `/` for a number that is nobody's."""
    import pwd

    try:
        entry = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except KeyError:
        return "/"
    return entry.pw_dir
