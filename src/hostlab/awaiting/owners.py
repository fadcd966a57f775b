"""Who has a node's sockets open, for people: its job, else the program."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hostlab.init.spawning.cgroups import group_name
from hostlab.linux import procfs
from hostlab.observe.in_node import pids_in


def owners(
    holder: int, inodes: Collection[int], rows: Sequence[Mapping[str, Any]]
) -> tuple[str, ...]:
    """`job web`, or `nc` where no job has it; as far as the caller may look.

    `rows` are the node's jobs as its init tells them, `holder` its first process.
    """
    wanted = {f"socket:[{inode}]" for inode in inodes}
    here = pids_in(holder)
    groups = {group_name(row["name"], row["instance"]): row["name"] for row in rows}
    mains = {
        here[number]: row["name"]
        for row in rows
        for number in row["processes"].values()
        if number in here
    }
    found = []
    for pid in here.values():
        with contextlib.suppress(OSError):
            links = (os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd"))
            if wanted.isdisjoint(links):
                continue
            job = _job_of(pid, mains, groups)
            found.append(_name(pid) if job is None else f"job {job}")
    return tuple(dict.fromkeys(found))


def _job_of(pid: int, mains: Mapping[int, str], groups: Mapping[str, str]) -> str | None:
    """By the cgroup, which no process leaves; where there is none, by the parents."""
    with open(f"/proc/{pid}/cgroup", errors="surrogateescape") as file:
        path = next((line[3:].rstrip("\n") for line in file if line.startswith("0::")), "")
    for name in path.split("/"):
        if name in groups:
            return groups[name]
    while pid not in mains and (found := procfs.stat(pid)) is not None and found.parent:
        pid = found.parent
    return mains.get(pid)


def _name(pid: int) -> str:
    with open(f"/proc/{pid}/comm", errors="replace") as file:
        return file.read().rstrip("\n")
