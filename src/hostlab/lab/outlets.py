"""What leads out of a lab, in its switch namespace: links on the machine's devices that wait for
their nodes, cables to other labs, taps.

Only a process outside can make the first two, so the hub gives it the numbers to make them with,
and is told when they are there. What they are for is their alternative name: the kernel's list is
the only record, and a supervisor that was killed loses nothing.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import struct
from typing import TYPE_CHECKING, Any, Final

import msgspec

from hostlab.errors import Failed, UsageError
from hostlab.linux import rtnetlink, tunnels
from hostlab.linux.netlink import Request
from hostlab.spec.model import Interface, Lab, Node, Segment

if TYPE_CHECKING:
    from hostlab.lab.segments import Switch

NO_LINK: Final = "no-link"
"""A node has died between the look at who needs a link and the plan."""
SPARE, CABLE, TAP = "spare:", "cable:", "tap:"
"""Begin alternative names; no segment's name has a colon."""
TUN_DEVICE: Final = "/dev/net/tun"
TUNSETIFF, TUNSETPERSIST = 0x400454CA, 0x400454CB
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
_KEY_DIGITS: Final = 32


class Spare(msgspec.Struct, frozen=True):
    """A link to be made on a device of the machine, in the switch namespace."""

    key: str
    index: int
    segment: str
    device: str
    mode: str
    mac: str
    mtu: int


def spare_key(node: str, interface: Interface) -> str:
    """Which link an interface wants: one of another device or mode is another link."""
    return f"{SPARE}{node}/{interface.name}/{interface.device}/{interface.mode}"


def cable_key(one: str, other: str) -> str:
    """A cable's alternative name, the same from both sides; the names are too long to be in it."""
    both = "=".join(sorted((one, other)))
    return CABLE + hashlib.sha256(both.encode()).hexdigest()[:_KEY_DIGITS]


def tap_key(segment: str, name: str) -> str:
    """A tap's alternative name."""
    return f"{TAP}{segment}/{name}"


class Outlets:
    """The lab's, by their alternative names."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self._netlink = switch.netlink
        self._tapped: set[str] = set()
        """Segments that have had taps."""

    def found(self, prefix: str) -> dict[str, int]:
        """Alternative name -> index of those of a kind."""
        return {
            link.altnames[0]: link.index
            for link in rtnetlink.links(self._netlink)
            if link.altnames and link.altnames[0].startswith(prefix)
        }

    def name(self, index: int, name: str) -> None:
        """Say what a link is for that has been made.

        Of a lab that went down a moment ago the kernel may not have taken the cable yet.
        """
        if (old := self.found(name).get(name)) is not None:
            self._netlink.try_each([rtnetlink.link_delete(old)], unless=(errno.ENODEV,))
        self._netlink.request([rtnetlink.altname_add(index, name)])

    def is_free(self, index: int) -> bool:
        """Whether a link that waits can be set up: its MAC address is nobody else's there."""
        try:
            self._netlink.request([rtnetlink.link_set(index, up=True)])
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
        self._netlink.request([rtnetlink.link_set(index, up=False)])
        return True

    def delete(self, prefix: str, *, keep: frozenset[str] = frozenset()) -> None:
        """Those of a kind that are not to be kept."""
        gone = [index for name, index in self.found(prefix).items() if name not in keep]
        self._netlink.request([rtnetlink.link_delete(index) for index in gone])

    def wanted_spares(self, old: Lab, new: Lab) -> list[Spare]:
        """The links that nodes are to have in `new`, and neither have in `old` nor wait here."""
        there = {*self.found(SPARE)}
        there |= {spare_key(n.name, i) for n in old.nodes for i in n.interfaces if i.device}
        return [
            Spare(
                key=spare_key(node.name, interface),
                index=self._switch.take_index(),
                segment=interface.segment,
                device=interface.device,
                mode=interface.mode,
                mac=interface.mac,
                mtu=interface.mtu,
            )
            for node in new.nodes
            for interface in node.interfaces
            if interface.device and spare_key(node.name, interface) not in there
        ]

    def to_node(self, node: str, interface: Interface, index: int, namespace: int) -> Request:
        """The request that gives a node the link that was made for it."""
        found = self.found(SPARE).get(spare_key(node, interface))
        if found is None:
            message = f"node {node}: no link on {interface.device} has been made for it"
            raise Failed(NO_LINK, message, hint="repeat the command")
        return tunnels.link_move(
            found,
            namespace_fd=namespace,
            name=interface.name,
            new_index=index,
            mac=interface.mac,
            mtu=interface.mtu,
        )

    def from_node(self, index: int, home: int) -> list[Request]:
        """What takes it back, for a socket of the node: its addresses and routes go.

        `home` is a descriptor of the switch namespace. It waits there, for its node or its end.
        """
        number = self._switch.take_index()
        back = tunnels.link_move(index, namespace_fd=home, name=f"sp{number}", new_index=number)
        return [rtnetlink.link_set(index, up=False), back]

    def settle_taps(self, segment: Segment) -> None:
        """Make the taps of a segment that are missing, and end those that are not described."""
        wanted = {tap_key(segment.name, name) for name in segment.taps}
        prefix = tap_key(segment.name, "")
        self._tapped.add(segment.name)
        there = {*self.found(prefix)}
        self.delete(prefix, keep=frozenset(wanted))
        for key in sorted(wanted - there):
            _make_tap(name := f"tap{self._switch.take_index()}")
            index = next(x.index for x in rtnetlink.links(self._netlink) if x.name == name)
            self.name(index, key)
            master = self._switch.bridges[segment.name]
            mtu = segment.mtu
            self._netlink.request([rtnetlink.link_set(index, master=master, mtu=mtu, up=True)])

    def adopt(self, altname: str) -> None:
        """Note what an earlier supervisor has made."""
        if altname.startswith(TAP):
            self._tapped.add(altname.removeprefix(TAP).partition("/")[0])

    def end_taps(self, segment: str) -> None:
        """All taps of a segment."""
        if segment in self._tapped:
            self.delete(tap_key(segment, ""))
            self._tapped.remove(segment)

    def unjoined(self, lab: Lab) -> list[str]:
        """What to tell of cables that are described and not there."""
        described = [segment for segment in lab.segments if segment.lab]
        there = self.found(CABLE) if described else {}
        return [
            f"segment {segment.name} is not joined to {segment.lab}, whose lab is not up"
            for segment in described
            if cable_key(f"{lab.name}/{segment.name}", segment.lab) not in there
        ]

    def tap_device(self, segment: str, name: str) -> str:
        """The device of a tap; UsageError when the segment has none of this name."""
        key = tap_key(segment, name)
        for link in rtnetlink.links(self._netlink):
            if key in link.altnames:
                return link.name
        raise UsageError(
            "no-tap",
            f"segment {segment} has no tap {name!r}",
            hint=f"describe it: `{segment}: {{taps: [{name}]}}`",
        )


def _make_tap(name: str) -> None:
    """A tap that stays until it is deleted; a program that opens it is its cable."""
    fd = open_tap(name)
    try:
        fcntl.ioctl(fd, TUNSETPERSIST, 1)
    finally:
        os.close(fd)


def open_tap(name: str) -> int:
    """A descriptor whose frames are a tap's; OSError EBUSY when somebody has it (tuntap.rst)."""
    fd = os.open(TUN_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    except BaseException:
        os.close(fd)
        raise
    return fd


def device_links(node: Node) -> tuple[Interface, ...]:
    """The interfaces of a node that are on the machine's devices."""
    return tuple(interface for interface in node.interfaces if interface.device)


def told(spares: list[Spare]) -> list[dict[str, Any]]:
    """As an answer of the hub's."""
    return [msgspec.to_builtins(spare) for spare in spares]
