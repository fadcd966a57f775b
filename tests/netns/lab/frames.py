"""Frames of a test's own, sent and received at interfaces of nodes by packet sockets."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from hostlab.linux.frame_ring import FrameSocket
from hostlab.linux.netns import Home
from hostlab.sync import Node

DEADLINE_S = 60.0
KIND = 0x88B5
"""An EtherType for experiments (IEEE 802, local experimental 1)."""
BYTES = 120
KNOCK = (b"\xff" * 6 + bytes.fromhex("020000009902") + struct.pack("!H", KIND)).ljust(60, b"\xaa")
KNOCK_AGAIN_MS = 200
"""A frame that was lost tells nobody."""


def frame(number: int, *, tag: int | None = None) -> bytes:
    """A broadcast frame with a number in it, of a sender that nobody else is."""
    head = b"\xff" * 6 + bytes.fromhex("020000009901")
    if tag is not None:
        head += struct.pack("!HH", 0x8100, tag)
    head += struct.pack("!H", KIND) + struct.pack("!I", number)
    return head.ljust(BYTES, b"\x55")


class End:
    """An interface of a node: what arrives there, with the kernel's time, and a way to send."""

    def __init__(self, ring: FrameSocket) -> None:
        self.ring = ring
        self.got: list[tuple[int, bytes]] = []

    def send(self, *frames: bytes) -> None:
        """Send these, one after another."""
        for one in frames:
            self.ring.socket.send(one)

    def take(self, count: int) -> list[bytes]:
        """Wait until so many of the tests' own frames have come, in all; those that have."""
        poll = select.poll()
        poll.register(self.ring.socket, select.POLLIN)
        while len(self.got) < count:
            assert poll.poll(DEADLINE_S * 1000), f"{len(self.got)} of {count} frames have come"
            self.got += [(at, data) for at, data in self.ring.frames() if b"\x55" * 40 in data]
        return [data for _, data in self.got]


def knock(here: End, there: End) -> None:
    """Send until something arrives: a port whose carrier is new may not be open yet."""
    deadline = time.monotonic() + DEADLINE_S
    poll = select.poll()
    poll.register(there.ring.socket, select.POLLIN)
    here.send(KNOCK)
    while KNOCK not in [data for _, data in there.ring.frames()]:
        assert time.monotonic() < deadline, "no frame gets through"
        if not poll.poll(KNOCK_AGAIN_MS):
            here.send(KNOCK)


@contextmanager
def end_of(node: Node, interface: str = "eth0", *, mtu: int = 1500) -> Iterator[End]:
    """Sockets at a node's interface, from the moment of this call."""
    home = Home()
    with ExitStack() as stack:
        stack.callback(home.close)
        with open(f"/proc/{node.pid}/ns/net") as namespace, home.visit(namespace.fileno()):
            ring = FrameSocket(socket.if_nametoindex(interface), mtu)
        stack.callback(ring.close)
        yield End(ring)
