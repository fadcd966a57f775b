"""Every namespace of some processes, or of the machine: who is in it, who holds it, whose it is.

A namespace lives as long as a process is in it, a descriptor or a bind mount names it, or a
child of it lives (namespaces(7), "Namespace lifetime"). All four are looked at: links in
/proc/PID/ns, /proc/PID/fd, `nsfs` lines of mountinfo, and the parents and owners that
ioctl_ns(2) tells. What the caller may not read becomes an entry that says so, never a gap.
Threads are not looked at one by one: a thread that entered another namespace alone is missed.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator
from typing import ClassVar

import msgspec

from hostlab.linux import nsfs
from hostlab.linux.clone import NAMESPACE_FLAGS

_LINK = re.compile(r"([a-z]+):\[(\d+)\]")
_FOR_CHILDREN = "_for_children"
_GONE = (errno.ENOENT, errno.ESRCH)
_DENIED = (errno.EACCES, errno.EPERM)
MAX_DEPTH = 32
"""User and PID namespaces nest no deeper (namespaces(7)); the bound of every climb here."""


class Holder(msgspec.Struct, frozen=True):
    """What keeps a namespace alive beside the processes in it."""

    how: str
    """`fd`, `mount`, or `children`: those the process starts next will be in it."""
    pid: int
    """The process with the descriptor, or one that sees the mount."""
    what: str
    """The descriptor's number, or the mount point as that process sees it."""

    def __str__(self) -> str:
        return f"{self.how} {self.what} of {self.pid}" if self.what else f"{self.how} of {self.pid}"


class NamespaceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One namespace; or, with `problem`, processes whose namespaces of a kind are unreadable."""

    COLUMNS: ClassVar = ("kind", "inode", "processes", "depth", "owner", "parent", "command")

    kind: str
    """The kernel's name in /proc/PID/ns."""
    inode: int | None = None
    pids: tuple[int, ...] = ()
    command: str = ""
    """The name of the first of `pids`."""
    holders: tuple[Holder, ...] = ()
    owner: int | None = None
    """The user namespace that owns it; None when it may not be seen."""
    owner_uid: int | None = None
    """Who made that user namespace (for a user namespace: who made it itself)."""
    parent: int | None = None
    """Of a PID or user namespace; None for the initial one or when it may not be seen."""
    depth: int | None = None
    """How many ancestors can be seen: its own, or for the flat kinds its owner's."""
    problem: str = ""

    def row(self) -> tuple[str, ...]:
        """The cells under `COLUMNS`."""
        if self.problem:
            return (self.kind, "?", _pids(self.pids), "?", "?", "?", self.problem)
        held = ", ".join(str(holder) for holder in self.holders)
        return (
            self.kind,
            str(self.inode),
            _pids(self.pids),
            "?" if self.depth is None else str(self.depth),
            "?" if self.owner is None else f"{self.owner} (uid {self.owner_uid})",
            "" if self.parent is None else str(self.parent),
            self.command or (f"held by {held}" if held else "held by its children"),
        )


def _pids(pids: tuple[int, ...]) -> str:
    shown = ", ".join(str(pid) for pid in pids[:4])
    return f"{shown}, … ({len(pids)})" if len(pids) > 4 else shown


class _Found:
    """What is gathered of one namespace before it becomes a `NamespaceInfo`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.pids: list[int] = []
        self.holders: list[Holder] = []
        self.owner: int | None = None
        self.owner_uid: int | None = None
        self.parent: int | None = None


class _Survey:
    """Everything found, by inode; asks each namespace once."""

    def __init__(self) -> None:
        self.found: dict[int, _Found] = {}
        self.unreadable: dict[tuple[str, str], list[int]] = {}
        self.mounts_read: set[int] = set()

    def process(self, pid: int) -> None:
        """Take in all that a process is in and holds; one that has gone adds nothing."""
        mount_namespace = None
        for name in (*NAMESPACE_FLAGS, "pid" + _FOR_CHILDREN, "time" + _FOR_CHILDREN):
            path = f"/proc/{pid}/ns/{name}"
            kind = name.removesuffix(_FOR_CHILDREN)
            number = self._read(path, kind, pid)
            if number is None:
                continue
            found = self._entry(kind, number, path)
            if name == kind:
                found.pids.append(pid)
            else:
                found.holders.append(Holder("children", pid, ""))
            if name == "mnt":
                mount_namespace = number
        self._descriptors(pid)
        if mount_namespace is not None and mount_namespace not in self.mounts_read:
            self.mounts_read.add(mount_namespace)
            self._mounts(pid)

    def _read(self, path: str, kind: str, pid: int) -> int | None:
        try:
            match = _LINK.fullmatch(os.readlink(path))
        except OSError as error:
            # A kernel without this kind, or a process that has gone, is nothing to report.
            if error.errno in _DENIED:
                pids = self.unreadable.setdefault((kind, os.strerror(error.errno or 0)), [])
                if pid not in pids:
                    pids.append(pid)
            elif error.errno not in _GONE:
                raise
            return None
        return int(match[2]) if match else None

    def _entry(self, kind: str, number: int, path: str) -> _Found:
        found = self.found.get(number)
        if found is None:
            found = self.found[number] = _Found(kind)
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                if error.errno not in (*_GONE, *_DENIED):
                    raise
                return found
            if nsfs.inode(fd) == number:
                self._ask(found, fd)
            else:  # the process moved between the two looks; its old namespace may be gone
                os.close(fd)
        return found

    def _ask(self, found: _Found, fd: int, depth: int = 0) -> None:
        """Owner and ancestors of a new entry; takes the descriptor over."""
        try:
            if found.kind == "user":
                found.owner_uid = nsfs.get_owner_uid(fd)
            if found.kind in nsfs.HIERARCHICAL and depth < MAX_DEPTH:
                found.parent = self._relative(found.kind, nsfs.get_parent(fd), depth + 1)
            # For a user namespace the kernel answers with the parent, which is the owner.
            found.owner = self._relative("user", nsfs.get_userns(fd), depth + 1)
            if found.owner is not None and found.kind != "user":
                found.owner_uid = self.found[found.owner].owner_uid
        finally:
            os.close(fd)

    def _relative(self, kind: str, fd: int | None, depth: int) -> int | None:
        if fd is None:
            return None
        number = nsfs.inode(fd)
        if number in self.found:
            os.close(fd)
        else:
            self.found[number] = _Found(kind)
            self._ask(self.found[number], fd, depth)
        return number

    def _descriptors(self, pid: int) -> None:
        directory = f"/proc/{pid}/fd"
        for name in _listed(directory):
            try:
                target = os.readlink(f"{directory}/{name}")
            except OSError as error:
                if error.errno in (*_GONE, *_DENIED):
                    continue
                raise
            match = _LINK.fullmatch(target)
            if match and match[1] in NAMESPACE_FLAGS:
                entry = self._entry(match[1], int(match[2]), f"{directory}/{name}")
                entry.holders.append(Holder("fd", pid, name))

    def _mounts(self, pid: int) -> None:
        for kind, number, point in _nsfs_mounts(pid):
            entry = self._entry(kind, number, f"/proc/{pid}/root{point}")
            entry.holders.append(Holder("mount", pid, point))

    def depth(self, number: int) -> int:
        """How many ancestors can be seen, of its own kind or its owner's."""
        found = self.found[number]
        flat = found.kind not in nsfs.HIERARCHICAL
        if flat:
            return 0 if found.owner is None else self.depth(found.owner)
        count = 0
        while found.parent is not None and count < MAX_DEPTH:
            found = self.found[found.parent]
            count += 1
        return count

    def result(self) -> Iterator[NamespaceInfo]:
        order = {kind: place for place, kind in enumerate(NAMESPACE_FLAGS)}
        for number, found in sorted(self.found.items(), key=lambda e: (order[e[1].kind], e[0])):
            yield NamespaceInfo(
                kind=found.kind,
                inode=number,
                pids=tuple(sorted(found.pids)),
                command=_command(min(found.pids)) if found.pids else "",
                holders=tuple(h for h in found.holders if not _is_own(h, found.pids)),
                owner=found.owner,
                owner_uid=found.owner_uid,
                parent=found.parent,
                depth=self.depth(number),
            )
        for (kind, problem), pids in sorted(self.unreadable.items()):
            yield NamespaceInfo(kind=kind, pids=tuple(sorted(pids)), problem=problem)


def _is_own(holder: Holder, pids: list[int]) -> bool:
    """Whether this says only that a process' children will be where it is itself."""
    return holder.how == "children" and holder.pid in pids


def _listed(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError as error:
        if error.errno in (*_GONE, *_DENIED):
            return []
        raise


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().rstrip("\n")
    except OSError as error:
        if error.errno in _GONE:
            return ""
        raise


def _nsfs_mounts(pid: int) -> Iterator[tuple[str, int, str]]:
    """(kind, inode, mount point) of each bind mount of a namespace; proc_pid_mountinfo(5)."""
    try:
        with open(f"/proc/{pid}/mountinfo", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError as error:
        # EINVAL: the process is a zombie, which has no mount namespace any more.
        if error.errno in (*_GONE, *_DENIED, errno.EINVAL):
            return
        raise
    for line in lines:
        before, _, after = line.partition(" - ")
        if after.split(" ", 1)[0] != "nsfs":
            continue
        fields = before.split(" ")
        match = _LINK.fullmatch(fields[3])
        if match and match[1] in NAMESPACE_FLAGS:
            point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
            yield match[1], int(match[2]), point


def all_pids() -> tuple[int, ...]:
    """Every process that /proc shows here."""
    return tuple(sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()))


def namespaces(pids: Iterable[int] | None = None) -> tuple[NamespaceInfo, ...]:
    """The namespaces of these processes, or of every process; by kind, then inode.

    Ancestors and owners of what is found are listed too, even with nobody in them. Processes
    that end meanwhile are left out; those that may not be read are entries with `problem`.
    """
    survey = _Survey()
    for pid in all_pids() if pids is None else pids:
        survey.process(pid)
    return tuple(survey.result())
