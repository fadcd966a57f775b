"""Stopping a task: TERM, after a while TERM again, then KILL, to every process of it."""

from __future__ import annotations

import os
import signal
from typing import Final

from hostlab.errors import Failed, Unsupported
from hostlab.tasks import groups, places
from hostlab.tasks.ended import finish
from hostlab.tasks.groups import Group
from hostlab.tasks.places import Namespace
from hostlab.tasks.records import is_kept, read_record

WAITS_S: Final = (20.0, 10.0, 5.0)
"""How long is waited after the first TERM, the second, and KILL."""


def stop(name: str, task: str, waits_s: tuple[float, float, float] = WAITS_S) -> None:
    """Stop a task whole; Failed in lanĉo's words when it does not run or does not end.

    A process that was stopped (SIGSTOP) goes on, so that it can hear. What the task wrote into its
    log stays; its exit hook is run by its keeper, or here when that is gone.
    """
    namespace = places.needed(name)
    must_be_owner(namespace, f"stop task {task}", root=True)
    with groups.opened(namespace, task) as group:
        if group is None or not group.is_running():
            raise Failed("not-running", f"task {task} is not running")
        try:
            is_ended = _ended(group, waits_s)
        except PermissionError as error:
            raise Unsupported("permission", f"unable to stop task {task}: {error}") from error
        if not is_ended:
            raise Failed(
                "unstoppable",
                f"unable to stop task {task}",
                hint="a process in uninterruptible sleep ends with what it waits for:"
                " `ps -o stat,wchan`",
            )
    record = read_record(namespace, task)
    if record is None or not is_kept(record):
        finish(namespace, task)


def _ended(group: Group, waits_s: tuple[float, float, float]) -> bool:
    *polite, last = waits_s
    for wait_s in polite:
        groups.signal_all(group, signal.SIGTERM, signal.SIGCONT)
        if group.wait_ended(wait_s):
            return True
    return group.kill(last)


def must_be_owner(namespace: Namespace, what: str, *, root: bool = False) -> None:
    """Unsupported unless the caller is the namespace's user, or (`root`) may act for any."""
    if os.geteuid() == namespace.uid or (root and os.geteuid() == 0):
        return
    raise Unsupported(
        "permission",
        f"unable to {what}: namespace {namespace.name} is of user {namespace.uid}",
        hint=f"call it as that user: setpriv --reuid {namespace.uid} --regid {namespace.gid}"
        " --clear-groups hostlab …",
    )
