"""What a lab is like, from outside: to be compared before a fault and after its clearing.

Lines of text in kinds, as `observe.snapshot` has them for a machine. What changes by itself (pids,
counters, what a node's kernel has learned) is left out; a node that is made anew is the same.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from hostlab.faults.files import HOSTS, RESOLVER, SWITCH
from hostlab.faults.site import Site
from hostlab.linux import nftables, procfs, rtnetlink
from hostlab.linux.netlink import Netlink
from hostlab.observe.snapshot import Snapshot

SETTINGS: Final = ("/proc/sys/net/ipv4/conf", "/proc/sys/net/ipv6/conf")
NAMES: Final = (HOSTS, RESOLVER, SWITCH)
ROOM: Final = ("/", "/tmp", "/run")
PROCESS: Final = "process"
"""The one kind of lines in which a job that starts programs is never the same twice."""
_FLAGS: Final = (
    (rtnetlink.IFF_UP, "up"),
    (0x40, "running"),
    (0x10000, "carrier"),
    (rtnetlink.IFF_NOARP, "noarp"),
)
_GROUP_FILES: Final = (
    "cgroup.freeze",
    "cpu.cfs_quota_us",
    "cpu.cfs_period_us",
    "cpu.max",
    "memory.limit_in_bytes",
    "memory.max",
    "pids.max",
)


def take(site: Site) -> Snapshot:
    """The lab now."""
    site.look()
    found: dict[str, list[str]] = {PROCESS: []}
    for name in site.nodes:
        if site.is_dead(name):
            continue
        for kind, line in _node(site, name):
            found.setdefault(kind, []).append(f"{name}: {line}")
    dead = [node.name for node in site.lab.nodes if site.is_dead(node.name)]
    found["dead node"] = dead
    for kind, line in site.in_switch(_switch):
        found.setdefault(kind, []).append(f"switch: {line}")
    return {kind: sorted(lines) for kind, lines in found.items()}


def _node(site: Site, name: str) -> Iterator[tuple[str, str]]:
    pid = site.pid(name)
    yield from site.in_network(name, _network)
    yield from site.in_files(name, _names)
    with open(f"/proc/{pid}/mountinfo", errors="surrogateescape") as lines:
        for line in lines:
            fields = line.rstrip("\n").split(" ")
            # Its number, its parent's and its device's are others after each mount.
            yield "mount", " ".join(fields[4:])
    yield from _groups(site, name)
    yield from _processes(pid)


def _network() -> list[tuple[str, str]]:
    """For a child in a node's network."""
    found: list[tuple[str, str]] = []
    with Netlink() as netlink:
        names = {}
        for link in rtnetlink.links(netlink):
            names[link.index] = link.name
            found.append(("link", f"{link.name} {link.mac} {link.mtu} {_flags(link.flags)}"))
        found += [("address", f"{names[i]} {text}") for i, text in rtnetlink.addresses(netlink)]
        found += [("route", str(route)) for route in rtnetlink.routes(netlink)]
        learned = rtnetlink.learned_neighbours(netlink)
        found += [("neighbour", f"{names[i]} {address} {mac}") for i, address, mac in learned]
    found += (("nft table", f"{family} {name}") for family, name in nftables.tables())
    found += (("setting", line) for top in SETTINGS for line in _settings(top))
    return found


def _flags(flags: int) -> str:
    return " ".join(word for bit, word in _FLAGS if flags & bit)


def _settings(top: str) -> Iterator[str]:
    for directory, _, names in os.walk(top):
        for name in names:
            # Some can only be written, some only where there is an interface.
            with suppress(OSError), open(f"{directory}/{name}") as file:
                yield f"{directory}/{name} {file.read().strip()}"


def _names() -> list[tuple[str, str]]:
    """For a child among a node's files."""
    found = []
    for path in NAMES:
        with suppress(OSError), open(path, "rb") as file:
            found.append(("names", f"{path} {hashlib.sha256(file.read()).hexdigest()}"))
    found += [("full", path) for path in ROOM if not os.statvfs(path).f_bavail]
    return found


def _groups(site: Site, name: str) -> Iterator[tuple[str, str]]:
    for base in (site.unified, *site.v1.values()):
        group = f"{base}/{name}"
        if base is None or not os.path.isdir(group):
            continue
        yield "cgroup", group
        for file_name in _GROUP_FILES:
            with suppress(OSError), open(f"{group}/{file_name}") as file:
                yield "cgroup", f"{group}/{file_name} {file.read().strip()}"


def _processes(holder: int) -> Iterator[tuple[str, str]]:
    """What runs below a holder, but for its own supervisor, which comes and goes when asked."""
    own = procfs.command_line(holder)
    home = os.stat(f"/proc/{holder}/ns/pid").st_ino
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            command = procfs.command_line(int(name))
            if os.stat(f"/proc/{name}/ns/pid").st_ino != home or command in (own, None):
                continue
            with open(f"/proc/{name}/limits") as lines:
                files = next(line for line in lines if line.startswith("Max open files"))
            with open(f"/proc/{name}/stat") as file:
                state = file.read().rpartition(")")[2].split()[0]
            groups = _v1_groups(name)
            yield PROCESS, f"{command} [{' '.join(files.split()[3:5])}] {groups}"
            if state == "T":
                yield "stopped", str(command)


def _v1_groups(pid: str) -> str:
    with open(f"/proc/{pid}/cgroup") as lines:
        fields = [line.rstrip("\n").split(":", 2) for line in lines]
    return " ".join(sorted(f"{names}:{path}" for _, names, path in fields if names))


def _switch() -> list[tuple[str, str]]:
    """For a child in the switch namespace; ports are numbered anew with their nodes."""
    found: list[tuple[str, str]] = []
    with Netlink() as netlink:
        links = rtnetlink.links(netlink)
    bridges = {link.index: " ".join(link.altnames) for link in links if link.kind == "bridge"}
    for link in links:
        if link.kind != "bridge":
            segment = bridges.get(link.master, "")
            found.append(("port", f"{segment} {link.mtu} {_flags(link.flags)}"))
    found += (("nft table", f"{family} {name}") for family, name in nftables.tables())
    return found
