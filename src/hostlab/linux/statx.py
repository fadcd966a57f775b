"""A file's birth: statx(2), which Python's `os.stat` does not ask for."""

from __future__ import annotations

import ctypes
import struct
from typing import Final

from hostlab.linux.libc import HANDLE, oserror

AT_EMPTY_PATH: Final = 0x1000
STATX_BTIME: Final = 0x800
_BYTES: Final = 256
_BTIME_AT: Final = 80
"""include/uapi/linux/stat.h: struct statx, stx_btime."""
_NS: Final = 1e-9

_statx = HANDLE.statx
_statx.argtypes = (
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_uint,
    ctypes.c_char_p,
)
_statx.restype = ctypes.c_int


def birth_s(fd: int) -> float | None:
    """When a file was made, in seconds since 1970; None where its file system does not know.

    Linux 4.11; ext4, xfs and btrfs know, tmpfs since Linux 6.0.
    """
    buffer = ctypes.create_string_buffer(_BYTES)
    if _statx(fd, b"", AT_EMPTY_PATH, STATX_BTIME, buffer) < 0:
        raise oserror("statx")
    (mask,) = struct.unpack_from("=I", buffer)
    if not mask & STATX_BTIME:
        return None
    seconds, nanoseconds = struct.unpack_from("=qI", buffer, _BTIME_AT)
    return float(seconds) + float(nanoseconds) * _NS
