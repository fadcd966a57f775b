"""Who has a node's sockets open, for people: its job, else the program."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from hostlab.init.spawning.group_names import group_name
from hostlab.linux import procfs
from hostlab.observe.in_node import pids_in


class JobProcesses(NamedTuple):
    """A job, as the node's init tells it."""

    name: str
    instance: str
    pids: Collection[int]
    """In the numbers of the node."""


class Owner(NamedTuple):
    """Whose a socket is."""

    name: str
    is_job: bool
    """Else a program's, that no job has started."""

    def __str__(self) -> str:
        return f"job {self.name}" if self.is_job else self.name


def owners(
    holder: int, inodes: Collection[int], jobs: Iterable[JobProcesses]
) -> dict[int, tuple[Owner, ...]]:
    """By the inode of each socket those who have it; as far as the caller may look.

    `holder` is the node's first process.
    """
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    if not wanted:
        return {}
    here = pids_in(holder)
    known = list(jobs)
    groups = {group_name(job.name, job.instance): job.name for job in known}
    mains = {here[pid]: job.name for job in known for pid in job.pids if pid in here}
    found: dict[int, dict[Owner, None]] = {}
    for pid in here.values():
        with contextlib.suppress(OSError):
            theirs = {wanted[link] for link in _links(pid) if link in wanted}
            if theirs:
                owner = _owner(pid, mains, groups)
                for inode in theirs:
                    found.setdefault(inode, {})[owner] = None
    return {inode: tuple(whose) for inode, whose in found.items()}


def _links(pid: int) -> Iterator[str]:
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            yield os.readlink(f"/proc/{pid}/fd/{fd}")


def _owner(pid: int, mains: Mapping[int, str], groups: Mapping[str, str]) -> Owner:
    """By the cgroup, which no process leaves; where there is none, by the parents."""
    with open(f"/proc/{pid}/cgroup", errors="surrogateescape") as file:
        path = next((line[3:].rstrip("\n") for line in file if line.startswith("0::")), "")
    for name in path.split("/"):
        if name in groups:
            return Owner(groups[name], is_job=True)
    with open(f"/proc/{pid}/comm", errors="replace") as file:
        program = file.read().rstrip("\n")
    while pid not in mains and (found := procfs.stat(pid)) is not None and found.parent:
        pid = found.parent
    return Owner(mains[pid], is_job=True) if pid in mains else Owner(program, is_job=False)
