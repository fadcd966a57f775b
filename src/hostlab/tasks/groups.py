"""The processes of one task, however they are known: listed, signalled, killed, waited for.

A `Group` is opened for the task that runs now. It holds that task's identity (a descriptor of its
cgroup, or the record with its keeper), so one of the same name that is started later is never hit.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import time
from collections.abc import Iterator, Sequence
from typing import Final, Protocol, assert_never

from hostlab.linux import cgroups, procfs
from hostlab.tasks.places import Namespace, Tracking
from hostlab.tasks.records import Record, is_kept, read_record

BATCH: Final = 128
"""Processes that are held by a descriptor at once; a plain user may have 1,024 of them."""
SIGNAL_ROUNDS: Final = 3
"""A process may fork between the look and its signal; each round sees those that did."""
_FOR_EVER_S: Final = 2_000_000.0
"""poll(2) takes 31 bits of milliseconds."""
_PAUSE_MS: Final = 5
_GONE: Final = (errno.ENOENT, errno.ENODEV)


class Group(Protocol):
    """The processes of a task."""

    def processes(self) -> list[int]:
        """Those that live now."""

    def is_running(self) -> bool:
        """Whether there is one."""

    def wait_ended(self, timeout_s: float | None) -> bool:
        """Wait until there is none; False when that takes too long."""

    def kill(self, timeout_s: float) -> bool:
        """End all of them, also when they fork as fast as they can; False if one is left."""

    def close(self) -> None:
        """Let go of the task."""


@contextlib.contextmanager
def opened(namespace: Namespace, task: str) -> Iterator[Group | None]:
    """The group of a task; None when nothing of that name was started, or it was cleared away."""
    group = _open(namespace, task)
    try:
        yield group
    finally:
        if group is not None:
            group.close()


def is_running(namespace: Namespace, task: str) -> bool:
    """Whether a task runs."""
    with opened(namespace, task) as group:
        return group is not None and group.is_running()


def _open(namespace: Namespace, task: str) -> Group | None:
    match namespace.tracking:
        case Tracking.KEEPER:
            record = read_record(namespace, task)
            return None if record is None else Kept(namespace, task, record)
        case Tracking.V1 | Tracking.V2:
            first = namespace.cgroups_of(task)[0]
            try:
                fd = os.open(first, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
            if namespace.tracking is Tracking.V2:
                return V2(fd)
            pids = namespace.v1.get("pids")
            return V1(fd, None if pids is None else f"{pids}/task-{task}")
        case _:
            assert_never(namespace.tracking)


def signal_all(group: Group, *numbers: int) -> None:
    """Send signals to every process of a task, and to those that fork meanwhile."""
    told: set[int] = set()
    for _ in range(SIGNAL_ROUNDS):
        fresh = [pid for pid in group.processes() if pid not in told]
        if not fresh:
            return
        told.update(fresh)
        _signal(group, fresh, numbers)


def _signal(
    group: Group, pids: Sequence[int], numbers: Sequence[int], *, deadline: float | None = None
) -> None:
    """A number is looked up twice, with a pidfd between: it stands for a process of the task.

    With a `deadline`, wait until they have ended; for no others, which may be new.
    """
    for start in range(0, len(pids), BATCH):
        with _pidfds(pids[start : start + BATCH]) as held:
            members = set(group.processes())
            told = [fd for pid, fd in held.items() if pid in members]
            for fd in told:
                for number in numbers:
                    with contextlib.suppress(ProcessLookupError):
                        signal.pidfd_send_signal(fd, number)
            if deadline is not None:
                _wait_for(told, deadline)


@contextlib.contextmanager
def _pidfds(pids: Sequence[int]) -> Iterator[dict[int, int]]:
    held: dict[int, int] = {}
    try:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                held[pid] = os.pidfd_open(pid)
        yield held
    finally:
        for fd in held.values():
            os.close(fd)


def _wait_for(pidfds: Sequence[int], deadline: float | None) -> bool:
    """Wait until all of them have ended; False when that takes too long."""
    poll = select.poll()
    for fd in pidfds:
        poll.register(fd, select.POLLIN)
    waiting = len(pidfds)
    while waiting:
        left = None if deadline is None else (deadline - time.monotonic()) * 1000
        ended = poll.poll(left) if left is None or left > 0 else []
        if not ended:
            return False
        for fd, _ in ended:
            poll.unregister(fd)
        waiting -= len(ended)
    return True


def _wait_by_pidfds(group: Group, timeout_s: float | None) -> bool:
    """Wait for those that are seen, then look again: who is not seen was forked by one of them."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while group.is_running():
        with _pidfds(group.processes()[:BATCH]) as held:
            if not _wait_for(list(held.values()), deadline):
                return False
            if not held:  # all that was seen has ended, and its parent has not yet looked
                select.poll().poll(_PAUSE_MS)
        if deadline is not None and time.monotonic() > deadline:
            return not group.is_running()
    return True


def _kill_in_rounds(group: Group, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while group.is_running():
        if time.monotonic() > deadline:
            return False
        pids = group.processes()
        _signal(group, pids, (signal.SIGKILL,), deadline=deadline)
        if not pids:
            select.poll().poll(_PAUSE_MS)
    return True


class _Cgroup:
    """What both versions share: a descriptor of the directory, good for that very cgroup."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._path = f"/proc/self/fd/{fd}"

    def processes(self) -> list[int]:
        return cgroups.processes(self._path)

    def close(self) -> None:
        os.close(self._fd)


class V2(_Cgroup):
    """A cgroup v2."""

    def is_running(self) -> bool:
        try:
            with open(f"{self._path}/cgroup.events") as file:
                return "populated 1" in file.read()
        except OSError as error:
            if error.errno in _GONE:
                return False
            raise

    def wait_ended(self, timeout_s: float | None) -> bool:
        limit = _FOR_EVER_S if timeout_s is None else timeout_s
        try:
            return cgroups.wait_empty(self._fd, timeout_s=limit)
        except OSError as error:
            if error.errno in _GONE:
                return True
            raise

    def kill(self, timeout_s: float) -> bool:
        """`cgroup.kill` (Linux 5.14) also ends what is forked in that instant."""
        try:
            cgroups.write(f"{self._path}/cgroup.kill", "1")
        except OSError as error:
            if error.errno not in _GONE:
                raise
            return _kill_in_rounds(self, timeout_s)
        return self.wait_ended(timeout_s)


class V1(_Cgroup):
    """A cgroup of v1; its pids controller forbids to fork while it is killed."""

    def __init__(self, fd: int, pids: str | None) -> None:
        super().__init__(fd)
        self._pids = pids

    def is_running(self) -> bool:
        return bool(self.processes())

    def wait_ended(self, timeout_s: float | None) -> bool:
        return _wait_by_pidfds(self, timeout_s)

    def kill(self, timeout_s: float) -> bool:
        if self._pids is not None:
            with contextlib.suppress(OSError):
                cgroups.write(f"{self._pids}/pids.max", "0")
        return _kill_in_rounds(self, timeout_s)


def _descendants(keeper: int) -> list[int]:
    """Every process below another, zombies too."""
    found: dict[int, None] = {}
    waiting = [keeper]
    while waiting:
        fresh = [pid for pid in procfs.children(waiting.pop()) if pid not in found]
        found.update(dict.fromkeys(fresh))
        waiting += fresh
    return list(found)


class Kept:
    """What is below a keeper, and when that was killed, what has the task's mark.

    A keeper removes the record before it runs the exit hook, which is below it too: so what was
    seen below counts only while the record is still there afterwards. For root only processes of
    the namespace's user count: the record is that user's to write.
    """

    def __init__(self, namespace: Namespace, task: str, record: Record) -> None:
        self._namespace = namespace
        self._task = task
        self._record = record

    def processes(self) -> list[int]:
        if is_kept(self._record):
            return [pid for pid in self._below() if self._counts(pid)]
        marked = procfs.with_environment(self._record.mark.encode())
        return [pid for pid in marked if self._counts(pid)]

    def _below(self) -> list[int]:
        found = _descendants(self._record.keeper.pid)
        return found if read_record(self._namespace, self._task) == self._record else []

    def _counts(self, pid: int) -> bool:
        state = procfs.stat(pid)
        if state is None or state.has_ended:
            return False
        try:
            return os.geteuid() != 0 or os.stat(f"/proc/{pid}").st_uid == self._namespace.uid
        except FileNotFoundError:
            return False

    def is_running(self) -> bool:
        """Until the keeper has reaped them all, there is one that may have forked another."""
        if is_kept(self._record):
            return bool(self._below())
        return bool(self.processes())

    def wait_ended(self, timeout_s: float | None) -> bool:
        return _wait_by_pidfds(self, timeout_s)

    def kill(self, timeout_s: float) -> bool:
        """First everything is stopped, until nothing else is found; then all are killed.

        What forks and ends at once is gone before a signal to it arrives. Its process group is not,
        and a signal to a group also reaches whoever is being forked into it (kernel/fork.c).
        """
        deadline = time.monotonic() + timeout_s
        stopped: set[int] = set()
        while time.monotonic() < deadline and is_kept(self._record):
            fresh = [pid for pid in self._below() if pid not in stopped]
            if not fresh:
                break
            stopped.update(fresh)
            for pid in fresh:
                self._stop(pid)
        return _kill_in_rounds(self, max(0.0, deadline - time.monotonic()))

    def _stop(self, pid: int) -> None:
        """Numbers are used again only after all others, so at this moment `pid` is the task's."""
        if os.geteuid() == 0 and not self._counts(pid):
            return
        with contextlib.suppress(ProcessLookupError):
            group = os.getpgid(pid)
            if group not in (os.getpgrp(), os.getpgid(self._record.keeper.pid)):
                os.killpg(group, signal.SIGSTOP)
            os.kill(pid, signal.SIGSTOP)

    def close(self) -> None:
        return
