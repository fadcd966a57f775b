"""Which process a daemon is, once the one that was started has left: `expect fork` and `daemon`.

A process whose parent ends becomes the holder's child before the parent can be reaped, so when the
end is told, what is left of the job stands in its cgroup with the holder as its parent. How often
it forked is not asked; docs/decisions/readiness.md says why.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable
from typing import Final

import msgspec

LOOKS: Final = 64
"""How often the members of a cgroup are read again because one was gone when it was looked at."""
PF_EXITING: Final = 4
"""Of the flags in /proc/PID/stat (include/linux/sched.h)."""
PID_BYTES: Final = 32
"""Of a PID file that are looked at."""
MARK: Final = "HOSTLAB_SPAWN"
"""In a daemon's environment, its spawn number: where there is no cgroup, it says whose it is."""


class Process(msgspec.Struct, frozen=True):
    """What /proc/PID/stat says of a living process."""

    pid: int
    parent: int
    session: int
    started: int
    """Clock ticks since the machine's boot."""
    is_leaving: bool = False
    """It is in exit(2); for a moment no cgroup lists it, and its children are its own still."""


def look(pid: int) -> Process | None:
    """A process as it is now; None when it has ended, reaped or not."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            data = file.read()
    except OSError:
        return None
    return parse_stat(data)


def read_pid(path: str) -> int | None:
    """The number that a PID file holds in its first line; None when there is none to be read."""
    try:
        # What somebody may have put there instead, a FIFO for example, holds nobody up.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            word = os.read(fd, PID_BYTES).partition(b"\n")[0].strip()
        finally:
            os.close(fd)
    except OSError:
        return None
    return int(word) if word.isdigit() else None


def parse_stat(data: bytes) -> Process | None:
    """One /proc/PID/stat; its second field is a name that may hold anything, `) Z 1` too."""
    pid, _, rest = data.partition(b" (")
    fields = rest[rest.rfind(b")") + 1 :].split()
    if len(fields) < 20 or fields[0] in (b"Z", b"X", b"x"):
        return None
    is_leaving = bool(int(fields[6]) & PF_EXITING)
    return Process(int(pid), int(fields[1]), int(fields[3]), int(fields[19]), is_leaving)


def orphans(
    members: Callable[[], Collection[int]], parent: int, accepts: Callable[[Process], bool]
) -> list[Process]:
    """Members whose parent is `parent`, the one that was started first at the head.

    A member may fork and end between the listing and the look at it; then its child was not in
    the listing. So there is none only when two listings in a row say so and are the same. One that
    ends leaves the listing before its children get their new parent: then it is found by them.
    """
    before: Collection[int] | None = None
    for _ in range(LOOKS):
        listed = members()
        seen = {p.pid: p for pid in listed if (p := _uppermost(look(pid), parent)) is not None}
        found = [p for p in seen.values() if p.parent == parent and accepts(p)]
        if found or listed == before:
            return sorted(found, key=lambda process: (process.started, process.pid))
        before = listed
    return []


def _uppermost(process: Process | None, parent: int) -> Process | None:
    """A process, or above it who is on its way out and a child of `parent`."""
    for _ in range(LOOKS):
        if process is None or process.parent == parent:
            break
        above = look(process.parent)
        if above is None or not above.is_leaving:
            break
        process = above
    return process


def is_settled(process: Process, first: int) -> bool:
    """Whether a process is the second fork for certain: its session was made by one that has left.

    daemon(7): the child makes a session and forks again, so that what remains leads none. One that
    leads its session, or is still in that of the `first`, may be about to fork and leave.
    """
    return process.session not in (process.pid, first) and look(process.session) is None


def children(parent: int) -> tuple[int, ...]:
    """The living children of a process.

    /proc/PID/task/TID/children leaves out some while others end (proc(5)).
    """
    everyone = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return tuple(pid for pid in everyone if (found := look(pid)) and found.parent == parent)


def is_marked(pid: int, spawn: int) -> bool:
    """Whether a process has this spawn's mark in its environment; False where one may not look."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return f"{MARK}={spawn}".encode() in file.read().split(b"\0")
    except OSError:
        return False


def is_descendant(pid: int, ancestors: Iterable[int]) -> bool:
    """Whether one of these is its parent, or its parent's, and so on."""
    wanted = frozenset(ancestors)
    for _ in range(LOOKS):
        process = look(pid)
        if process is None or process.parent <= 1:
            return False
        if process.parent in wanted:
            return True
        pid = process.parent
    return False
