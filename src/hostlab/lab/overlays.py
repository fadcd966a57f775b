"""A node's ends of tunnels, and the bridges that join them to what else it is plugged into.

They are links of the node's own namespace, made there by the node that starts, or by the hub
through a socket of the node's when it is changed while it runs.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, assert_never

from msgspec.structs import replace

from hostlab.errors import Unsupported
from hostlab.linux import neighbours, rtnetlink, tunnels
from hostlab.linux.clone import CLONE_NEWNET
from hostlab.linux.libc import unshare
from hostlab.linux.netlink import Netlink, Request
from hostlab.linux.tunnels import NewLink
from hostlab.spec.model import Interface, Lab, SegmentKind, Tunnel

_MODULES: Final = {
    SegmentKind.VXLAN: "vxlan",
    SegmentKind.GRE: "ip_gre",
    SegmentKind.IPIP: "ipip",
    SegmentKind.VLAN: "8021q",
}
"""The kernel modules that have them."""
_LOWER, _PROBED = 7, 8
_found: dict[SegmentKind, int] = {}
"""What came of trying a kind: an errno, or 0. Asked once a process."""


def in_order(interfaces: Iterable[Interface]) -> list[Interface]:
    """Those that carry others come before those."""
    return sorted(interfaces, key=lambda interface: interface.tunnel is not None)


def bridges(interfaces: Iterable[Interface]) -> Iterator[str]:
    """The bridges in a node, each once: a tunnel's end is a port of at most one."""
    return (i.bridge for i in interfaces if i.bridge and i.tunnel is not None)


def add(interface: Interface, index: Mapping[str, int]) -> list[Request]:
    """What makes an interface's end of a tunnel, with what it knows; nothing for another."""
    tunnel = interface.tunnel
    if tunnel is None:
        return []
    number = index[interface.name]
    return [_add(interface, tunnel, index), *retell(number, None, tunnel)]


def _add(interface: Interface, tunnel: Tunnel, index: Mapping[str, int]) -> Request:
    mac = None if tunnel.kind is SegmentKind.IPIP else interface.mac
    link = NewLink(interface.name, index[interface.name], interface.mtu, mac)
    match tunnel.kind:
        case SegmentKind.VXLAN:
            return tunnels.vxlan_add(
                link,
                vni=tunnel.number,
                local=tunnel.local,
                ttl=tunnel.ttl,
                port=tunnel.port,
                learning=tunnel.learning,
                group=tunnel.group or None,
                over=index[tunnel.over] if tunnel.group else None,
            )
        case SegmentKind.GRE:
            (remote,) = tunnel.remotes
            return tunnels.gretap_add(
                link, local=tunnel.local, remote=remote, ttl=tunnel.ttl, key=tunnel.number
            )
        case SegmentKind.IPIP:
            (remote,) = tunnel.remotes
            return tunnels.ipip_add(link, local=tunnel.local, remote=remote, ttl=tunnel.ttl)
        case SegmentKind.VLAN:
            return tunnels.vlan_add(link, over=index[tunnel.over], vlan=tunnel.number)
        case SegmentKind.BRIDGE | SegmentKind.MACVLAN:
            raise AssertionError(f"{tunnel.kind} is no tunnel")
        case never:
            assert_never(never)


def bridge(interface: Interface, ports: Iterable[int], index: int) -> list[Request]:
    """A bridge in a node for a tunnel's end, with these ports, which are down or up."""
    made = rtnetlink.bridge_add(interface.bridge, index, mtu=interface.mtu, mac=interface.mac)
    joined = (rtnetlink.link_set(port, master=index) for port in ports)
    return [made, *joined]


def retell(index: int, old: Tunnel | None, new: Tunnel) -> list[Request]:
    """From what an end knew of the others (None: nothing) to what it is to know."""
    if new.kind is not SegmentKind.VXLAN:
        return []
    before = {} if old is None else dict.fromkeys(_entries(old))
    after = dict.fromkeys(_entries(new))
    gone = [neighbours.fdb_delete(index, *entry) for entry in before if entry not in after]
    come = [neighbours.fdb_append(index, *entry) for entry in after if entry not in before]
    return [*gone, *come]


def _entries(tunnel: Tunnel) -> Iterator[tuple[str, str]]:
    for remote in tunnel.remotes:
        yield neighbours.UNKNOWN, remote
    yield from tunnel.places


def is_same_link(old: Interface, new: Interface) -> bool:
    """Whether one end can become the other by `retell` alone."""
    if old.tunnel is None or new.tunnel is None:
        return old.tunnel is new.tunnel
    if old.tunnel.kind is not SegmentKind.VXLAN:
        return old.tunnel == new.tunnel
    was, now = (replace(t, remotes=(), places=()) for t in (old.tunnel, new.tunnel))
    return was == now and old.bridge == new.bridge


def require(lab: Lab) -> None:
    """Unsupported, when this kernel lacks a kind of tunnel that the lab has.

    Each is tried once, in a network namespace that goes away with its process.
    """
    for segment in lab.segments:
        if segment.kind not in _MODULES:
            continue
        if segment.kind not in _found:
            _found[segment.kind] = _try(segment.kind)
        error = _found[segment.kind]
        if error:
            reason = os.strerror(error)
            raise Unsupported(
                "link-kind",
                f"segment {segment.name}: this kernel makes no {segment.kind} link ({reason})",
                hint=f"`modprobe {_MODULES[segment.kind]}`, or a kernel that has it;"
                " `hostlab doctor` lists what this one has",
            )


def _try(kind: SegmentKind) -> int:
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    status = errno.EIO
    try:
        unshare(CLONE_NEWNET)
        tunnel = Tunnel(
            kind=kind, over="lower", number=2, local="192.0.2.1", remotes=("192.0.2.2",)
        )
        interface = Interface(
            name="probed", segment="", addresses=(), mac="02:00:00:00:00:08", tunnel=tunnel
        )
        with Netlink() as netlink:
            lower = rtnetlink.bridge_add("lower", _LOWER, mtu=1500, mac="02:00:00:00:00:07")
            netlink.request([lower])
            netlink.request([_add(interface, tunnel, {"lower": _LOWER, "probed": _PROBED})])
        status = 0
    except OSError as error:
        status = error.errno or errno.EIO
    finally:
        os._exit(status)
