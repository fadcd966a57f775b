"""cgroups: where a lab's tree may stand, and the few files that are read and written in it.

Three kinds of machines are met. Pure v2 has everything in one tree. Hybrid ones, like the machines
hostlab is built on, have v2 for `cgroup.kill`, `cgroup.freeze` and `cgroup.events`, and each
controller in a v1 hierarchy of its own. A plain user without a delegated subtree has neither.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
from collections.abc import Iterable
from typing import Final

import msgspec

CONTROLLERS: Final = ("cpu", "cpuset", "memory", "pids")
MOUNTINFO: Final = "/proc/self/mountinfo"
LEAF_LINKS: Final = 2
_GONE: Final = (errno.ENOENT, errno.ENODEV)
"""Of a cgroup that has been removed: its path, and what was opened before."""
_MOST_TRIES: Final = 100
TREE: Final = "hostlab"
"""The directory that marks everything below it as made by hostlab."""
TASKS: Final = "tasks:"
"""Begins, in that directory, the name of a task namespace's cgroup: this, its name, its mark."""


class Hierarchies(msgspec.Struct, frozen=True):
    """The directories under which labs may be made; None or absent where there is none."""

    unified: str | None = None
    v1: dict[str, str] = msgspec.field(default_factory=dict)
    """Controller -> directory of its v1 hierarchy; those without limits too.

    In one that a lab had no place in, its nodes would find themselves at the machine's root.
    """

    @property
    def kind(self) -> str:
        """`v2`, `hybrid`, `v1` or `none`."""
        if self.unified:
            return "hybrid" if self.v1 else "v2"
        return "v1" if self.v1 else "none"


class Limit(msgspec.Struct, frozen=True):
    """One value for one file of one controller, in both versions' terms."""

    controller: str
    v1: tuple[tuple[str, str], ...]
    v2: tuple[tuple[str, str], ...]


def find(*, mountinfo: str = MOUNTINFO, own: str = "/proc/self/cgroup") -> Hierarchies:
    """Where this process may make cgroups: of its own tree, or of one delegated to its user.

    Root takes the top of v2, as a session's own cgroup ends with the session, and its own place in
    v1, where a limit above it must go on to hold. A plain user takes the highest directory above
    his own that he may write (cgroups(7), "Delegation").
    """
    with open(own) as lines:
        paths = [line.rstrip("\n").split(":", 2) for line in lines]
    place = {name: path for _, names, path in paths for name in names.split(",")}
    unified, v1 = None, {}
    with open(mountinfo) as lines:
        for line in lines:
            left, _, right = line.partition(" - ")
            fields, kind = left.split(), right.split()[0]
            if kind == "cgroup2" and unified is None:
                unified = _writable(fields[4], "" if os.geteuid() == 0 else place.get("", ""))
            elif kind == "cgroup":
                for name in right.split()[2].split(","):
                    if name in place:
                        directory = _writable(fields[4], place[name])
                        if directory:
                            v1[name] = directory
    return Hierarchies(unified, v1)


def _writable(mount: str, path: str) -> str | None:
    found = None
    parts = [part for part in path.split("/") if part]
    for depth in range(len(parts), -1, -1):
        directory = "/".join((mount, *parts[:depth])).rstrip("/")
        if not os.access(f"{directory}/cgroup.procs", os.W_OK) or not os.access(directory, os.W_OK):
            break
        found = directory
        if os.geteuid() == 0:
            break
    return found


def limits(
    *,
    memory: int | None = None,
    cpu: float | None = None,
    cpus: str | None = None,
    pids: int | None = None,
) -> tuple[Limit, ...]:
    """What to write for these limits: memory in bytes, cpu in CPUs' worth of time."""
    found = []
    if memory is not None:
        value = str(memory)
        found.append(
            Limit(
                "memory",
                (("memory.limit_in_bytes", value), ("memory.swappiness", "0")),
                (("memory.max", value), ("memory.swap.max", "0"), ("memory.oom.group", "0")),
            )
        )
    if cpu is not None:
        period, quota = 100_000, max(1000, int(cpu * 100_000))
        found.append(
            Limit(
                "cpu",
                (("cpu.cfs_period_us", str(period)), ("cpu.cfs_quota_us", str(quota))),
                (("cpu.max", f"{quota} {period}"),),
            )
        )
    if cpus is not None:
        found.append(Limit("cpuset", (("cpuset.cpus", cpus),), (("cpuset.cpus", cpus),)))
    if pids is not None:
        value = str(pids)
        found.append(Limit("pids", (("pids.max", value),), (("pids.max", value),)))
    return tuple(found)


_Files = tuple[tuple[str, str | None], ...]
_UNLIMITED: Final[dict[str, tuple[str, _Files, _Files]]] = {
    "memory": (
        "memory",
        (("memory.limit_in_bytes", "-1"),),
        (("memory.max", "max"), ("memory.swap.max", "max")),
    ),
    "cpu": ("cpu", (("cpu.cfs_quota_us", "-1"),), (("cpu.max", "max"),)),
    "cpus": ("cpuset", (("cpuset.cpus", None),), (("cpuset.cpus", "\n"),)),
}


def unlimited(names: Iterable[str]) -> tuple[tuple[str, _Files, _Files], ...]:
    """(controller, v1 files, v2 files) that lift limits again; None is what the parent has."""
    return tuple(_UNLIMITED[name] for name in names)


def is_of_tasks(name: str) -> bool:
    """Whether a cgroup in hostlab's own is a task namespace's, and not a lab's."""
    return name.startswith(TASKS) and name.count(":") > 1


def write(path: str, value: str) -> None:
    """Write one value into a cgroup file, in one write."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise OSError(
            error.errno, f"write {value}: {os.strerror(error.errno or 0)}", path
        ) from None
    finally:
        os.close(fd)


def make(directory: str) -> None:
    """Make a cgroup and those above it, inheriting cpuset's mandatory values in v1.

    Whoever has had the last one in `TREE` takes that away, at any time: it is made again.
    """
    for tries in range(1, _MOST_TRIES + 1):
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(directory)
            if os.path.exists(f"{directory}/cpuset.cpus") and os.path.exists(f"{directory}/tasks"):
                for name in ("cpuset.cpus", "cpuset.mems"):
                    _inherit(directory, name)
            return
        except OSError as error:
            if error.errno not in _GONE or tries == _MOST_TRIES:
                raise
        make(os.path.dirname(directory))


def _inherit(directory: str, name: str) -> str:
    """What a cgroup has of cpuset, now that it has it; without, it takes no process (ENOSPC).

    Whoever else makes it just now may not have come to that: it is given where it is missing.
    """
    with open(f"{directory}/{name}") as own:
        value = own.read().strip()
    if not value:
        value = _inherit(os.path.dirname(directory), name)
        write(f"{directory}/{name}", value)
    return value


def enable(directory: str, controllers: tuple[str, ...]) -> tuple[str, ...]:
    """Hand v2 controllers down to the children of `directory`; returns those that were refused."""
    refused = []
    for name in controllers:
        try:
            write(f"{directory}/cgroup.subtree_control", f"+{name}")
        except OSError:
            refused.append(name)
    return tuple(refused)


def tree(directory: str) -> list[str]:
    """A cgroup and all below it, deepest first; empty where it does not exist."""
    found: list[str] = []
    with contextlib.suppress(FileNotFoundError):
        _descend(directory, found)
    return found


def _descend(directory: str, found: list[str]) -> None:
    # A cgroup has some forty files; its link count tells whether there is a directory among them
    # (fs/kernfs/inode.c), so that most need not be listed.
    if os.stat(directory).st_nlink > LEAF_LINKS:
        with os.scandir(directory) as entries:
            below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        for path in below:
            with contextlib.suppress(FileNotFoundError):
                _descend(path, found)
    found.append(directory)


def below(directory: str) -> tuple[str, ...] | None:
    """The names of the cgroups right below one; None where it does not exist."""
    try:
        with os.scandir(directory) as entries:
            return tuple(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return None


def processes(directory: str) -> list[int]:
    """Every process in a cgroup or below it."""
    found = []
    for path in tree(directory):
        try:
            with open(f"{path}/cgroup.procs") as lines:
                found += [int(line) for line in lines]
        except (FileNotFoundError, OSError) as error:
            if error.errno not in (*_GONE, errno.EOPNOTSUPP):
                raise
    return found


def remove(directory: str) -> None:
    """Remove a cgroup and all below it; OSError (EBUSY) when one still has processes."""
    for path in tree(directory):
        try:
            os.rmdir(path)
        except FileNotFoundError:
            continue


def wait_empty(directory: int, *, timeout_s: float) -> bool:
    """Wait until no process is in the v2 cgroup of this descriptor; False when it takes too long.

    Processes that were killed are still in it until they have exited.
    """
    return _wait_event(directory, b"populated 0", timeout_s=timeout_s)


def freeze(directory: str, *, frozen: bool, timeout_s: float) -> bool:
    """Have everything in a v2 cgroup stand still, or go on; False when that takes too long."""
    write(f"{directory}/cgroup.freeze", "1" if frozen else "0")
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _wait_event(fd, b"frozen 1" if frozen else b"frozen 0", timeout_s=timeout_s)
    finally:
        os.close(fd)


def is_frozen(directory: str) -> bool:
    """Whether everything in a v2 cgroup stands still; not where there is none."""
    try:
        with open(f"{directory}/cgroup.events", "rb") as file:
            return b"frozen 1" in file.read()
    except FileNotFoundError:
        return False


def _wait_event(directory: int, wanted: bytes, *, timeout_s: float) -> bool:
    """Wait for a line of cgroup.events: the kernel tells of a change by POLLPRI (cgroups(7))."""
    deadline = time.monotonic() + timeout_s
    fd = os.open("cgroup.events", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLPRI)
        while wanted not in os.pread(fd, 4096, 0):
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                return False
        return True
    finally:
        os.close(fd)
