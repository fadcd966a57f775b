"""The switch namespace: a bridge for each segment, a port for each interface.

The bridges are in one namespace of their own, so that capture and link-down work the same for
every link and the machine sees nothing of them. A bridge is set up after its first ports are on it
(measured: 35–41 ms a port on a bridge of 1,000 that is up, 5–7 ms on one that is down).
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

from hostlab.lab.outlets import Outlets
from hostlab.linux import rtnetlink
from hostlab.linux.netlink import Netlink, Request
from hostlab.linux.rtnetlink import VethEnd
from hostlab.spec.model import Interface, Segment

FIRST_PORT_INDEX: Final = 100
_NETFILTER: Final = "/proc/sys/net/bridge/bridge-nf-call-"
_IPV6: Final = "/proc/sys/net/ipv6/conf/default/disable_ipv6"


class Switch:
    """The bridges and ports of one lab, in the calling process' network namespace."""

    def __init__(self) -> None:
        self.netlink = Netlink()
        self.bridges: dict[str, int] = {}
        self._next = FIRST_PORT_INDEX
        self._ups: dict[str, Request] = {}
        self.outlets = Outlets(self)

    def prepare(self) -> None:
        """Once for a new namespace: the loopback, and no firewall between a bridge's ports.

        Nor has a port, or an end of a cable that is cut, addresses of its own: it would say so to
        the node, and answer what is for everyone.
        """
        self.netlink.request([rtnetlink.link_set(1, up=True)])
        with contextlib.suppress(FileNotFoundError), open(_IPV6, "w") as file:
            file.write("1")
        for table in ("iptables", "ip6tables", "arptables"):
            with contextlib.suppress(FileNotFoundError), open(_NETFILTER + table, "w") as file:
                file.write("0")

    def adopt(self) -> None:
        """Find what an earlier supervisor made: the kernel's list is the only record."""
        for link in rtnetlink.links(self.netlink):
            self._next = max(self._next, link.index + 1)
            if link.kind == "bridge" and link.altnames:
                self.bridges[link.altnames[0]] = link.index
            elif link.altnames:
                self.outlets.adopt(link.altnames[0])

    def take_index(self) -> int:
        """An interface index that no link of this namespace has."""
        number = self._next
        self._next += 1
        return number

    def add_segment(self, segment: Segment) -> None:
        """A bridge, down until `raise_bridges`; its altname is the segment's whole name."""
        index = self.take_index()
        mac = f"02:ff:00:{index >> 16 & 255:02x}:{index >> 8 & 255:02x}:{index & 255:02x}"
        self.netlink.request(
            [
                rtnetlink.bridge_add(f"br{index}", index, mtu=segment.mtu, mac=mac),
                rtnetlink.altname_add(index, segment.name),
            ]
        )
        self.bridges[segment.name] = index
        self._ups[segment.name] = rtnetlink.link_set(index, up=True)
        if segment.taps:
            self.outlets.settle_taps(segment)

    def raise_bridges(self) -> None:
        """Set the new bridges up."""
        ups, self._ups = self._ups, {}
        self.netlink.request(list(ups.values()))

    def remove_segment(self, name: str) -> None:
        """Take a bridge away; its ports must have gone with their nodes."""
        self._ups.pop(name, None)
        self.outlets.end_taps(name)
        self.netlink.request([rtnetlink.link_delete(self.bridges.pop(name))])

    def change_mtu(self, segment: Segment, ports: dict[int, int]) -> None:
        """Change a bridge's MTU, and that of the ports that are given with theirs."""
        requests = [rtnetlink.link_set(port, mtu=mtu) for port, mtu in ports.items()]
        bridge = rtnetlink.link_set(self.bridges[segment.name], mtu=segment.mtu)
        self.netlink.request([*requests, bridge])

    def port(self, node: str, interface: Interface, index: int, namespace: int) -> Request:
        """The request that plugs a node's new interface in: one message for the whole cable.

        One on a device of the machine was made there beforehand, and is only moved.
        """
        if interface.device:
            return self.outlets.to_node(node, interface, index, namespace)
        port = self.take_index()
        return rtnetlink.veth_add(
            VethEnd(port_name(port), port, master=self.bridges[interface.segment], up=True),
            VethEnd(interface.name, index, mac=interface.mac, namespace_fd=namespace),
            mtu=interface.mtu,
        )

    def plug(self, segment: str, index: int) -> None:
        """Put a link of this namespace onto a segment, and set it up."""
        self.netlink.request([rtnetlink.link_set(index, master=self.bridges[segment], up=True)])

    def attach(self, segment: str, link: str) -> None:
        """Put a link that someone else made in this namespace onto a segment, and set it up."""
        found = [x for x in rtnetlink.links(self.netlink) if x.name == link]
        if not found:
            raise FileNotFoundError(f"no link {link} in the switch namespace")
        index = found[0].index
        self._next = max(self._next, index + 1)
        self.plug(segment, index)


def port_name(index: int) -> str:
    """The name of a port: the switch's end of an interface's cable."""
    return f"p{index}"


def stand_in_name(index: int) -> str:
    """The name of what is on the bridge in a port's place while the user-space wire carries for it.

    By the port's name and this one frames are known whichever of the two is there.
    """
    return f"{port_name(index)}w"


def own_namespace() -> int:
    """A descriptor of the calling process' network namespace, to come back to."""
    return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
