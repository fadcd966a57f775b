"""Taking frames off an interface one by one: a packet(7) socket with a TPACKET_V2 ring.

Beside `packet.Ring`, which hands over blocks for capturing, this one shows each frame at once, with
the time at which the kernel took it (Documentation/networking/packet_mmap.rst). It has room that no
socket buffer limit bounds, so a burst waits while its reader is not scheduled.
"""

from __future__ import annotations

import mmap
import socket
import struct
from collections.abc import Iterator
from typing import Final

from hostlab.linux.packet import (
    ETH_P_ALL,
    PACKET_RX_RING,
    PACKET_STATISTICS,
    PACKET_VERSION,
    SOL_PACKET,
)

PACKET_IGNORE_OUTGOING: Final = 23
TPACKET_V2: Final = 1
BLOCK_BYTES: Final = 1 << 18
RING_BYTES: Final = 1 << 20
"""Of one ring: 512 frames of an MTU of 1,500, a tenth of a second at 5,000 of them."""
_OVERHEAD_BYTES: Final = 128
"""In front of a frame: header, sockaddr_ll, alignment, Ethernet header, a VLAN tag."""

_HEADER: Final = struct.Struct("=IIIHHIIHH")  # struct tpacket2_hdr up to its padding
_STATUS: Final = struct.Struct("=I")
_TP_STATUS_KERNEL, _TP_STATUS_USER = 0, 1
_TP_STATUS_VLAN_VALID, _TP_STATUS_VLAN_TPID_VALID = 1 << 4, 1 << 6
_ETH_P_8021Q: Final = 0x8100
_MAC_BYTES: Final = 12


def frame_bytes(mtu: int) -> int:
    """Room for one frame: a power of two, so that blocks hold them without a gap."""
    return max(2048, 1 << (mtu + _OVERHEAD_BYTES - 1).bit_length())


class FrameSocket:
    """What arrives at an interface, and the way out of it; nothing that leaves it is seen here.

    Needs CAP_NET_RAW in the network namespace, the caller's. OSError ENODEV without such an
    interface, ENOMEM without memory for the ring.
    """

    def __init__(self, index: int, mtu: int, *, ring_bytes: int = RING_BYTES) -> None:
        """`ring_bytes` is a power of two, at least a block."""
        self.socket = socket.socket(
            socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0
        )
        try:
            self._open(index, frame_bytes(mtu), ring_bytes)
        except OSError:
            self.socket.close()
            raise
        self.cut = 0
        """Frames that were longer than the interface carries, and thrown away."""

    def _open(self, index: int, size: int, ring_bytes: int) -> None:
        sock = self.socket
        sock.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V2)
        sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        block = max(BLOCK_BYTES, size)
        count = ring_bytes // size
        request = struct.pack("=4I", block, ring_bytes // block, size, count)
        sock.setsockopt(SOL_PACKET, PACKET_RX_RING, request)
        self._memory = mmap.mmap(sock.fileno(), ring_bytes, mmap.MAP_SHARED)
        self._size, self._count, self._next = size, count, 0
        sock.bind((socket.if_indextoname(index), ETH_P_ALL))

    def close(self) -> None:
        """Let go of the ring and of the socket."""
        self._memory.close()
        self.socket.close()

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """(nanoseconds since 1970, frame with its tag) of what has arrived, oldest first.

        At most once round, so that a busy interface cannot hold the caller here.
        """
        memory, size = self._memory, self._size
        for _ in range(self._count):
            offset = self._next * size
            status, length, captured, mac, _, seconds, nanoseconds, tci, tpid = _HEADER.unpack_from(
                memory, offset
            )
            if not status & _TP_STATUS_USER:
                return
            start = offset + mac
            data = memory[start : start + captured]
            _STATUS.pack_into(memory, offset, _TP_STATUS_KERNEL)
            self._next = (self._next + 1) % self._count
            if captured < length:
                self.cut += 1
                continue
            if status & _TP_STATUS_VLAN_VALID and captured >= _MAC_BYTES:
                if not status & _TP_STATUS_VLAN_TPID_VALID:
                    tpid = _ETH_P_8021Q
                tag = struct.pack("!HH", tpid, tci)
                data = data[:_MAC_BYTES] + tag + data[_MAC_BYTES:]
            yield seconds * 1_000_000_000 + nanoseconds, data

    def take_error(self) -> None:
        """Clear what the interface's going down left pending, which would be readable for ever."""
        self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def unheard(self) -> int:
        """Frames since the last call for which the ring had no room."""
        answer = self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
        dropped: int = struct.unpack_from("=II", answer)[1]
        return dropped
