"""What is written down of one task: its exit hook and its keeper, before it is started.

A task without a hook in a cgroup has no record: the cgroup tells everything. Whoever starts, ends
or clears a task away holds its lock meanwhile; nobody holds it while a task runs or a hook does,
so a hook may start its own task again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Final

import msgspec

from hostlab import typed
from hostlab.linux import procfs
from hostlab.linux.lock_files import locked
from hostlab.tasks.places import Namespace, unusable, write_json

MARK_VARIABLE: Final = "HOSTLAB_TASK_MARK"
_RECORD: Final = ".json"


class Keeper(msgspec.Struct, frozen=True):
    """A process that waits for a task's end."""

    pid: int
    started: str
    """`procfs.start_time`: a later process of that number is another."""

    @classmethod
    def this(cls) -> Keeper:
        """The calling process."""
        return cls(os.getpid(), procfs.start_time(os.getpid()) or "")


class Record(msgspec.Struct, frozen=True):
    """One run of a task."""

    keeper: Keeper
    identity: str
    """No other run has it."""
    hook: str | None = None
    """For /bin/sh, when the task has ended."""
    log: str | None = None
    """Where the hook's output goes."""

    @property
    def mark(self) -> str:
        """In the environment of every process of the task that has not taken it out."""
        return f"{MARK_VARIABLE}={self.identity}"


@contextlib.contextmanager
def locked_task(namespace: Namespace, task: str) -> Iterator[None]:
    """Be the only one who changes a task; Unsupported when this user may not."""
    lock = locked(f"{namespace.tasks}/{task}.lock")
    try:
        lock.__enter__()
    except OSError as error:
        raise unusable(namespace.tasks, error) from error
    with contextlib.ExitStack() as stack:
        stack.push(lock)
        yield


def write_record(namespace: Namespace, task: str, record: Record) -> None:
    """Write it down, in place of an older one."""
    write_json(_path(namespace, task), record, mode=0o600)


def read_record(namespace: Namespace, task: str) -> Record | None:
    """None when the task has no record, or one that only its user may read."""
    try:
        with open(_path(namespace, task), "rb") as file:
            return typed.decode(file.read(), Record)
    except (FileNotFoundError, PermissionError, msgspec.DecodeError):
        return None


def remove_record(namespace: Namespace, task: str) -> None:
    """The task has been cleared away."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_path(namespace, task))


def recorded(namespace: Namespace) -> list[str]:
    """The tasks that have a record."""
    try:
        names = os.listdir(namespace.tasks)
    except (FileNotFoundError, PermissionError):
        return []
    return sorted(n.removesuffix(_RECORD) for n in names if n.endswith(_RECORD))


def is_kept(record: Record) -> bool:
    """Whether the keeper lives."""
    state = procfs.stat(record.keeper.pid)
    return state is not None and state.started == record.keeper.started and not state.has_ended


def _path(namespace: Namespace, task: str) -> str:
    return f"{namespace.tasks}/{task}{_RECORD}"
