"""What a lab is like, from outside: to be compared before a fault and after its clearing.

Lines of text in kinds, as `observe.snapshot` has them for a machine. What changes by itself (pids,
counters, what a node's kernel has learned) is left out; a node that is made anew is the same.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final

from msgspec.structs import replace

from hostlab.faults.files import HOSTS, RESOLVER, SWITCH
from hostlab.faults.site import Site
from hostlab.linux import nftables, procfs, rtnetlink
from hostlab.linux.netlink import Netlink
from hostlab.observe.snapshot import Snapshot

SETTINGS: Final = (
    ("ipv4", ("forwarding", "rp_filter", "arp_ignore", "ignore_routes_with_linkdown")),
    ("ipv6", ("forwarding", "disable_ipv6", "accept_ra", "keep_addr_on_down")),
)
NAMES: Final = (HOSTS, RESOLVER, SWITCH)
ROOM: Final = ("/", "/tmp", "/run")
_BY_BGP: Final = (12, 186)
"""RTPROT_BIRD, which has no other number for BGP, and RTPROT_BGP."""
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
    alive = {name: pid for name, pid in site.nodes.items() if not site.is_dead(name)}
    told = [
        *((node, *each) for node in alive for each in _node(site, node)),
        *(("switch", *each) for each in site.in_switch(_switch)),
        *_processes(alive),
    ]
    for name, kind, line in told:
        found.setdefault(kind, []).append(f"{name}: {line}")
    found["dead node"] = [node.name for node in site.lab.nodes if node.name not in alive]
    return {kind: sorted(lines) for kind, lines in found.items()}


def _node(site: Site, name: str) -> Iterator[tuple[str, str]]:
    yield from site.in_node(name, lambda: [*_network(), *_names()])
    with open(f"/proc/{site.pid(name)}/mountinfo", errors="surrogateescape") as lines:
        for line in lines:
            fields = line.rstrip("\n").split(" ")
            # Its number, its parent's and its device's are others after each mount.
            yield "mount", " ".join(fields[4:])
    yield from _groups(site, name)


def _network() -> list[tuple[str, str]]:
    """For a child in a node; of an interface that comes or goes meanwhile only what is there."""
    found: list[tuple[str, str]] = []
    with Netlink() as netlink:
        names: dict[int, str] = {}
        for link in rtnetlink.links(netlink):
            names[link.index] = link.name
            found.append(("link", f"{link.name} {link.mac} {link.mtu} {_flags(link.flags)}"))
        addresses = rtnetlink.addresses(netlink)
        found += [("address", f"{names[i]} {text}") for i, text in addresses if i in names]
        found += [("route", _route(route)) for route in rtnetlink.routes(netlink)]
        learned = rtnetlink.learned_neighbours(netlink)
        found += [("neighbour", f"{names[i]} {ip} {mac}") for i, ip, mac in learned if i in names]
    found += (("nft table", f"{family} {name}") for family, name in nftables.tables())
    found += (("setting", line) for line in _settings())
    return found


def _route(route: rtnetlink.Route) -> str:
    """Of a neighbour's two addresses of IPv6 it depends on the moment which one BGP tells."""
    if ":" in route.to and route.protocol in _BY_BGP:
        route = replace(route, via=None)
    return str(route)


def _flags(flags: int) -> str:
    return " ".join(word for bit, word in _FLAGS if flags & bit)


def _settings() -> Iterator[str]:
    for family, keys in SETTINGS:
        top = f"/proc/sys/net/{family}/conf"
        for interface in os.listdir(top):
            for key in keys:
                with suppress(FileNotFoundError), open(f"{top}/{interface}/{key}") as file:
                    yield f"{family} {interface} {key} {file.read().strip()}"


def _names() -> list[tuple[str, str]]:
    """For a child in a node."""
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


def _processes(holders: Mapping[str, int]) -> Iterator[tuple[str, str, str]]:
    """What runs below each holder, but for its own supervisor, which comes when it is asked."""
    homes: dict[int, str] = {}
    for node, holder in holders.items():
        with suppress(FileNotFoundError):
            homes[os.stat(f"/proc/{holder}/ns/pid").st_ino] = node
    own = {procfs.command_line(pid) for pid in holders.values()}
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            name = homes.get(os.stat(f"/proc/{pid}/ns/pid").st_ino)
            command = None if name is None else procfs.command_line(int(pid))
            if name is None or command is None or command in own:
                continue
            with open(f"/proc/{pid}/limits") as lines:
                # Of one that is being reaped it is empty.
                files = next((line for line in lines if line.startswith("Max open files")), "")
            with open(f"/proc/{pid}/stat") as file:
                state = file.read().rpartition(")")[2].split()[0]
            yield name, PROCESS, f"{command} [{' '.join(files.split()[3:5])}] {_v1_groups(pid)}"
            if state == "T":
                yield name, "stopped", command


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
