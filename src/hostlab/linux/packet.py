"""Capturing on an interface: a packet(7) socket and its TPACKET_V3 ring.

The ring (Documentation/networking/packet_mmap.rst) is memory that the kernel fills and this
process reads, in blocks: no call a packet, and room that no socket buffer limit bounds, so a
burst waits there while a slow reader of ours is served. The kernel hands a block over when it is
full or `RETIRE_MS` old.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import struct
from collections.abc import Iterator
from types import TracebackType
from typing import Final, NamedTuple

SOL_PACKET: Final = 263
PACKET_RX_RING: Final = 5
PACKET_STATISTICS: Final = 6
PACKET_VERSION: Final = 10
TPACKET_V3: Final = 2
ETH_P_ALL: Final = 0x0003
SO_ATTACH_FILTER: Final = 26

BLOCK_BYTES: Final = 1 << 18
"""Holds the largest packet that segmentation offload makes on a veth, 64 KiB, with room."""
BLOCKS: Final = 32
FRAME_BYTES: Final = 2048
"""Only a divisor in version 3, where packets lie end to end."""
RETIRE_MS: Final = 20
VLAN_TAG_BYTES: Final = 4

_TP_STATUS_KERNEL, _TP_STATUS_USER = 0, 1
_TP_STATUS_VLAN_VALID, _TP_STATUS_VLAN_TPID_VALID = 1 << 4, 1 << 6
_ETH_P_8021Q = 0x8100
_MAC_BYTES = 12
_BLOCK_HEADER = struct.Struct("=8xIII")  # status, packets, offset of the first
_STATUS_OFFSET = 8
_PACKET_HEADER = struct.Struct("=IIIIIIHHIIHH")  # struct tpacket3_hdr up to its padding
_PKTTYPE_OFFSET = 48 + 10  # struct sockaddr_ll follows the 48 bytes of struct tpacket3_hdr


class Packet(NamedTuple):
    """One packet as it was on the wire, its 802.1Q tag put back."""

    time_ns: int
    """Since 1970."""
    data: bytes
    length: int
    """Before it was cut to what was captured."""
    pkttype: int
    """PACKET_HOST, PACKET_BROADCAST, PACKET_MULTICAST, PACKET_OTHERHOST, PACKET_OUTGOING."""


def capture_socket(interface: str, *, program: bytes = b"") -> socket.socket:
    """A socket that sees what passes this interface of the caller's network namespace.

    `program` is a classic BPF filter, `struct sock_filter` after another. Needs CAP_NET_RAW.
    OSError ENODEV when there is no such interface.
    """
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    try:
        if program:
            attach_filter(sock, program)
        # Bound last: with protocol 0 nothing arrives before the filter is in place.
        sock.bind((interface, ETH_P_ALL))
    except OSError:
        sock.close()
        raise
    return sock


def attach_filter(sock: socket.socket, program: bytes) -> None:
    """SO_ATTACH_FILTER, socket(7); EINVAL for a program that the kernel refuses."""
    buffer = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, fprog)


class Ring:
    """The receive ring of a capture socket; the socket stays the caller's."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._block = 0
        sock.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V3)
        # What came before there was a ring is in none, and not counted.
        self.statistics()
        request = struct.pack(
            "=7I",
            BLOCK_BYTES,
            BLOCKS,
            FRAME_BYTES,
            BLOCK_BYTES * BLOCKS // FRAME_BYTES,
            RETIRE_MS,
            0,
            0,
        )
        sock.setsockopt(SOL_PACKET, PACKET_RX_RING, request)
        self._memory = mmap.mmap(sock.fileno(), BLOCK_BYTES * BLOCKS, mmap.MAP_SHARED)

    def close(self) -> None:
        """Unmap the ring; the kernel frees it with the socket."""
        self._memory.close()

    def __enter__(self) -> Ring:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def blocks(self) -> Iterator[list[Packet]]:
        """The blocks that the kernel has handed over, oldest first; gives each back.

        At most once round, so that a busy interface cannot hold the caller here.
        """
        for _ in range(BLOCKS):
            base = self._block * BLOCK_BYTES
            status, count, first = _BLOCK_HEADER.unpack_from(self._memory, base)
            if not status & _TP_STATUS_USER:
                return
            packets = list(self._packets(base, count, first))
            struct.pack_into("=I", self._memory, base + _STATUS_OFFSET, _TP_STATUS_KERNEL)
            self._block = (self._block + 1) % BLOCKS
            yield packets

    def _packets(self, base: int, count: int, first: int) -> Iterator[Packet]:
        memory = self._memory
        offset = base + first
        for _ in range(count):
            header = _PACKET_HEADER.unpack_from(memory, offset)
            following, seconds, nanoseconds, captured, length, status, mac = header[:7]
            start = offset + mac
            data = memory[start : start + captured]
            if status & _TP_STATUS_VLAN_VALID and captured >= _MAC_BYTES:
                tpid = header[10] if status & _TP_STATUS_VLAN_TPID_VALID else _ETH_P_8021Q
                tag = struct.pack("!HH", tpid, header[9] & 0xFFFF)
                data = data[:_MAC_BYTES] + tag + data[_MAC_BYTES:]
                length += VLAN_TAG_BYTES
            time_ns = seconds * 1_000_000_000 + nanoseconds
            yield Packet(time_ns, data, length, memory[offset + _PKTTYPE_OFFSET])
            offset += following

    def statistics(self) -> tuple[int, int]:
        """(packets, dropped) since the last call: dropped for want of room, and in packets too."""
        answer = self._sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 12)
        packets, dropped = struct.unpack_from("=II", answer)
        return packets, dropped


def is_gone(sock: socket.socket) -> bool:
    """Whether the interface that a capture socket was bound to exists no more."""
    return not sock.getsockname()[0]


def link_type(sock: socket.socket) -> int:
    """The ARPHRD number of the interface of a bound socket (linux/if_arp.h)."""
    return int(sock.getsockname()[3])


def take_error(sock: socket.socket) -> int:
    """The pending error of a socket, ENETDOWN when its interface went down; clears it."""
    number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    assert number >= 0, os.strerror(-number)
    return number
