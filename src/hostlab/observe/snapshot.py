"""What is on a machine, to be compared with what is there later: the audit that trusts no mark.

Everything is a line of text in a kind, whoever made it. What always changes is left out: the
caller and its ancestors, kernel threads, counters.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, TypeAlias

import msgspec

from hostlab import typed
from hostlab.errors import UsageError
from hostlab.linux import procfs, rtnetlink
from hostlab.linux.netlink import Netlink
from hostlab.linux.sockdiag import listeners
from hostlab.observe.namespaces import namespaces

Snapshot: TypeAlias = dict[str, list[str]]
"""Kind -> sorted lines."""

PLACES: Final = ("/run", "/run/hostlab", "/run/netns", "/tmp", "/var/tmp", "/dev/shm", "/etc")
"""Directories in which programs leave things; their entries count, not what is below."""
_LIMIT_S: Final = 10


class Change(msgspec.Struct, frozen=True):
    """One line that is new, or that is not there any more."""

    kind: str
    what: str
    is_new: bool

    def __str__(self) -> str:
        return f"{'+' if self.is_new else '-'} {self.kind}: {self.what}"


def take() -> Snapshot:
    """Everything now, as far as the caller may see it."""
    found = {
        "link": _links(),
        "address": _addresses(),
        "namespace": _namespaces(),
        "mount": _mounts(),
        "cgroup": _cgroups(),
        "nft table": _tables(),
        "process": _processes(),
        "socket": _sockets(),
        "file": _files(),
    }
    return {kind: sorted(set(lines)) for kind, lines in found.items()}


def decode(data: bytes, name: str) -> Snapshot:
    """A snapshot from its JSON; UsageError when it is none."""
    try:
        return typed.decode(data, dict[str, list[str]])
    except msgspec.DecodeError as error:
        raise UsageError(
            "snapshot", f"{name}: {error}", hint="write one with `hostlab audit --save FILE`"
        ) from None


def differences(before: Snapshot, after: Snapshot) -> tuple[Change, ...]:
    """What has appeared, and what has gone, kind by kind."""
    found = []
    for kind in after:
        old, new = set(before.get(kind, ())), set(after[kind])
        found += [Change(kind, what, True) for what in sorted(new - old)]  # noqa: FBT003
        found += [Change(kind, what, False) for what in sorted(old - new)]  # noqa: FBT003
    return tuple(found)


def _links() -> Iterator[str]:
    with Netlink() as netlink:
        for link in rtnetlink.links(netlink):
            yield f"{link.name} {link.kind or ''} {' '.join(link.altnames)}".rstrip()


def _addresses() -> Iterator[str]:
    with Netlink() as netlink:
        names = {link.index: link.name for link in rtnetlink.links(netlink)}
        for index, address in rtnetlink.addresses(netlink):
            yield f"{names.get(index, index)} {address}"


def _namespaces() -> Iterator[str]:
    ours = _ancestors()
    for one in namespaces():
        # The caller may have been started in namespaces of its own.
        if one.inode is not None and not (one.pids and set(one.pids) <= ours):
            yield f"{one.kind}:[{one.inode}]"


def _mounts() -> Iterator[str]:
    with open("/proc/self/mountinfo", errors="surrogateescape") as lines:
        for line in lines:
            left, _, right = line.partition(" - ")
            yield f"{left.split(' ')[4]} {' '.join(right.split(' ')[:2])}"


def _cgroups() -> Iterator[str]:
    with open("/proc/self/mountinfo") as lines:
        tops = [
            line.split(" ")[4]
            for line in lines
            if line.partition(" - ")[2].split(" ")[0] in ("cgroup", "cgroup2")
        ]
    for top in tops:
        for directory, _, _ in os.walk(top):
            yield directory


def _tables() -> Iterator[str]:
    nft = shutil.which("nft", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if nft is None:
        return
    done = subprocess.run(
        [nft, "-s", "list", "ruleset"], capture_output=True, timeout=_LIMIT_S, check=False
    )
    yield from (line.strip() for line in done.stdout.decode().splitlines() if line.strip())


def _ancestors() -> set[int]:
    found = {os.getpid()}
    pid = os.getppid()
    while pid > 0 and (state := procfs.stat(pid)) is not None:
        found.add(pid)
        pid = state.parent
    return found


def _processes() -> Iterator[str]:
    ours = _ancestors()
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                before, _, after = file.read().rpartition(")")
            with open(f"/proc/{name}/cmdline", "rb") as file:
                command = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        fields = after.split()
        if fields[0] == "Z":
            command = f"({before.partition('(')[2]}), a zombie"
        if command and int(name) not in ours:
            yield f"{name} {command[:160]}"


def _sockets() -> Iterator[str]:
    for protocol in ("tcp", "udp"):
        for one in listeners(protocol):
            yield f"{protocol} {one}"
    with open("/proc/net/unix", errors="surrogateescape") as lines:
        next(lines)
        for line in lines:
            fields = line.rstrip("\n").split(" ", 7)
            if fields[3] == "00010000" and len(fields) == 8:  # __SO_ACCEPTCON, net/socket.h
                yield f"unix {fields[7].strip().partition(' ')[2]}"


def _files() -> Iterator[str]:
    for place in PLACES:
        # What is root's alone is not told, nor what goes with its last entry in this instant.
        with suppress(OSError):
            if not os.path.islink(place):
                yield from [f"{place}/{name}" for name in os.listdir(place)]
