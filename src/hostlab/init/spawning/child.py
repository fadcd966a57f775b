"""What a new process does between `clone3` and `execve`, in order, with named steps.

It is a copy of the supervisor, so it may run Python, but it does as little as it can. What it has
to tell goes through a close-on-exec pipe, a line each: a step that failed, with its errno, or one
that this kernel or user cannot do and that is gone without. End of file on that pipe means that
`execve` has happened.

The order is Upstart's (init/job_process.c, job_process_spawn()), and so are the names of the
steps: what its messages say behind "unable to". What Upstart did not have stands where it must:
namespaces first, mounts round the change of root, capabilities with the user.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import os
import pwd
import resource
import select
import signal
import socket
import termios
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NoReturn

from msgspec.structs import replace

from hostlab.init.spawning import sandbox
from hostlab.init.spawning.given import FIRST
from hostlab.linux.capabilities import (
    apply_sets,
    become,
    capset,
    exact_sets,
    held_until_execve,
    mask_of,
)
from hostlab.linux.libc import close_all_but, prctl, setns
from hostlab.linux.seccomp import apply as apply_seccomp
from hostlab.linux.seccomp import inert_capset

if TYPE_CHECKING:
    from hostlab.init.spawning.given import Accepting
    from hostlab.init.spawning.process import ProcessSetup
    from hostlab.linux.capabilities import CapabilitySets

Limit = tuple[int, int, int]
"""(resource, soft, hard)."""
ROOT_HOME: Final = "/root"
"""HOME of a process that says nothing else of it, unless it is another user's."""
PR_SET_DUMPABLE: Final = 4
USUAL_FILES: Final = 1024
"""The soft limit of open files that the kernel gives its first process (INR_OPEN_CUR)."""
EXECUTE: Final = "execute"
SETUID: Final = "setuid"
SCRIPT_FD: Final = 9
"""Where a shell finds its script, as in Upstart; below it where a job has use for this one."""
REPORT_BYTES: Final = 4096
LIMIT_NAMES: Final = {
    getattr(resource, name): name.removeprefix("RLIMIT_").lower()
    for name in dir(resource)
    if name.startswith("RLIMIT_") and name != "RLIMIT_OFILE"
}
"""The kernel's number of a limit -> its name in an Upstart job."""
_OWN_LIMITS: Final = frozenset(
    {resource.RLIMIT_AS, resource.RLIMIT_DATA, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE}
)
"""Those that this interpreter may be over already, though the program to come is not."""

FAILURE: Final = "-"
WARNING: Final = "~"
PEER: Final = "="
"""Whose connection it has accepted."""


class _Failed(Exception):
    """A step has failed."""

    def __init__(self, step: str, number: int = 0) -> None:
        super().__init__(step)
        self.step = step
        self.number = number


class Report:
    """The child's end of the pipe."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def write(self, kind: str, number: int, step: str) -> None:
        """Tell of a step, in one line and one write."""
        text = " ".join(step.split())[: REPORT_BYTES // 8]
        os.write(self.fd, f"{kind} {number} {text}\n".encode(errors="replace"))


class _step:
    """Names the step that an error inside belongs to; a refused one may only be a warning."""

    __slots__ = ("name", "report")

    def __init__(self, name: str, report: Report | None = None) -> None:
        self.name = name
        self.report = report

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if error is None or isinstance(error, _Failed):
            return False
        if isinstance(error, OSError):
            if self.report is not None and error.errno in _REFUSALS:
                self.report.write(WARNING, error.errno or 0, self.name)
                return True
            raise _Failed(self.name, error.errno or errno.EPROTO) from None
        if isinstance(error, MemoryError):
            raise _Failed(self.name, errno.ENOMEM) from None
        raise _Failed(f"{self.name} ({error})", errno.EINVAL) from None


_REFUSALS: Final = frozenset({errno.EPERM, errno.EACCES, errno.ENOENT, errno.EROFS})


def _introduce(channel: socket.socket, text: bytes) -> None:
    """The channel does not block, and the holder may have much to take."""
    while True:
        try:
            channel.send(text)
            return
        except BlockingIOError:
            poll = select.poll()
            poll.register(channel, select.POLLOUT)
            poll.poll()


def run(setup: ProcessSetup, key: str, channel: socket.socket | None, writer: int) -> NoReturn:
    """The child's whole life before its program's; `writer` is its end of the pipe."""
    report = Report(writer)
    try:
        if channel is not None:
            with _step("tell the holder"):
                _introduce(channel, f"+ {key}".encode())
        _prepare(setup, report)
    except _Failed as failed:
        report.write(FAILURE, failed.number, failed.step)
    except BaseException as error:
        report.write(FAILURE, errno.EPROTO, repr(error))
    finally:
        os._exit(127)


def _prepare(setup: ProcessSetup, report: Report) -> NoReturn:
    """Everything up to `execve`.

    The process has init's descriptors until then, and what runs in the node could open /proc/PID/fd
    if it had no fewer capabilities. So it keeps what it is permitted until `execve`. One that is
    another user's already has none in `hostlab init`: while it is not dumpable nobody may look
    (ptrace(2), PTRACE_MODE_READ); `execve` makes it dumpable again.
    """
    refused = report if setup.lenient else None
    oom = None
    if setup.oom_score_adj is not None:
        with _step("set oom adjustment", refused):
            oom = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    with _step("make a session"):
        os.setsid()
    with _step("enter cgroup"):
        for group in setup.enter:
            os.write(group, b"0")
    with _step("join namespace"):
        for fd in setup.namespaces:
            setns(fd, 0)
    if setup.accepting is not None:
        with _step("accept a connection"):
            setup = _accept(setup, setup.accepting, report)
    script = _descriptors(setup, report)
    if setup.controlling_tty:
        with _step("open console"):
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    if setup.apparmor is not None:
        with _step("switch security profile"), open("/proc/self/attr/apparmor/exec", "w") as file:
            file.write(f"exec {setup.apparmor}")
    late = _limit(setup, refused)
    os.umask(setup.umask)
    if setup.nice is not None:
        with _step("set priority", refused):
            os.setpriority(os.PRIO_PROCESS, 0, setup.nice)
    if oom is not None:
        with _step("set oom adjustment", refused):
            os.write(oom, str(setup.oom_score_adj).encode())
        os.close(oom)
    _place(setup)
    _identity(setup)
    if setup.inert_capset:
        with _step("set seccomp filter"):
            apply_seccomp(inert_capset(), no_new_privs=True)
    _execute(setup, script, late, report)


def too_many(host: str) -> str:
    """The step that fails when a connection's source may not have another."""
    return f"accept a connection of {host}, which has as many as it may"


def _accept(setup: ProcessSetup, accepting: Accepting, report: Report) -> ProcessSetup:
    """With the connection of who waits first among its descriptors, and who that is."""
    connection, peer = socket.socket(fileno=accepting.listener).accept()
    connection.setblocking(True)  # noqa: FBT003 - that is its signature
    if accepting.no_delay:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    fd = connection.detach()
    variables = dict(setup.environment)
    address = ""
    if isinstance(peer, tuple):
        host, port = str(peer[0]).removeprefix("::ffff:"), str(peer[1])
        if host in accepting.refused:
            raise _Failed(too_many(host))
        address = f"{host} {port}"
        variables |= {"REMOTE_ADDR": host, "REMOTE_PORT": port}
    report.write(PEER, 0, address)
    if accepting.is_inetd:
        changed = (fd, fd, *setup.descriptors[2:])
        return replace(setup, descriptors=changed, environment=variables)
    further = {FIRST: fd, **setup.further}
    return replace(setup, further=further, environment=variables)


def _descriptors(setup: ProcessSetup, report: Report) -> int | None:
    """Move descriptors to their numbers, and the script to one that is free, which is returned.

    First they go out of the way, so that none overwrites another.
    """
    targets = dict(enumerate(setup.descriptors)) | dict(setup.further)
    free = None
    if setup.script is not None:
        lower = [fd for fd in range(SCRIPT_FD, 2, -1) if fd not in targets]
        free = lower[0] if lower else max(targets) + 1
    above = max(100, *targets, free or 0) + 1
    with _step("move script fd" if setup.script is not None else "move descriptors"):
        report.fd = fcntl.fcntl(report.fd, fcntl.F_DUPFD_CLOEXEC, above)
        moved = {
            target: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for target, fd in targets.items()
        }
        if setup.script is not None and free is not None:
            memory = _script_file(setup.script, free)
            moved[free] = fcntl.fcntl(memory, fcntl.F_DUPFD_CLOEXEC, above)
            os.close(memory)
        for target, fd in moved.items():
            os.dup2(fd, target, inheritable=True)
        for fd in moved.values():
            os.close(fd)
    return free


def _script_file(script: str, fd: int) -> int:
    """A file in memory with the script, which the shell reads to its end however long it is.

    The shell has opened it by its path when it comes to the first command. That closes the
    descriptor, so that no daemon inherits it; dash knows descriptors of one digit only.
    """
    memory = os.memfd_create("script", os.MFD_CLOEXEC)
    closes = f"exec {fd}<&-; " if fd <= SCRIPT_FD else ""
    data = memoryview((closes + script).encode(errors="surrogateescape"))
    while data:
        data = data[os.write(memory, data) :]
    return memory


def _limit(setup: ProcessSetup, refused: Report | None) -> list[Limit]:
    """Set the limits; returns those that would hit this interpreter, for the last moment.

    One that may not be raised so far is raised as far as it may, which systemd does too. The
    setup's own earlier limit of the same resource is a bound: the node's, that a job may not lift.
    """
    late: list[Limit] = []
    bounds: dict[int, int] = {}
    for number, soft, hard in setup.rlimits:
        step = _limit_step(number)
        if _lower(soft, hard) != soft:
            raise _Failed(step, errno.EINVAL)
        wanted = _raise_limit(number, _lower(hard, bounds.get(number, resource.RLIM_INFINITY)))
        if wanted != hard:
            if refused is None:
                raise _Failed(step, errno.EPERM)
            refused.write(WARNING, errno.EPERM, step)
        bounds[number] = wanted
        if number in _OWN_LIMITS:
            late.append((number, _lower(soft, wanted), wanted))
        else:
            with _step(step):
                resource.setrlimit(number, (_lower(soft, wanted), wanted))
    if resource.RLIMIT_NOFILE not in bounds:
        # Init has raised its own; programs that use select(2) count on the usual one.
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        late.append((resource.RLIMIT_NOFILE, _lower(USUAL_FILES, hard), hard))
    return late


def _raise_limit(number: int, hard: int) -> int:
    """Raise the hard limit so far, if it is lower; returns what it can be."""
    soft, bound = resource.getrlimit(number)
    if _lower(hard, bound) == hard:
        return hard
    try:
        resource.setrlimit(number, (soft, hard))
    except ValueError:  # Python's word for EPERM here.
        return bound
    return hard


def _limit_step(number: int) -> str:
    return f'set "{LIMIT_NAMES.get(number, number)}" resource limit'


def _lower(one: int, other: int) -> int:
    if resource.RLIM_INFINITY in (one, other):
        return other if one == resource.RLIM_INFINITY else one
    return min(one, other)


def _place(setup: ProcessSetup) -> None:
    """Root, mounts and working directory."""
    temporary: tuple[int, ...] = ()
    if setup.has_own_mounts:
        with _step("make a mount namespace"):
            is_nested = sandbox.isolate()
        if is_nested and setup.capabilities:
            # They would be there, and hold for nothing that is outside of that namespace.
            raise _Failed("set capabilities", errno.EPERM)
    if setup.private_tmp and setup.temporary is not None:
        with _step("make a private /tmp"):
            temporary = sandbox.pick_up_temporary(setup.temporary)
    if setup.chroot is not None:
        with _step("change root directory"):
            os.chroot(setup.chroot)
    if setup.private_tmp:
        with _step("make a private /tmp"):
            sandbox.cover_temporary(temporary)
    own = sandbox.TEMPORARY if setup.private_tmp else ()
    for path in sandbox.to_protect(setup.readonly_paths):
        with _step(f"make {path} read-only"):
            sandbox.protect(path, besides=own)
    for path in sandbox.to_protect(setup.writable_paths):
        with _step(f"make {path} writable"):
            sandbox.let_write(path)
    for path in sandbox.to_protect(setup.hidden_paths):
        with _step(f"hide {path}"):
            sandbox.hide(path)
    with _step("change working directory"):
        os.chdir(setup.directory)


def _identity(setup: ProcessSetup) -> None:
    """Users are looked up here, in the node's own /etc/passwd or that of its `chroot`.

    The filter comes first: without `no_new_privs` only CAP_SYS_ADMIN may set one (seccomp(2)).
    """
    uid, gid, groups = _look_up(setup)
    with _step("set seccomp filter"):
        apply_seccomp(setup.seccomp or b"", no_new_privs=setup.no_new_privs)
    sets = None
    if setup.capabilities is not None:
        with _step("set capabilities"):
            sets = held_until_execve(_sets(setup.capabilities, ambient=setup.ambient))
    if uid is None:
        if sets is not None:
            with _step("set capabilities"):
                apply_sets(sets)
        return
    if setup.owns_output:
        _give_output(uid, gid)
    if os.geteuid() == 0 and _setgroups_allowed():
        with _step("initgroups"):
            os.setgroups(groups)
    with _step("setgid"):
        os.setresgid(gid, gid, gid)
    with _step(SETUID):
        if sets is not None:
            become(uid, gid, (), sets, set_groups=False)
        else:
            os.setresuid(uid, uid, uid)


def _sets(names: tuple[str, ...], *, ambient: bool) -> CapabilitySets:
    return exact_sets(mask_of(names), ambient=ambient)


def _give_output(uid: int, gid: int) -> None:
    """A pipe is its maker's: without this another user could not open /dev/stdout."""
    for fd in (1, 2):
        with contextlib.suppress(OSError):
            os.fchown(fd, uid, gid)


def _setgroups_allowed() -> bool:
    """A user namespace with one mapped id denies setgroups for good (user_namespaces(7))."""
    try:
        with open("/proc/self/setgroups") as answer:
            return answer.read().strip() != "deny"
    except OSError:
        return True


def remember_users() -> None:
    """Have the C library read its configuration of users now; it costs a child 200 pages."""
    with contextlib.suppress(KeyError):
        os.getgrouplist(pwd.getpwuid(0).pw_name, grp.getgrgid(0).gr_gid)


def _look_up(setup: ProcessSetup) -> tuple[int | None, int, list[int]]:
    """Numbers of the user, the group and all groups; a user of None when nothing is to change."""
    if setup.user is None and setup.group is None and not setup.groups:
        return None, 0, []
    uid, gid, name = os.geteuid(), os.getegid(), None
    if setup.user is not None:
        uid, gid, name = _user(setup.user)
    if setup.group is not None:
        gid = _group(setup.group)
    groups = os.getgrouplist(name, gid) if name is not None else []
    return uid, gid, groups + [_group(further) for further in setup.groups]


def _user(user: str) -> tuple[int, int, str | None]:
    if user.isdigit():
        return int(user), int(user), None
    with _step("getpwnam"):
        try:
            entry = pwd.getpwnam(user)
        except KeyError:
            raise _Failed(f"find setuid user {user}") from None
    return entry.pw_uid, entry.pw_gid, entry.pw_name


def _group(name: str) -> int:
    if name.isdigit():
        return int(name)
    with _step("getgrnam"):
        try:
            return grp.getgrnam(name).gr_gid
        except KeyError:
            raise _Failed(f"find setgid group {name}") from None
    raise AssertionError("a step either returns or raises")


def _execute(
    setup: ProcessSetup, script: int | None, late: Sequence[Limit], report: Report
) -> NoReturn:
    environment = dict(setup.environment)
    if setup.user is not None and environment.get("HOME") == ROOT_HOME:
        environment["HOME"] = _home_of(setup.user)
    if setup.further and "LISTEN_FDS" in environment:
        # Only the process itself knows its number; sd_listen_fds(3) compares it.
        environment["LISTEN_PID"] = str(os.getpid())
    argv = setup.argv
    if setup.script is not None:
        argv = _with_script(setup.argv, setup.script, script)
    if setup.debug:
        _stop_for_debugger(setup, {*range(len(setup.descriptors)), *setup.further, script or 0})
    for number, soft, hard in late:
        with _step(_limit_step(number)):
            resource.setrlimit(number, (soft, hard))
    with _step(EXECUTE):
        os.execvpe(argv[0], argv, environment)
    raise AssertionError("a step either returns or raises")


def _with_script(argv: tuple[str, ...], script: str, fd: int | None) -> tuple[str, ...]:
    for directory in ("/proc/self/fd", "/dev/fd"):
        if os.path.exists(f"{directory}/{fd}"):
            return (*argv, f"{directory}/{fd}")
    # A `chroot` with neither: then the kernel's bound on an argument holds (128 KiB, execve(2)).
    return (*argv, "-c", script, argv[0])


def _stop_for_debugger(setup: ProcessSetup, kept: set[int]) -> None:
    """As a job's `debug` asks: nobody waits any more, and what is init's is closed and given up."""
    close_all_but(kept)
    if setup.capabilities is not None:
        sets = _sets(setup.capabilities, ambient=setup.ambient)
        capset(effective=sets.effective, permitted=sets.permitted, inheritable=sets.inheritable)
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    os.kill(os.getpid(), signal.SIGSTOP)


def _home_of(user: str) -> str:
    """A user's home in the node's own /etc/passwd; `/` for a number that is nobody's."""
    try:
        entry = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except KeyError:
        return "/"
    return entry.pw_dir
