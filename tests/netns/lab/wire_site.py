"""Frames on a node's interface, sent and seen through packet sockets, and what is around them."""

from __future__ import annotations

import select
import struct
import time
from collections.abc import Callable
from ipaddress import ip_address
from typing import NamedTuple

from hostlab.observe.in_node import capture_socket_in
from hostlab.sync import Node

DEADLINE_S = 60.0
FRAME_BYTES = 1 << 16
EVERYONE = "ff:ff:ff:ff:ff:ff"
LOCAL_EXPERIMENT = 0x88B5
"""IEEE 802's EtherType for whoever tries something: nothing else on a wire has it."""
ARP, IPV4, IPV6 = 0x0806, 0x0800, 0x86DD


class Carried(NamedTuple):
    """A frame inside a VXLAN packet, and what is around it."""

    outer_mac: str
    source: str
    destination: str
    ttl: int
    port: int
    vni: int
    frame: bytes


class Wire:
    """One interface of a node."""

    def __init__(self, node: Node, interface: str) -> None:
        self.socket = capture_socket_in(node.pid, interface)
        self.name = f"{node.name}:{interface}"

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, frame: bytes) -> None:
        """Put a frame on it."""
        self.socket.send(frame)

    def wait(self, wanted: Callable[[bytes], bool], what: str) -> bytes:
        """The next frame of that kind, in or out; fails after the deadline."""
        return self.until(wanted, what)[-1]

    def until(self, wanted: Callable[[bytes], bool], what: str) -> list[bytes]:
        """The frames up to the next one of that kind; fails after the deadline."""
        deadline = time.monotonic() + DEADLINE_S
        frames: list[bytes] = []
        while True:
            left = deadline - time.monotonic()
            is_there = left > 0 and select.select([self.socket], [], [], left)[0]
            assert is_there, f"not on {self.name} in {DEADLINE_S} s: {what}"
            frames.append(self.socket.recv(FRAME_BYTES))
            if wanted(frames[-1]):
                return frames

    def wait_carried(self, wanted: Callable[[Carried], bool], what: str) -> Carried:
        """The next VXLAN packet whose content is of that kind."""

        def is_wanted(frame: bytes) -> bool:
            found = carried(frame)
            return found is not None and wanted(found)

        found = carried(self.wait(is_wanted, what))
        assert found is not None
        return found

    def so_far(self) -> list[bytes]:
        """The frames that have passed and were not waited for."""
        frames = []
        while select.select([self.socket], [], [], 0)[0]:
            frames.append(self.socket.recv(FRAME_BYTES))
        return frames


def frame(source: str, payload: bytes, *, to: str = EVERYONE) -> bytes:
    """A frame that no protocol answers."""
    macs = bytes.fromhex((to + source).replace(":", ""))
    return macs + struct.pack("!H", LOCAL_EXPERIMENT) + payload.ljust(46, b"\0")


def is_frame(payload: bytes) -> Callable[[bytes], bool]:
    """Whether a frame is the one with this payload, whoever sent it."""
    begin = struct.pack("!H", LOCAL_EXPERIMENT) + payload
    return lambda one: one[12:].startswith(begin)


def is_inside(payload: bytes) -> Callable[[Carried], bool]:
    """Whether a VXLAN packet carries that frame."""
    return lambda packet: is_frame(payload)(packet.frame)


def carried(one: bytes) -> Carried | None:
    """What a frame carries if it is a VXLAN packet (RFC 7348, section 5) in IPv4 or IPv6."""
    kind = int.from_bytes(one[12:14], "big")
    if kind == IPV4:
        start = 14 + (one[14] & 15) * 4
        ttl, protocol, source, destination = one[22], one[23], one[26:30], one[30:34]
    elif kind == IPV6:
        start, ttl, protocol = 54, one[21], one[20]
        source, destination = one[22:38], one[38:54]
    else:
        return None
    port = int.from_bytes(one[start + 2 : start + 4], "big")
    head = one[start + 8 : start + 16]
    if protocol != 17 or port not in (4789, 8472) or len(head) < 8 or head[0] != 8:
        return None
    return Carried(
        outer_mac=one[:6].hex(":"),
        source=str(ip_address(source)),
        destination=str(ip_address(destination)),
        ttl=ttl,
        port=port,
        vni=int.from_bytes(head[4:7], "big"),
        frame=one[start + 16 :],
    )
