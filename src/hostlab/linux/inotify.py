"""inotify(7): to be told of a change instead of asking for it."""

from __future__ import annotations

import contextlib
import ctypes
import os
from typing import Final

from hostlab.linux.libc import HANDLE, oserror

IN_MODIFY: Final = 0x2
IN_ATTRIB: Final = 0x4
IN_CLOSE_WRITE: Final = 0x8
IN_MOVED_FROM: Final = 0x40
IN_MOVED_TO: Final = 0x80
IN_CREATE: Final = 0x100
IN_DELETE: Final = 0x200
IN_DELETE_SELF: Final = 0x400
IN_MOVE_SELF: Final = 0x800
IN_CLOEXEC: Final = 0o2000000
EVENT_BYTES: Final = 4096

_init = HANDLE.inotify_init1
_init.argtypes, _init.restype = (ctypes.c_int,), ctypes.c_int
_add = HANDLE.inotify_add_watch
_add.argtypes, _add.restype = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32), ctypes.c_int


class Inotify:
    """One instance; a user has 128 of them by default (fs.inotify.max_user_instances)."""

    def __init__(self) -> None:
        self.fd = _init(IN_CLOEXEC)
        if self.fd < 0:
            raise oserror("inotify_init1")

    def add(self, path: str, mask: int) -> int:
        """Watch a path; OSError when it does not exist or the user's watches are used up."""
        watch: int = _add(self.fd, path.encode(), mask)
        if watch < 0:
            raise oserror("inotify_add_watch", path)
        return watch

    def wait(self) -> bytes:
        """Block until something happened; the raw events."""
        return os.read(self.fd, EVENT_BYTES)

    def fileno(self) -> int:
        """For whoever waits for it with others."""
        return int(self.fd)

    def discard(self) -> None:
        """Read what has happened, without blocking, for one who looks at everything anew."""
        os.set_blocking(self.fd, False)
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, EVENT_BYTES)

    def close(self) -> None:
        """Close the instance with all its watches."""
        os.close(self.fd)
