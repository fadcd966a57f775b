"""inotify(7): to be told of a change instead of asking for it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

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
IN_UNMOUNT: Final = 0x2000
IN_Q_OVERFLOW: Final = 0x4000
IN_IGNORED: Final = 0x8000
IN_MASK_ADD: Final = 0x20000000
IN_ISDIR: Final = 0x40000000
"""The entry is a directory."""
IN_CLOEXEC: Final = 0o2000000
EVENT_BYTES: Final = 4096
MOST_BYTES: Final = 1 << 16
"""Read at once: two thousand events or so, then others have their turn."""

_init = HANDLE.inotify_init1
_init.argtypes, _init.restype = (ctypes.c_int,), ctypes.c_int
_add = HANDLE.inotify_add_watch
_add.argtypes, _add.restype = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32), ctypes.c_int
_remove = HANDLE.inotify_rm_watch
_remove.argtypes, _remove.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
_EVENT: Final = struct.Struct("=iIII")


class Event(NamedTuple):
    """What has happened to a watched path, or in it."""

    watch: int
    """-1 with IN_Q_OVERFLOW."""
    mask: int
    name: str
    """Of the entry of a directory; empty: the path itself."""


def events(data: bytes) -> Iterator[Event]:
    """The events of one read (inotify(7), struct inotify_event)."""
    offset = 0
    while offset + _EVENT.size <= len(data):
        watch, mask, _, length = _EVENT.unpack_from(data, offset)
        offset += _EVENT.size
        name = data[offset : offset + length].partition(b"\0")[0]
        offset += length
        yield Event(watch, mask, os.fsdecode(name))


class Inotify:
    """One instance; a user has 128 of them by default (fs.inotify.max_user_instances)."""

    def __init__(self) -> None:
        self.fd = _init(IN_CLOEXEC)
        if self.fd < 0:
            raise oserror("inotify_init1")

    def add(self, path: str, mask: int) -> int:
        """Watch a path; OSError when it does not exist or the user's watches are used up."""
        watch: int = _add(self.fd, os.fsencode(path), mask)
        if watch < 0:
            raise oserror("inotify_add_watch", path)
        return watch

    def remove(self, watch: int) -> None:
        """Watch no longer; one that the kernel has removed is no mistake."""
        _remove(self.fd, watch)

    def read(self) -> Iterator[Event]:
        """What has happened, without blocking; after IN_Q_OVERFLOW some of it is not told."""
        os.set_blocking(self.fd, False)
        try:
            return events(os.read(self.fd, MOST_BYTES))
        except BlockingIOError:
            return iter(())

    def wait(self) -> bytes:
        """Block until something happened; the raw events."""
        return os.read(self.fd, EVENT_BYTES)

    def fileno(self) -> int:
        """For whoever waits for it with others."""
        return int(self.fd)

    def has_events(self) -> bool:
        """Whether something has happened that nobody has read."""
        return bool(select.select([self.fd], [], [], 0)[0])

    def discard(self) -> None:
        """Read what has happened, without blocking, for one who looks at everything anew."""
        os.set_blocking(self.fd, False)
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, EVENT_BYTES)

    def close(self) -> None:
        """Close the instance with all its watches."""
        os.close(self.fd)
