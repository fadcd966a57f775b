"""A node's limits: which cgroup files are written, in either version."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import Final

from hostlab.errors import Unsupported
from hostlab.linux import cgroups
from hostlab.spec.model import Node

GONE_TIMEOUT_S: Final = 30.0
DEFAULT_PIDS: Final = 4096
"""What a node without a limit of its own may fork, so that a fork bomb leaves the others alone."""


def apply(unified: str | None, v1: dict[str, str], node: Node, processes: Sequence[int]) -> None:
    """Write a node's limits, and put these processes under them where v1 wants that."""
    wanted = node.limits
    pids = wanted.pids if wanted.pids is not None else DEFAULT_PIDS
    for limit in cgroups.limits(memory=wanted.memory, cpu=wanted.cpu, cpus=wanted.cpus, pids=pids):
        if limit.controller in v1:
            _write_v1(v1[limit.controller], node.name, limit, processes)
        elif unified is not None and _write_v2(f"{unified}/{node.name}", limit):
            continue
        elif limit.controller != "pids" or wanted.pids is not None:
            raise Unsupported(
                "limit",
                f"node {node.name}: no {limit.controller} controller for this user here",
                hint="`hostlab doctor` says which limits this machine can hold, and why",
            )


def change(unified: str | None, v1: dict[str, str], old: Node, new: Node) -> None:
    """Give a running node other limits: those it loses are lifted, all its processes get in."""
    was, now = old.limits, new.limits
    gone = [
        field
        for field in ("memory", "cpu", "cpus")
        if getattr(was, field) is not None and getattr(now, field) is None
    ]
    for controller, version_1, version_2 in cgroups.unlimited(gone):
        if controller in v1:
            base = v1[controller]
            _write_all(f"{base}/{new.name}", version_1, inherited=base)
        elif unified is not None:
            _write_all(f"{unified}/{new.name}", version_2, inherited=unified)
    inside: set[int] = set()
    while members := set(_members(unified, v1, new.name)) - inside:
        apply(unified, v1, new, sorted(members))
        inside |= members


def _members(unified: str | None, v1: dict[str, str], name: str) -> list[int]:
    """A node's processes; every node has a limit of forks, so one hierarchy has them all."""
    base = unified if unified is not None else v1.get("pids")
    return [] if base is None else cgroups.processes(f"{base}/{name}")


def _write_all(directory: str, files: Sequence[tuple[str, str | None]], *, inherited: str) -> None:
    for name, value in files:
        with contextlib.suppress(FileNotFoundError):
            if value is None:
                with open(f"{inherited}/{name}") as parent:
                    value = parent.read().strip()
            cgroups.write(f"{directory}/{name}", value)


def missing(unified: str | None, v1: dict[str, str]) -> tuple[str, ...]:
    """Which of `memory` and `pids` nothing bounds here; given a lab's or the machine's cgroups."""
    there = set(v1)
    if unified is not None:
        with contextlib.suppress(OSError), open(f"{unified}/cgroup.controllers") as file:
            there.update(file.read().split())
    return tuple(name for name in ("memory", "pids") if name not in there)


def remarks(hierarchies: cgroups.Hierarchies) -> tuple[str, ...]:
    """What a lab staged by this user goes without, for people."""
    lacking = missing(hierarchies.unified, hierarchies.v1)
    what = {
        "memory": "nothing bounds a node's memory",
        "pids": f"all nodes share one bound of {DEFAULT_PIDS} processes (RLIMIT_NPROC)",
    }
    if not lacking:
        return ()
    texts = " and ".join(what[name] for name in lacking)
    return (f"{texts}: this user has no {' or '.join(lacking)} cgroup; see `hostlab doctor`",)


def _write_v1(base: str, node: str, limit: cgroups.Limit, processes: Sequence[int]) -> None:
    directory = f"{base}/{node}"
    cgroups.make(directory)
    for name, value in limit.v1:
        with contextlib.suppress(FileNotFoundError):
            cgroups.write(f"{directory}/{name}", value)
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            cgroups.write(f"{directory}/cgroup.procs", str(pid))


def _write_v2(directory: str, limit: cgroups.Limit) -> bool:
    if not os.path.exists(f"{directory}/{limit.v2[0][0]}"):
        return False
    for name, value in limit.v2:
        with contextlib.suppress(FileNotFoundError):
            cgroups.write(f"{directory}/{name}", value)
    return True


def kill(unified: str | None, node: str) -> None:
    """End whatever of a node is not below its first process: it may share a pid namespace."""
    if unified is not None:
        with contextlib.suppress(OSError):
            cgroups.write(f"{unified}/{node}/cgroup.kill", "1")


def wait_gone(unified: str | None, node: str) -> None:
    """Wait until the kernel has let go of a dead node's processes, so that its cgroup can go."""
    if unified is None:
        return
    with contextlib.suppress(FileNotFoundError):
        fd = os.open(f"{unified}/{node}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            cgroups.wait_empty(fd, timeout_s=GONE_TIMEOUT_S)
        finally:
            os.close(fd)


def remove(unified: str | None, v1: dict[str, str], node: str) -> None:
    """Remove a dead node's cgroups."""
    for base in (unified, *v1.values()):
        if base is not None:
            cgroups.remove(f"{base}/{node}")


def clear(unified: str | None, v1: dict[str, str], node: str) -> None:
    """End what is left of a node that has died, and remove its cgroups."""
    kill(unified, node)
    wait_gone(unified, node)
    remove(unified, v1, node)


def exceeded(unified: str | None, v1: dict[str, str], node: str) -> tuple[str, ...]:
    """Which limits a node has run into: `memory`, `pids`."""
    found = []
    for controller, files in (
        ("memory", (("memory.oom_control", "oom_kill "), ("memory.events", "oom_kill "))),
        ("pids", (("pids.events", "max "),)),
    ):
        for base in (v1.get(controller), unified):
            if base and any(_count(f"{base}/{node}/{name}", key) for name, key in files):
                found.append(controller)
                break
    return tuple(found)


def _count(path: str, key: str) -> int:
    try:
        with open(path) as lines:
            return sum(int(line.split()[1]) for line in lines if line.startswith(key))
    except OSError:
        return 0
