"""rtnetlink as bytes: the messages that the floors send, one system call and one answer each.

rtnetlink(7), linux/if_link.h. Numbers are the kernel's.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_NEWADDR, RTM_NEWNEIGH = 16, 17, 18, 20, 28
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL, NLM_F_CREATE, NLM_F_DUMP = 0x1, 0x4, 0x200, 0x400, 0x300
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MASTER, IFLA_LINKINFO, IFLA_NET_NS_PID = 1, 3, 10, 18, 19
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFA_ADDRESS, IFA_LOCAL = 1, 2
NDA_DST, NDA_LLADDR = 1, 2
NUD_REACHABLE, NTF_EXT_LEARNED = 0x02, 0x10
IFF_UP = 1
RTMGRP_LINK = 1
NLA_F_NESTED = 0x8000
ANSWER_BYTES = 65536
"""More than any one datagram of a dump (the kernel fills 32 KiB at most)."""
EVENT_BUFFER_BYTES = 8 << 20
"""Asked for; the kernel gives what net.core.rmem_max allows."""

_HEADER = struct.Struct("=IHHII")
_IFINFO = struct.Struct("=BxHiII")


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + b"\0" * (-length % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute made of attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    """A string attribute, zero-terminated."""
    return attribute(kind, value.encode() + b"\0")


def number(kind: int, value: int) -> bytes:
    """A 32-bit attribute."""
    return attribute(kind, struct.pack("=I", value))


def link_header(*, index: int = 0, up: bool = False) -> bytes:
    """struct ifinfomsg."""
    flag = IFF_UP if up else 0
    return _IFINFO.pack(socket.AF_UNSPEC, 0, index, flag, flag)


def bridge(name: str) -> bytes:
    """The body that makes a bridge, down."""
    kind = attribute(IFLA_INFO_KIND, b"bridge")
    return link_header() + text(IFLA_IFNAME, name) + nested(IFLA_LINKINFO, kind)


def veth(name: str, master: int, peer: str, pid: int, mac: bytes) -> bytes:
    """The body that makes a veth: `name` on the bridge `master`, `peer` in the namespace of `pid`.

    `mac` is the peer's. Both ends come into being where they belong, so that nothing has to be
    moved. The near end is up; the far end cannot be asked for up in the same message (veth_open
    refuses with ENOTCONN while the pair is not joined yet, drivers/net/veth.c): its node has to
    bring it up.
    """
    far = attribute(
        VETH_INFO_PEER | NLA_F_NESTED,
        link_header()
        + text(IFLA_IFNAME, peer)
        + number(IFLA_NET_NS_PID, pid)
        + attribute(IFLA_ADDRESS, mac),
    )
    info = nested(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, b"veth"), nested(IFLA_INFO_DATA, far))
    return link_header(up=True) + text(IFLA_IFNAME, name) + number(IFLA_MASTER, master) + info


class Rtnl:
    """A route socket of the network namespace it is made in; requests are acknowledged."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        """Give the descriptor back."""
        self._socket.close()

    def request(self, kind: int, body: bytes, flags: int = 0) -> None:
        """Send one message and take its acknowledgement; OSError is the kernel's answer."""
        self._send(kind, NLM_F_REQUEST | NLM_F_ACK | flags, body)
        answer = self._socket.recv(ANSWER_BYTES)
        code = -struct.unpack_from("=i", answer, _HEADER.size)[0]
        if code:
            raise OSError(code, f"rtnetlink message {kind}: {os.strerror(code)}")

    def create(self, body: bytes) -> None:
        """RTM_NEWLINK for something that must not exist yet."""
        self.request(RTM_NEWLINK, body, NLM_F_CREATE | NLM_F_EXCL)

    def set_up(self, index: int) -> None:
        """Bring a link up."""
        self.request(RTM_NEWLINK, link_header(index=index, up=True))

    def add_address(self, index: int, address: str, prefix: int) -> None:
        """Give a link an IPv4 address."""
        value = socket.inet_aton(address)
        body = struct.pack("=BBBBi", socket.AF_INET, prefix, 0, 0, index)
        body += attribute(IFA_LOCAL, value) + attribute(IFA_ADDRESS, value)
        self.request(RTM_NEWADDR, body, NLM_F_CREATE | NLM_F_EXCL)

    def add_neighbour(self, index: int, address: str, mac: bytes) -> None:
        """Install a neighbour as externally learned: the machine-wide limit counts only others."""
        body = struct.pack("=BxxxiHBB", socket.AF_INET, index, NUD_REACHABLE, NTF_EXT_LEARNED, 0)
        body += attribute(NDA_DST, socket.inet_aton(address)) + attribute(NDA_LLADDR, mac)
        self.request(RTM_NEWNEIGH, body, NLM_F_CREATE | NLM_F_EXCL)

    def count_links(self) -> int:
        """How many links the namespace has."""
        self._send(RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, link_header())
        links = 0
        while True:
            for kind, _family in messages(self._socket.recv(ANSWER_BYTES)):
                if kind == NLMSG_DONE:
                    return links
                links += kind == RTM_NEWLINK

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        header = _HEADER.pack(_HEADER.size + len(body), kind, flags, self._sequence, 0)
        self._socket.send(header + body)


def messages(datagram: bytes) -> list[tuple[int, int]]:
    """(message type, address family) of every message of a datagram."""
    found = []
    at = 0
    while at + _HEADER.size <= len(datagram):
        length, kind = struct.unpack_from("=IH", datagram, at)
        if length < _HEADER.size or at + length > len(datagram):
            break
        family = datagram[at + _HEADER.size] if length > _HEADER.size else 0
        found.append((kind, family))
        at += length + (-length % 4)
    return found


class LinkEvents:
    """Hears the links of a network namespace go; made before they do."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, EVENT_BUFFER_BYTES)
        self._socket.bind((0, RTMGRP_LINK))

    def close(self) -> None:
        """Give the descriptor back."""
        self._socket.close()

    def wait_links(self, expected: int, rtnl: Rtnl, deadline_s: float) -> None:
        """Wait until the namespace has `expected` links; TimeoutError when none goes for so long.

        A link leaves the list before its going is announced, so every link that is counted will be
        heard; what is heard twice, or dropped by a full buffer, the next count puts right.
        """
        self._socket.settimeout(deadline_s)
        while (left := rtnl.count_links() - expected) > 0:
            self._hear_deletions(left)

    def _hear_deletions(self, number_of_links: int) -> None:
        heard = 0
        while heard < number_of_links:
            try:
                datagram = self._socket.recv(ANSWER_BYTES)
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    return
                raise
            # A bridge reports the port's going as AF_BRIDGE, the device its own as AF_UNSPEC.
            heard += messages(datagram).count((RTM_DELLINK, socket.AF_UNSPEC))
