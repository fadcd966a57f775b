"""What is to be seen of a namespace: its tasks, their processes, what they have used."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Final

import msgspec

from hostlab.linux import cgroups, procfs
from hostlab.tasks import groups
from hostlab.tasks.places import Namespace, Tracking
from hostlab.tasks.records import recorded

_PREFIX: Final = "task-"


class Process(msgspec.Struct, frozen=True):
    """A process of a task."""

    pid: int
    cmdline: str | None
    parent: int
    """Its parent, or whoever it was left to."""


class Task(msgspec.Struct, frozen=True):
    """A task that runs."""

    name: str
    processes: tuple[Process, ...]
    cpu_ns: int
    """Processor time of all it ever had; with a keeper, of the processes that live."""
    memory_bytes: int


def known_tasks(namespace: Namespace) -> list[str]:
    """Every task of which anything is there, running or not."""
    names = set(recorded(namespace))
    for path in namespace.cgroups:
        found = cgroups.below(path) or ()
        names.update(n.removeprefix(_PREFIX) for n in found if n.startswith(_PREFIX))
    return sorted(names)


def running_tasks(namespace: Namespace) -> tuple[Task, ...]:
    """Those that run, by name."""
    found = []
    for name in known_tasks(namespace):
        with groups.opened(namespace, name) as group:
            if group is not None and group.is_running():
                found.append(_task(namespace, name, sorted(group.processes())))
    return tuple(found)


def namespace_cpu_ns(namespace: Namespace, tasks: tuple[Task, ...]) -> int:
    """Processor time of the namespace since it was made; with keepers, of what lives."""
    kept = sum(task.cpu_ns for task in tasks)
    return _cgroup_cpu_ns(namespace, "") or kept


def dump(namespace: Namespace) -> dict[str, object]:
    """Everything that is known, under lanĉo's keys; what cannot be known is left out.

    `cpu` is in nanoseconds, `memory` in bytes, `timestamp` in milliseconds of the monotonic clock.
    """
    tasks = running_tasks(namespace)
    cpu = namespace_cpu_ns(namespace, tasks)
    return {
        "namespace": namespace.name,
        "count": len(tasks),
        "tasks": {task.name: _dumped(task) for task in tasks},
        **({"cpu": cpu} if cpu else {}),
        "nbcpus": os.cpu_count() or 1,
        "timestamp": time.monotonic_ns() // 1_000_000,
    }


def _dumped(task: Task) -> dict[str, object]:
    return {
        "count": len(task.processes),
        "processes": [{"pid": one.pid, "cmdline": one.cmdline} for one in task.processes],
        **({"cpu": task.cpu_ns} if task.cpu_ns else {}),
        **({"memory": task.memory_bytes} if task.memory_bytes else {}),
    }


def _task(namespace: Namespace, name: str, pids: list[int]) -> Task:
    states = {pid: state for pid in pids if (state := procfs.stat(pid)) is not None}
    processes = tuple(
        Process(pid, procfs.command_line(pid), state.parent) for pid, state in states.items()
    )
    below = f"/{_PREFIX}{name}"
    cpu = _cgroup_cpu_ns(namespace, below) or sum(s.cpu_ns for s in states.values())
    memory = _cgroup_memory(namespace, below) or sum(s.resident_bytes for s in states.values())
    return Task(name, processes, cpu, memory)


def _cgroup_cpu_ns(namespace: Namespace, below: str) -> int:
    if (path := namespace.v1.get("cpuacct")) is not None:
        return _number(f"{path}{below}/cpuacct.usage")
    if namespace.tracking is Tracking.V2 and namespace.unified is not None:
        return _number(f"{namespace.unified}{below}/cpu.stat", "usage_usec ") * 1000
    return 0


def _cgroup_memory(namespace: Namespace, below: str) -> int:
    if (path := namespace.v1.get("memory")) is not None:
        return _number(f"{path}{below}/memory.usage_in_bytes")
    return _number(f"{namespace.unified}{below}/memory.current")


def _number(path: str, key: str = "") -> int:
    with contextlib.suppress(OSError), open(path) as file:
        for line in file:
            if line.startswith(key):
                return int(line.removeprefix(key))
    return 0
