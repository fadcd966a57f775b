"""Bytes between a pipe and a file inside the kernel: splice(2), tee(2), and a pipe's size.

What `splice` moves is in the file and gone from the pipe when the call returns, also when the
caller is killed in it: iter_file_splice_write (fs/splice.c) consumes what was written and no more.
`os.splice` is Python's own; here is what it lacks.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
from typing import Final

from hostlab.linux.libc import HANDLE, oserror

NONBLOCK: Final = os.SPLICE_F_NONBLOCK
PIPE_BYTES: Final = 1 << 16
"""What a new pipe holds (pipe(7)), unless its user has too many."""

_tee = HANDLE.tee
_tee.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_size_t, ctypes.c_uint)
_tee.restype = ctypes.c_ssize_t


def move(pipe: int, file: int, count: int, offset: int) -> int:
    """Move at most `count` bytes of a pipe into a file at `offset`; 0 at the end of the stream.

    BlockingIOError when the pipe is empty; the file's own errors (ENOSPC, EDQUOT, EFBIG, EIO) only
    when nothing at all was moved. The file must not be open with O_APPEND (EINVAL).
    """
    return os.splice(pipe, file, count, offset_dst=offset, flags=NONBLOCK)


def tee(source: int, target: int, count: int) -> int:
    """Show a second pipe what a pipe holds, without taking it out; 0 at the end of the stream.

    BlockingIOError when the source is empty or the target is full. Linux 2.6.17.
    """
    shown: int = _tee(source, target, count, NONBLOCK)
    if shown < 0:
        raise oserror("tee")
    return shown


class Peek:
    """A look at the first bytes of a pipe that leaves them where they are."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC)

    def look(self, pipe: int) -> bytes:
        """The first bytes of the pipe, at most what a pipe holds; empty when there are none."""
        try:
            shown = tee(pipe, self._writer, PIPE_BYTES)
        except BlockingIOError:
            return b""
        return os.read(self._reader, shown) if shown else b""

    def close(self) -> None:
        """Close both ends."""
        os.close(self._reader)
        os.close(self._writer)


def widen(pipe: int, size_bytes: int) -> bool:
    """Make a pipe larger; False where the user's share of the kernel's memory is used up.

    F_SETPIPE_SZ, fcntl(2): EPERM above /proc/sys/fs/pipe-max-size or pipe-user-pages-soft.
    """
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, size_bytes)
    except OSError:
        return False
    return True


def capacity(pipe: int) -> int:
    """How many bytes a pipe holds."""
    return fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)
