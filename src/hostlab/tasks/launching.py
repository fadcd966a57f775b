"""Starting a task.

Under the task's lock: its cgroups and limits, its log, its record, then the process. That is born
from a *starter*, a child that enters the v1 hierarchies (v2 is entered by clone3) and then ends: so
neither the caller nor a keeper is ever among the task's processes. The caller knows from the
starter whether `execve` has happened.

A keeper is forked from the caller, and is the starter's parent; in the foreground the caller is
the keeper itself. It writes itself down before anything is started, so that there is no instant at
which a task runs that nobody could find.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from hostlab import typed
from hostlab.errors import Failed, Problem, Unsupported, UsageError
from hostlab.init.spawning.child import EXECUTE
from hostlab.init.spawning.process import (
    ProcessSetup,
    SpawnFailed,
    exit_of,
    prepare_to_spawn,
    signal_group,
    spawn,
)
from hostlab.linux import cgroups
from hostlab.linux.libc import prctl
from hostlab.tasks import groups, places
from hostlab.tasks.ended import cleared_away, finish, is_there, sweep
from hostlab.tasks.places import Namespace, Tracking
from hostlab.tasks.records import (
    MARK_VARIABLE,
    Keeper,
    Record,
    locked_task,
    remove_record,
    write_record,
)
from hostlab.tasks.stopping import must_be_owner

PR_SET_CHILD_SUBREAPER: Final = 36
FORWARDED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)
"""What a keeper in the foreground hands to the command."""
MAX_ATTEMPTS: Final = 100
"""Each time somebody else has started the task, and it has ended, in between."""
_ENTER: Final = "cgroup"
_RECORD: Final = "record"
_KEEPER: Final = str(Path(__file__).with_name("keeper.py"))


@dataclass(frozen=True, slots=True)
class Wanted:
    """A task to start."""

    task: str
    argv: tuple[str, ...]
    foreground: bool = False
    logged: bool = False
    """Write the log in the foreground, too."""
    log: str | None = None
    """Instead of the namespace's own log file; means `logged`."""
    hook: str | None = None
    """For /bin/sh, when the task has ended."""
    memory: int | None = None
    cpus: float | None = None
    cpuset: str | None = None
    pids: int | None = None

    @property
    def limits(self) -> tuple[cgroups.Limit, ...]:
        """What to write into cgroups."""
        return cgroups.limits(memory=self.memory, cpu=self.cpus, cpus=self.cpuset, pids=self.pids)


class _Report(msgspec.Struct, frozen=True):
    """What a starter or a keeper tells its parent."""

    pid: int = 0
    step: str = ""
    number: int = 0
    """The errno of the step that failed."""


@dataclass(frozen=True, slots=True)
class _Start:
    """What is needed to start, with descriptors that the caller closes."""

    namespace: Namespace
    wanted: Wanted
    log: str | None
    setup: ProcessSetup
    record: Record | None
    entered: tuple[str, ...] = field(default=())
    """Cgroups of v1."""


def run(name: str, wanted: Wanted) -> int:
    """Start a task; in the foreground the command's exit status, once the task has ended whole.

    Failed in lanĉo's words when it runs already, or when the command cannot be run.
    """
    if wanted.foreground:
        # One that comes before the command is known is handed on when it is.
        signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    with places.held(name) as namespace:
        must_be_owner(namespace, f"run task {wanted.task}")
        main = _start_once(namespace, wanted)
    return _keep(namespace, wanted.task, main) if wanted.foreground else 0


def _start_once(namespace: Namespace, wanted: Wanted) -> int:
    """Start a task unless it runs; the pid of its first process."""
    task = wanted.task
    sweep(namespace)
    for _ in range(MAX_ATTEMPTS):
        finish(namespace, task)
        with locked_task(namespace, task):
            if groups.is_running(namespace, task):
                raise Failed("running", f"task {task} is already running")
            # If it has ended since, its hook comes first, which takes that nobody has the lock.
            if not is_there(namespace, task):
                return _start(namespace, wanted)
    raise Failed("running", f"task {task} is started and ends again and again")


def _start(namespace: Namespace, wanted: Wanted) -> int:
    """Make everything and start; what was made is gone again when it fails."""
    with contextlib.ExitStack() as stack:
        try:
            _make_cgroups(namespace, wanted)
            log = _log_path(namespace, wanted)
            start = _prepared(namespace, wanted, log, stack)
            report = _reported(start)
            if report.step:
                raise _explained(namespace, wanted, report)
        except BaseException:
            remove_record(namespace, wanted.task)
            cleared_away(namespace, wanted.task)
            raise
    return report.pid


def _make_cgroups(namespace: Namespace, wanted: Wanted) -> None:
    try:
        for path in namespace.cgroups_of(wanted.task):
            cgroups.make(path)
    except OSError as error:
        raise places.unusable(namespace.directory, error) from error
    for limit in wanted.limits:
        try:
            if not _limited(namespace, wanted.task, limit):
                raise Unsupported(
                    "limit",
                    f"task {wanted.task}: no {limit.controller} controller for this namespace",
                    hint="`hostlab doctor` says which limits this machine can hold, and why",
                )
        except OSError as error:
            said = " ".join(value for _, value in limit.v2[:1])
            raise UsageError(
                "limit",
                f"task {wanted.task}: {limit.controller} cannot be {said}: {error.strerror}",
            ) from error


def _limited(namespace: Namespace, task: str, limit: cgroups.Limit) -> bool:
    if (base := namespace.v1.get(limit.controller)) is not None:
        files = limit.v1
    elif namespace.unified is not None:
        base, files = namespace.unified, limit.v2
    else:
        return False
    if not os.path.exists(f"{base}/task-{task}/{files[0][0]}"):
        return False
    for name, value in files:
        with contextlib.suppress(FileNotFoundError):
            cgroups.write(f"{base}/task-{task}/{name}", value)
    return True


def _log_path(namespace: Namespace, wanted: Wanted) -> str | None:
    if wanted.log is not None:
        return os.path.abspath(wanted.log)
    if wanted.logged or not wanted.foreground:
        return namespace.log(wanted.task)
    return None


def _opened_log(path: str) -> int:
    """A new file; what was of that name becomes NAME.1."""
    try:
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, f"{path}.1")
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise Unsupported(
            "log",
            f"unable to redirect output to {path}: {error.strerror}",
            hint="-l FILE writes elsewhere",
        ) from error


def _prepared(
    namespace: Namespace, wanted: Wanted, log: str | None, stack: contextlib.ExitStack
) -> _Start:
    descriptors = [0, 1, 2]
    if log is not None:
        descriptors[1] = descriptors[2] = _opened_log(log)
        stack.callback(os.close, descriptors[1])
    if not wanted.foreground:
        descriptors[0] = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, descriptors[0])
    entered = list(namespace.cgroups_of(wanted.task))
    cgroup = None
    if namespace.unified is not None:
        path = f"{namespace.unified}/task-{wanted.task}"
        entered.remove(path)
        cgroup = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, cgroup)
    identity = secrets.token_hex(8)
    is_kept = wanted.hook is not None or namespace.tracking is Tracking.KEEPER
    setup = ProcessSetup(
        argv=wanted.argv,
        environment={**os.environ, MARK_VARIABLE: identity},
        directory=_working_directory(),
        descriptors=tuple(descriptors),
        cgroup=cgroup,
        umask=_umask(),
    )
    record = Record(Keeper.this(), identity, wanted.hook, log) if is_kept else None
    return _Start(namespace, wanted, log, setup, record, tuple(entered))


def _working_directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "/"


def _umask() -> int:
    current = os.umask(0o077)
    os.umask(current)
    return current


def _reported(start: _Start) -> _Report:
    """Start: as a keeper, from one in the background, or with none."""
    if start.wanted.foreground:
        if start.record is not None:
            write_record(start.namespace, start.wanted.task, start.record)
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        return _born(start)
    if start.record is None:
        return _born(start)
    return _in_child(lambda tell: _be_keeper(start, tell), stays=True)


def _born(start: _Start) -> _Report:
    """The task's first process, from a starter that has ended when this returns."""
    return _in_child(lambda tell: _tell_start(start, tell))


def _tell_start(start: _Start, tell: int) -> None:
    try:
        for path in start.entered:
            cgroups.write(f"{path}/cgroup.procs", "0")
        prepare_to_spawn()
        pid, _ = spawn(start.setup, key="", channel=None)
        report = _Report(pid)
    except SpawnFailed as failed:
        report = _Report(step=failed.step, number=failed.errno)
    except OSError as error:
        report = _Report(step=_ENTER, number=error.errno or 0)
    os.write(tell, msgspec.json.encode(report))


def _be_keeper(start: _Start, tell: int) -> None:
    """Start the task as its subreaper, then become `keeper.py`; returns when that cannot be."""
    os.setsid()
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    assert start.record is not None, "only a task with a record has a keeper"
    record = msgspec.structs.replace(start.record, keeper=Keeper.this())
    try:
        write_record(start.namespace, start.wanted.task, record)
        report = _born(start)
    except Problem as problem:
        cause = problem.__cause__
        number = (cause.errno or 0) if isinstance(cause, OSError) else 0
        report = _Report(step=_RECORD, number=number)
    os.write(tell, msgspec.json.encode(report))
    if report.step:
        return
    for target, fd in enumerate(start.setup.descriptors):
        os.dup2(fd, target, inheritable=True)
    python = sys.executable
    ended = [python, "-P", "-m", "hostlab.tasks.ended", start.namespace.name, start.wanted.task]
    os.execv(python, [python, "-I", "-S", _KEEPER, *ended])


def _in_child(work: Callable[[int], None], *, stays: bool = False) -> _Report:
    """Do `work` in a child; what it has told. It has ended then, unless it `stays` and all is well.

    The pipe is at its end when the child has ended or become another program.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _child(work, writer)
    os.close(writer)
    with open(reader, "rb") as pipe:
        told = pipe.read()
    report = typed.decode(told, _Report) if told else _Report(step="it was killed")
    if report.step or not stays:
        os.waitpid(pid, 0)
    return report


def _child(work: Callable[[int], None], writer: int) -> NoReturn:
    try:
        work(writer)
    except BaseException as error:
        os.write(writer, msgspec.json.encode(_Report(step=repr(error))))
    finally:
        os._exit(0)


def _explained(namespace: Namespace, wanted: Wanted, report: _Report) -> Problem:
    """Why a task could not be started, in words for a person."""
    if report.step == _ENTER and namespace.tracking is Tracking.V2:
        return Unsupported(
            "delegation",
            f"unable to create sub-cgroup for task {wanted.task}: this shell is outside of what was"
            f" delegated to you: {os.strerror(report.number)}",
            hint="systemd-run --user --scope -p Delegate=yes hostlab task …",
        )
    reason = os.strerror(report.number) if report.number else ""
    if report.step == _RECORD:
        return places.unusable(namespace.tasks, OSError(report.number, reason))
    what = wanted.argv[0] if report.step == EXECUTE else f"{wanted.argv[0]}: {report.step}"
    return Failed("run", f"unable to run {what}" + (f": {reason}" if reason else ""))


def _keep(namespace: Namespace, task: str, main: int) -> int:
    """Be the keeper in the foreground: wait for the whole task, then end it properly.

    The command has a session of its own, so signals from the terminal are handed on to it.
    """
    status = 0
    for number in FORWARDED:
        signal.signal(number, lambda number, _: signal_group(main, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    while True:
        try:
            pid, found = os.wait()
        except ChildProcessError:
            break
        if pid == main:
            status = exit_of(found)["status"] or 0
            for number in FORWARDED:
                signal.signal(number, signal.SIG_DFL)
    with groups.opened(namespace, task) as group:
        if group is not None:
            group.wait_ended(None)
    finish(namespace, task)
    return status
