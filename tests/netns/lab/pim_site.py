"""Multicast on a node's wire: PIM and IGMP messages, members, and a source that repeats itself."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from typing import NamedTuple

from hostlab.linux.entering import from_inside
from hostlab.sync import Node
from tests.netns.lab.wire_site import FRAME_BYTES, IPV4, Wire

PORT = 5001
EVERY_S = 0.25
"""How often a source repeats itself while it is waited for."""
PIM, IGMP, UDP = 103, 2, 17
REGISTER, REGISTER_STOP, JOIN_PRUNE, BOOTSTRAP = 1, 2, 3, 4
PATIENCE_S = 120.0
"""pimd acts every 5 s, router by router."""
_REPORT = 0x22


class Packet(NamedTuple):
    """An IPv4 packet."""

    source: str
    destination: str
    ttl: int
    protocol: int
    payload: bytes


class Joined(NamedTuple):
    """One source of one group in a Join/Prune message (RFC 7761, section 4.9.5)."""

    group: str
    source: str
    """The rendez-vous point of a (*,G) join."""
    is_any: bool
    """(*,G)."""


def packet(frame: bytes) -> Packet | None:
    """What a frame carries, if that is IPv4."""
    return ipv4(frame[14:]) if int.from_bytes(frame[12:14], "big") == IPV4 else None


def ipv4(data: bytes) -> Packet:
    """An IPv4 packet, without its options."""
    start = (data[0] & 15) * 4
    source, destination = (str(ip_address(data[at : at + 4])) for at in (12, 16))
    return Packet(source, destination, data[8], data[9], data[start:])


def pim(frame: bytes, kind: int) -> Packet | None:
    """A PIM message of this kind."""
    found = packet(frame)
    is_one = found is not None and found.protocol == PIM and found.payload[0] == 0x20 | kind
    return found if is_one else None


def registered(frame: bytes) -> Packet | None:
    """The packet inside a Register message."""
    found = pim(frame, REGISTER)
    return None if found is None else ipv4(found.payload[8:])


def joins(frame: bytes) -> list[Joined]:
    """Who is joined by a Join/Prune message."""
    message = pim(frame, JOIN_PRUNE)
    if message is None:
        return []
    data, found = message.payload, []
    groups, at = data[11], 14
    for _ in range(groups):
        group = str(ip_address(data[at + 4 : at + 8]))
        joined, pruned = struct.unpack_from("!HH", data, at + 8)
        for number in range(joined):
            one = data[at + 12 + 8 * number : at + 20 + 8 * number]
            found.append(Joined(group, str(ip_address(one[4:8])), bool(one[2] & 2)))
        at += 12 + 8 * (joined + pruned)
    return found


def bootstrap(frame: bytes) -> tuple[str, int] | None:
    """Who is elected to hand out rendez-vous points, and with which priority (RFC 5059)."""
    message = pim(frame, BOOTSTRAP)
    if message is None:
        return None
    return str(ip_address(message.payload[10:14])), message.payload[7]


def reported(frame: bytes) -> set[str]:
    """The groups that an IGMPv3 report is for (RFC 3376, section 4.2)."""
    found = packet(frame)
    if found is None or found.protocol != IGMP or found.payload[0] != _REPORT:
        return set()
    data, at, groups = found.payload, 8, set()
    for _ in range(int.from_bytes(data[6:8], "big")):
        groups.add(str(ip_address(data[at + 4 : at + 8])))
        at += 8 + 4 * int.from_bytes(data[at + 2 : at + 4], "big") + 4 * data[at + 1]
    return groups


@contextmanager
def member(node: Node, group: str, address: str) -> Iterator[None]:
    """A socket in the node that is a member of the group on the interface with that address."""

    def work() -> tuple[bytes, Sequence[int]]:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(
            socket.IPPROTO_IP,
            socket.IP_ADD_MEMBERSHIP,
            socket.inet_aton(group) + socket.inet_aton(address),
        )
        return b"", (sock.detach(),)

    with socket.socket(fileno=from_inside(node.pid, ("user", "net"), work)[1][0]):
        yield


@contextmanager
def source(node: Node, address: str, ttl: int) -> Iterator[socket.socket]:
    """A UDP socket in the node that sends to groups from that address."""

    def work() -> tuple[bytes, Sequence[int]]:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
        return b"", (sock.detach(),)

    with socket.socket(fileno=from_inside(node.pid, ("user", "net"), work)[1][0]) as sock:
        yield sock


def stream(
    sock: socket.socket, group: str, word: bytes, wire: Wire, wanted: Callable[[bytes], bool]
) -> bytes:
    """Send this to the group again and again until a frame of that kind is on the wire."""
    return repeat(lambda: sock.sendto(word, (group, PORT)), wire, wanted, repr(word))


def repeat(
    send: Callable[[], object], wire: Wire, wanted: Callable[[bytes], bool], what: str
) -> bytes:
    """Send again and again until a frame of that kind is on the wire.

    A network that changes its ways loses packets until all of it knows, and no descriptor of ours
    tells when; a source that goes on sending is what it is made for.
    """
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        send()
        again = time.monotonic() + EVERY_S
        while (left := again - time.monotonic()) > 0:
            if select.select([wire.socket], [], [], left)[0]:
                frame = wire.socket.recv(FRAME_BYTES)
                if wanted(frame):
                    return frame
    raise AssertionError(f"not on {wire.name} in {PATIENCE_S} s: {what}")


def holds(word: bytes) -> Callable[[bytes], bool]:
    """Whether a frame is a UDP packet with these words and nothing else."""

    def is_one(frame: bytes) -> bool:
        found = packet(frame)
        return found is not None and found.protocol == UDP and found.payload[8:] == word

    return is_one
