"""Who is behind which link of a node, in the kernel's words and in the description's."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from hostlab.linux import neighbours, rtnetlink
from hostlab.linux.entering import from_inside
from hostlab.linux.netlink import Netlink
from hostlab.linux.rtnetlink import NTF_EXT_LEARNED
from hostlab.spec.model import Lab


class Place(msgspec.Struct, frozen=True):
    """An entry of a forwarding table: a MAC address and where its packets are sent."""

    interface: str
    mac: str
    host: str | None
    """Whose it is, `NODE:INTERFACE`, where the description knows it."""
    bridge: str | None
    """The bridge whose table it is in; None: a table of the interface's own."""
    end: str | None
    """Of a VXLAN: the address of the other end,"""
    end_host: str | None
    """and whose that is."""
    state: str
    """`learned`, `given` (by a program or the description), `own`, or what the kernel calls it."""


class Neighbour(msgspec.Struct, frozen=True):
    """An address that the node knows the MAC address of, or asks for."""

    interface: str
    address: str
    mac: str | None
    host: str | None
    """Whose the address is, `NODE:INTERFACE`."""
    state: str
    """As ip-neighbour(8) has it."""
    given: bool
    """Whether hostlab entered it when the node came up; else the node has asked."""


@dataclass(slots=True)
class Hosts:
    """Who the description says has which MAC and IP address."""

    macs: dict[str, str] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, lab: Lab) -> Hosts:
        """Those of a lab; of two that have an address, the first."""
        found = cls()
        for node in lab.nodes:
            for interface in node.interfaces:
                who = f"{node.name}:{interface.name}"
                found.macs.setdefault(interface.mac, who)
                for address in interface.addresses:
                    found.addresses.setdefault(address.partition("/")[0], who)
            for address in node.loopbacks:
                found.addresses.setdefault(address.partition("/")[0], f"{node.name}:lo")
        return found


def forwarding(pid: int, hosts: Hosts) -> list[Place]:
    """The forwarding tables in the network namespace of a process, in the kernel's order."""
    with _netlink_in(pid) as netlink:
        names = {link.index: link.name for link in rtnetlink.links(netlink)}
        return [_place(entry, names, hosts) for entry in neighbours.fdb(netlink)]


def _place(entry: neighbours.FdbEntry, names: Mapping[int, str], hosts: Hosts) -> Place:
    return Place(
        interface=names.get(entry.ifindex, str(entry.ifindex)),
        mac=entry.mac,
        host=hosts.macs.get(entry.mac),
        bridge=names.get(entry.master),
        end=entry.dst,
        end_host=None if entry.dst is None else hosts.addresses.get(entry.dst),
        state=_fdb_state(entry),
    )


def _fdb_state(entry: neighbours.FdbEntry) -> str:
    if entry.is_learned:
        return "learned"
    if entry.dst is not None or entry.flags & NTF_EXT_LEARNED:
        return "given"
    return "own" if entry.state & neighbours.NUD_PERMANENT else neighbours.states(entry.state)


def known(pid: int, hosts: Hosts) -> list[Neighbour]:
    """The neighbours of the network namespace of a process, by interface and address."""
    with _netlink_in(pid) as netlink:
        names = {link.index: link.name for link in rtnetlink.links(netlink)}
        rows = [
            Neighbour(
                interface=names.get(one.ifindex, str(one.ifindex)),
                address=one.address,
                mac=one.mac or None,
                host=hosts.addresses.get(one.address) or hosts.macs.get(one.mac),
                state=neighbours.states(one.state),
                given=bool(one.flags & NTF_EXT_LEARNED),
            )
            for one in neighbours.neighbours(netlink)
        ]
    return sorted(rows, key=lambda row: (row.interface, ":" in row.address, row.address))


def _netlink_in(pid: int) -> Netlink:
    """A netlink socket of a process' network namespace, made there and brought here."""

    def work() -> tuple[bytes, list[int]]:
        return b"", [Netlink().socket.detach()]

    _, (fd,) = from_inside(pid, ("user", "net"), work)
    return Netlink(adopted=socket.socket(fileno=fd))
