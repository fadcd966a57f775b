"""The end of a task: its cgroups go, its record goes, its exit hook runs.

Who does it: the task's keeper, and should that have been killed, whoever comes next: `stop`, `run`
of the same name, `release`. The record goes before the hook starts, so that it runs at most once.

`python -m hostlab.tasks.ended NAMESPACE TASK` is what a keeper becomes when its task has ended.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys

from hostlab.linux import cgroups
from hostlab.tasks import groups, places
from hostlab.tasks.figures import known_tasks
from hostlab.tasks.places import Namespace
from hostlab.tasks.records import Record, locked_task, read_record, remove_record


def cleared_away(namespace: Namespace, task: str) -> Record | None:
    """Clear away a task that does not run, the caller holding its lock; its record if it had one.

    Only its user does: for anybody else nothing is changed.
    """
    if os.geteuid() != namespace.uid:
        return None
    record = read_record(namespace, task)
    try:
        for path in namespace.cgroups_of(task):
            cgroups.remove(path)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return None  # somebody has put a process into it
    remove_record(namespace, task)
    return record


def finish(namespace: Namespace, task: str, *, hook: bool = True) -> bool:
    """Clear away a task if it has ended, and run its hook; False if there was nothing to do."""
    if os.geteuid() != namespace.uid or not is_there(namespace, task):
        return False
    with locked_task(namespace, task):
        if groups.is_running(namespace, task) or not is_there(namespace, task):
            return False
        record = cleared_away(namespace, task)
    if hook and record is not None and record.hook is not None:
        _run_hook(namespace, task, record.hook, record.log)
    return True


def sweep(namespace: Namespace) -> None:
    """Clear away every task that has ended without a keeper to do it: empty cgroups."""
    for task in known_tasks(namespace):
        if read_record(namespace, task) is None and not groups.is_running(namespace, task):
            finish(namespace, task, hook=False)


def is_there(namespace: Namespace, task: str) -> bool:
    """Whether anything of a task is there, running or not."""
    if read_record(namespace, task) is not None:
        return True
    return any(map(os.path.isdir, namespace.cgroups_of(task)))


def _run_hook(namespace: Namespace, task: str, hook: str, log: str | None) -> None:
    """Run it to its end; its status is nobody's concern. The record must be gone already."""
    environment = {
        **os.environ,
        "HOSTLAB_NAMESPACE": namespace.name,
        "HOSTLAB_TASK": task,
    }
    output = _log(log)
    try:
        subprocess.run(
            ["/bin/sh", "-c", hook],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
        )
    finally:
        if output is not None:
            os.close(output)


def _log(path: str | None) -> int | None:
    """The task's log, or what the caller writes to when there is none or no room for one."""
    if path is None:
        return None
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError:
        return None


def main(name: str, task: str) -> None:
    """Wait for what is not below the keeper, if somebody has put that into the task; finish."""
    namespace = places.needed(name)
    with groups.opened(namespace, task) as group:
        if group is not None:
            group.wait_ended(None)
    finish(namespace, task)


if __name__ == "__main__":
    main(*sys.argv[1:])
