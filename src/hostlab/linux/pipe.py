"""What is in a pipe, without taking it out: tee(2)."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final

from hostlab.linux.libc import HANDLE, oserror

SPLICE_F_NONBLOCK: Final = 2
PIPE_BYTES: Final = 65536
"""What a new pipe holds, unless its user has used up his pages (pipe(7))."""

_tee = HANDLE.tee
_tee.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_size_t, ctypes.c_uint)
_tee.restype = ctypes.c_ssize_t


def peek(fd: int) -> bytes | None:
    """What the next reads of a pipe would give; None when it is empty, b"" at its end."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        size: int = _tee(fd, writer, PIPE_BYTES, SPLICE_F_NONBLOCK)
        if size < 0:
            error = oserror("tee")
            if error.errno == errno.EAGAIN:
                return None
            raise error
        return os.read(reader, size) if size else b""
    finally:
        os.close(reader)
        os.close(writer)
