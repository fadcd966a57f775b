"""What a node is like at one instant, in a form small enough to be taken before each test.

Two marks that are equal mean that nothing of this kind has changed in between. Files: everything in
the node's tmpfs mounts, the described files, and how much its writable layer holds, whose names
nobody outside of it can list. So one change is not seen: a file that was written before the mark,
changed in place without becoming larger by a page.
"""

from __future__ import annotations

import hashlib
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from hostlab import typed
from hostlab.linux.entering import from_inside
from hostlab.linux.netlink import Netlink, Request, attributes
from hostlab.linux.nftables import NETLINK_NETFILTER, generation
from hostlab.linux.rtmonitor import AddressTold, RouteTold, Told, dump
from hostlab.linux.rtnetlink import RTM_GETADDR, RTM_GETLINK, RTM_GETROUTE

MOST_FILES: Final = 20_000
"""Of a node's tmpfs mounts; one that has more counts as changed."""
_OWN_FILES: Final = "/run/hostlab"
_SYSCTLS: Final = ("net/core", "net/ipv4", "net/ipv6", "kernel")
_KERNEL: Final = ("hostname", "domainname", "shmmax", "shmall", "msgmax", "sem")
"""Of /proc/sys/kernel those that are a namespace's."""
_IFINFO: Final = struct.Struct("=BxHiII")
_IFLA_AF_SPEC: Final = 26
RTM_GETRULE: Final = 34
_FIB_RULE_BYTES: Final = 12


class Mark(msgspec.Struct, frozen=True):
    """Digests; equal ones are of the same."""

    network: str
    files: str


def mark(pid: int, described: Sequence[str]) -> Mark:
    """The mark of the node whose holder is `pid`, with these files of its description.

    OSError when it is gone.
    """

    def work() -> tuple[bytes, list[int]]:
        found = Mark(network=_digest(_network()), files=_digest(_files(described)))
        return msgspec.json.encode(found), []

    data, _ = from_inside(pid, ("user", "net", "mnt"), work)
    return typed.decode(data, Mark)


def _digest(parts: Iterator[object]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(repr(part).encode(errors="surrogateescape") + b"\0")
    return digest.hexdigest()


def _network() -> Iterator[object]:
    """Links with their settings, addresses, routes, rules, sysctls, nftables' generation."""
    with Netlink() as netlink:
        yield from _links(netlink)
        for what in (RTM_GETADDR, RTM_GETROUTE):
            yield sorted({repr(_lasting(told)) for told in dump(netlink, what)})
        request = Request(RTM_GETRULE, 0, bytes(_FIB_RULE_BYTES), "list rules")
        yield sorted(body for _, body in netlink.dump(request))
    for directory in _SYSCTLS:
        yield from _sysctls(directory)
    try:
        with Netlink(NETLINK_NETFILTER) as netlink:
            yield generation(netlink)
    except OSError as error:
        yield error.errno


def _lasting(told: Told) -> Told | None:
    """Without what comes by itself a while after a link: its link-local address is then in use."""
    if isinstance(told, AddressTold):
        return told._replace(is_tentative=False)
    if isinstance(told, RouteTold) and told.to.startswith(("fe80:", "ff00:")):
        return None
    return told


def _links(netlink: Netlink) -> Iterator[object]:
    """The kernel's own settings of each link are with it, those of IPv4 and IPv6 (AF_SPEC)."""
    yield sorted(map(repr, dump(netlink, RTM_GETLINK)))
    body = _IFINFO.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    for _, answer in netlink.dump(Request(RTM_GETLINK, 0, body, "list links")):
        for kind, value in attributes(answer[_IFINFO.size :]):
            if kind == _IFLA_AF_SPEC:
                yield from _settings(value)


def _settings(value: bytes) -> Iterator[object]:
    """IFLA_INET_CONF and IFLA_INET6_CONF, the first attribute of IPv4 and the second of IPv6."""
    wanted: dict[int, int] = {socket.AF_INET: 1, socket.AF_INET6: 2}
    for family, of_family in attributes(value):
        for kind, settings in attributes(of_family):
            if kind == wanted.get(family):
                yield family, settings


def _sysctls(directory: str) -> Iterator[object]:
    with os.scandir(f"/proc/sys/{directory}") as entries:
        names = sorted(entry.name for entry in entries if entry.is_file(follow_symlinks=False))
    for name in names:
        if directory == "kernel" and name not in _KERNEL:
            continue
        try:
            with open(f"/proc/sys/{directory}/{name}", "rb", buffering=0) as file:
                yield name, file.read(4096)
        except OSError as error:
            yield name, error.errno


def _files(described: Sequence[str]) -> Iterator[object]:
    with open("/proc/1/mountinfo", errors="surrogateescape") as lines:
        mounts = [(line.split(" ")[4], line.partition(" - ")[2].split(" ")[0]) for line in lines]
    for place, kind in mounts:
        yield place, kind
        if kind == "overlay":
            status = os.statvfs(place)
            yield status.f_blocks - status.f_bfree, status.f_files - status.f_ffree
        elif kind == "tmpfs":
            yield from _entries(place)
    for path in described:
        yield path, _look(path)


def _entries(place: str) -> Iterator[object]:
    count = 0
    device = os.lstat(place).st_dev
    for where, directories, names in os.walk(place):
        if where == place:
            yield where, _look(where)
        directories[:] = sorted(
            name
            for name in directories
            if os.path.join(where, name) != _OWN_FILES
            and os.lstat(os.path.join(where, name)).st_dev == device
        )
        for name in (*directories, *sorted(names)):
            count += 1
            yield name, _look(os.path.join(where, name))
        if count > MOST_FILES:
            yield os.urandom(8)
            return


def _look(path: str) -> object:
    try:
        found = os.lstat(path)
    except OSError as error:
        return error.errno
    return (
        found.st_ino,
        found.st_mode,
        found.st_uid,
        found.st_gid,
        found.st_size if not os.path.isdir(path) else 0,
        found.st_ctime_ns,
    )
