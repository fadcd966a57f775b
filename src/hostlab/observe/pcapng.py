"""Captured packets as pcapng, which Wireshark reads from a pipe while it grows.

The format is draft-ietf-opsawg-pcapng: a section header, a description of the interface with
nanosecond time stamps, a block a packet with its direction, and at the end the interface's
statistics with what the kernel had to drop.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from typing import Final

import msgspec

from hostlab.errors import Unsupported
from hostlab.linux.packet import Packet, Ring, is_gone, link_type, take_error
from hostlab.version import __version__

_SHB, _IDB, _ISB, _EPB = 0x0A0D0D0A, 1, 5, 6
_BYTE_ORDER_MAGIC = 0x1A2B3C4D
_SHB_OS, _SHB_USERAPPL = 3, 4
_IF_NAME, _IF_TSRESOL, _IF_FILTER = 2, 9, 11
_EPB_FLAGS = 2
_ISB_STARTTIME, _ISB_ENDTIME, _ISB_IFRECV, _ISB_OSDROP = 2, 3, 4, 7
_NANOSECONDS = 9

MAX_SNAPLEN: Final = 262_144
"""What tcpdump and Wireshark take as "everything"."""
HANDED_OVER_S: Final = 1.0
"""So long the kernel may take to hand over what has arrived; `RETIRE_MS` where it is not busy."""

_LINKTYPES = {1: 1, 772: 1, 65534: 101, 778: 101, 768: 101, 769: 101}
"""ARPHRD_ETHER and LOOPBACK are LINKTYPE_ETHERNET; NONE (tun) and IP tunnels are LINKTYPE_RAW."""

_INBOUND, _OUTBOUND = 1, 2
_FLAGS = {0: _INBOUND | 1 << 2, 1: _INBOUND | 3 << 2, 2: _INBOUND | 2 << 2, 3: _INBOUND | 4 << 2}
"""By packet type: direction in bits 0-1, in bits 2-4 unicast, multicast, broadcast, promiscuous."""


class Captured(msgspec.Struct, frozen=True):
    """How a capture ended."""

    packets: int
    """Written."""
    dropped: int
    """Lost by the kernel because the ring was full."""
    reason: str
    """`count`, `stop`, `closed` (nobody reads any more) or `gone` (the interface)."""


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("=HH", code, len(value)) + value + bytes(-len(value) % 4)


_END_OF_OPTIONS = struct.pack("=HH", 0, 0)


def _block(kind: int, body: bytes) -> bytes:
    length = len(body) + 12
    return struct.pack("=II", kind, length) + body + struct.pack("=I", length)


def _time(time_ns: int) -> bytes:
    return struct.pack("=II", time_ns >> 32, time_ns & 0xFFFFFFFF)


def section_header() -> bytes:
    """The block that opens a file; the section's length is left open."""
    body = struct.pack("=IHHq", _BYTE_ORDER_MAGIC, 1, 0, -1)
    system = os.uname()
    body += _option(_SHB_OS, f"{system.sysname} {system.release}".encode())
    body += _option(_SHB_USERAPPL, f"hostlab {__version__}".encode())
    return _block(_SHB, body + _END_OF_OPTIONS)


def interface_description(
    name: str, *, arphrd: int = 1, snaplen: int = MAX_SNAPLEN, expression: str | None = None
) -> bytes:
    """The block that describes interface number 0.

    `Unsupported` for a kind of link that has no LINKTYPE here.
    """
    if arphrd not in _LINKTYPES:
        raise Unsupported("link-type", f"{name}: packets of link type {arphrd} have no pcapng form")
    body = struct.pack("=HHI", _LINKTYPES[arphrd], 0, snaplen)
    body += _option(_IF_NAME, name.encode())
    body += _option(_IF_TSRESOL, bytes([_NANOSECONDS]))
    if expression:
        body += _option(_IF_FILTER, b"\0" + expression.encode())
    return _block(_IDB, body + _END_OF_OPTIONS)


def enhanced_packet(packet: Packet, snaplen: int = MAX_SNAPLEN) -> bytes:
    """The block of one packet, cut to `snaplen` bytes."""
    data = packet.data[:snaplen]
    padding = -len(data) % 4
    length = 44 + len(data) + padding
    return b"".join(
        (
            struct.pack(
                "=IIIIIII",
                _EPB,
                length,
                0,
                packet.time_ns >> 32,
                packet.time_ns & 0xFFFFFFFF,
                len(data),
                packet.length,
            ),
            data,
            bytes(padding),
            struct.pack(
                "=HHIHHI", _EPB_FLAGS, 4, _FLAGS.get(packet.pkttype, _OUTBOUND), 0, 0, length
            ),
        )
    )


def interface_statistics(start_ns: int, end_ns: int, received: int, dropped: int) -> bytes:
    """The block that closes a capture: what arrived, and what the kernel had no room for."""
    body = struct.pack("=I", 0) + _time(end_ns)
    body += _option(_ISB_STARTTIME, _time(start_ns)) + _option(_ISB_ENDTIME, _time(end_ns))
    body += _option(_ISB_IFRECV, struct.pack("=Q", received))
    body += _option(_ISB_OSDROP, struct.pack("=Q", dropped))
    return _block(_ISB, body + _END_OF_OPTIONS)


class _Writer:
    """One capture: the ring on one side, a descriptor on the other."""

    def __init__(self, ring: Ring, out: int, snaplen: int, count: int | None) -> None:
        self.ring = ring
        self.out = out
        self.snaplen = snaplen
        self.left = count
        self.packets = 0
        self.received = 0
        self.dropped = 0

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self.out, view) :]

    def drain(self) -> None:
        """Write all that the ring holds, or as much as is still wanted."""
        for packets in self.ring.blocks():
            wanted = packets if self.left is None else packets[: self.left]
            if wanted:
                self.write(b"".join(enhanced_packet(one, self.snaplen) for one in wanted))
            self.packets += len(wanted)
            if self.left is not None:
                self.left -= len(wanted)
                if not self.left:
                    return

    def count_drops(self) -> None:
        received, dropped = self.ring.statistics()
        self.received += received
        self.dropped += dropped


def _wait_reason(sock: socket.socket, writer: _Writer, stop: int | None) -> str:
    """Copy packets until there is a reason to end."""
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    poller.register(writer.out, 0)  # an error is told unasked: the pipe's reader has gone
    if stop is not None:
        poller.register(stop, select.POLLIN)
    while writer.left != 0:
        for fd, events in poller.poll():
            if fd == writer.out:
                return "closed"
            if fd == stop:
                return "stop"
            if events & select.POLLERR and take_error(sock) == errno.ENETDOWN and is_gone(sock):
                return "gone"
        writer.drain()
    return "count"


def _drain_arrived(sock: socket.socket, writer: _Writer) -> None:
    """Copy what had arrived until now, whose last block is handed over when it is old enough."""
    writer.count_drops()
    arrived = writer.received - writer.dropped
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    deadline = time.monotonic() + HANDED_OVER_S
    while writer.packets < arrived and writer.left != 0:
        left_s = deadline - time.monotonic()
        ready = poller.poll(left_s * 1000) if left_s > 0 else []
        if not ready:
            return
        if ready[0][1] & select.POLLERR:
            take_error(sock)
        writer.drain()


def write_capture(
    sock: socket.socket,
    out: int,
    *,
    interface: str,
    snaplen: int = MAX_SNAPLEN,
    count: int | None = None,
    stop: int | None = None,
    expression: str | None = None,
) -> Captured:
    """Write what a `linux.packet.capture_socket` sees to the descriptor `out`, until told to end.

    Ends after `count` packets, when the descriptor `stop` becomes readable (what the ring holds
    is still written), when nobody reads `out` any more, or when the interface goes away. The
    socket and both descriptors stay the caller's; `expression` only goes into the file.
    """
    start_ns = time.time_ns()
    with Ring(sock) as ring:
        writer = _Writer(ring, out, snaplen, count)
        header = interface_description(
            interface, arphrd=link_type(sock), snaplen=snaplen, expression=expression
        )
        try:
            writer.write(section_header() + header)
            reason = _wait_reason(sock, writer, stop)
            if reason in ("stop", "gone"):
                _drain_arrived(sock, writer)
            writer.count_drops()
            end_ns = time.time_ns()
            if reason != "closed":
                writer.write(
                    interface_statistics(start_ns, end_ns, writer.received, writer.dropped)
                )
        except BrokenPipeError:
            reason = "closed"
            writer.count_drops()
    return Captured(writer.packets, writer.dropped, reason)
