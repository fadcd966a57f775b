"""What a link leaves to its hardware: SIOCETHTOOL, include/uapi/linux/ethtool.h.

On a veth there is no hardware: a packet whose checksum or segmentation was left to it passes as it
is, unfinished, to whoever finishes it last. Who looks at real frames must have it done before.
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
from typing import Final

SIOCETHTOOL: Final = 0x8946
ETHTOOL_GTXCSUM, ETHTOOL_STXCSUM = 0x16, 0x17
ETHTOOL_GSG, ETHTOOL_SSG = 0x18, 0x19
_VALUE: Final = struct.Struct("=II")


def set_offload(sock: socket.socket, name: str, *, on: bool) -> None:
    """Whether a link's sender may leave checksums and segmentation undone.

    Without scatter-gather the kernel switches TCP's segmentation off, without checksums UDP's
    (net/core/dev.c, netdev_fix_features). `sock` is any socket of the link's network namespace.
    Needs CAP_NET_ADMIN there; OSError ENODEV without such a link.
    """
    for command in (ETHTOOL_STXCSUM, ETHTOOL_SSG):
        _call(sock, name, command, int(on))


def has_offload(sock: socket.socket, name: str) -> bool:
    """Whether any of it is on."""
    return any(_call(sock, name, command, 0) for command in (ETHTOOL_GTXCSUM, ETHTOOL_GSG))


def _call(sock: socket.socket, name: str, command: int, value: int) -> int:
    buffer = ctypes.create_string_buffer(_VALUE.pack(command, value), _VALUE.size)
    request = struct.pack("16sP16x", name.encode(), ctypes.addressof(buffer))
    fcntl.ioctl(sock, SIOCETHTOOL, request)
    found: int = _VALUE.unpack(buffer.raw)[1]
    return found
