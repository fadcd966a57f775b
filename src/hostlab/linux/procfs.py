"""What /proc tells of a process; proc(5). One that has ended meanwhile is no error."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final, NamedTuple

_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_ZOMBIE: Final = "Z"
_DEAD: Final = "X"


class Stat(NamedTuple):
    """Some fields of /proc/PID/stat."""

    parent: int
    started: str
    """In clock ticks since boot; tells a process from a later one of the same number."""
    cpu_ns: int
    """User and system time of all its threads."""
    resident_bytes: int
    has_ended: bool
    """A zombie: nothing of it is left but its status."""


def stat(pid: int) -> Stat | None:
    """How a process is now; None when there is none of that number."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    ticks = int(fields[11]) + int(fields[12])
    return Stat(
        parent=int(fields[1]),
        started=fields[19],
        cpu_ns=ticks * 1_000_000_000 // _TICKS_A_SECOND,
        resident_bytes=int(fields[21]) * _PAGE_BYTES,
        has_ended=fields[0] in (_ZOMBIE, _DEAD),
    )


def start_time(pid: int) -> str | None:
    """When a process started, in clock ticks since boot; tells it from a later one of that pid."""
    found = stat(pid)
    return None if found is None else found.started


def boot_id() -> str:
    """Differs after every boot of the machine (random(4))."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def children(pid: int) -> list[int]:
    """The children of all threads of a process, zombies too; CONFIG_PROC_CHILDREN."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                found += map(int, file.read().split())
    except (FileNotFoundError, ProcessLookupError):
        return found
    return found


def command_line(pid: int) -> str | None:
    """The words of a command, a space between two; None when there are none to be seen."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().rstrip(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return words.replace(b"\0", b" ").decode(errors="replace") or None


def with_environment(entry: bytes) -> Iterator[int]:
    """Every process that was started with `entry` (NAME=VALUE), as far as the caller may look."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    if entry in file.read().split(b"\0"):
                        yield int(name)
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
