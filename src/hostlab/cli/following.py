"""A log to standard output, and on as it grows and is rotated."""

from __future__ import annotations

import contextlib
import os
import sys

from hostlab.init.logs.files import Identity, identity, last_lines, opened
from hostlab.linux.inotify import (
    IN_CREATE,
    IN_DELETE,
    IN_DELETE_SELF,
    IN_MODIFY,
    IN_MOVED_TO,
    Inotify,
)

COPY_BYTES = 1 << 16
WATCHED = IN_CREATE | IN_MOVED_TO | IN_DELETE | IN_DELETE_SELF | IN_MODIFY


def follow_file(path: str, *, lines: int | None, forever: bool) -> None:
    """Write a log out, its last lines or the whole; `forever` ends with its directory.

    A log that is not there yet is waited for when it is to be followed, else it is empty.
    """
    with contextlib.ExitStack() as stack:
        inotify = Inotify() if forever else None
        directory = os.path.dirname(path)
        if inotify is not None:
            stack.callback(inotify.close)
            # Before the first look: what happens after it wakes us.
            inotify.add(directory, WATCHED)
        reader = LogReader(path)
        stack.callback(reader.close)
        if lines is not None:
            reader.skip_to_last(lines)
        while True:
            reader.copy()
            sys.stdout.flush()
            if inotify is None or not os.path.isdir(directory):
                return
            inotify.wait()


class LogReader:
    """A place in a log, which the log's rotation does not move."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: int | None = None
        self._done: set[Identity] = set()
        """The files that were read or skipped, as far as they are still there."""

    def skip_to_last(self, lines: int) -> None:
        """Begin with the last lines."""
        with opened(self._path) as files:
            rest, offset = last_lines(files, lines)
            if rest:
                self._done = {identity(fd) for fd in files if fd not in rest}
                self._take(rest[0])
                os.lseek(rest[0], offset, os.SEEK_SET)

    def copy(self) -> None:
        """Write out what has come since the last time, through all files that it is in."""
        with opened(self._path) as files:
            self._copy_rest()
            self._done &= {identity(fd) for fd in files}
            for fd in self._unread(files):
                self._take(fd)
                self._copy_rest()
            if self._file is not None and not os.fstat(self._file).st_nlink:
                # While it is open, its directory is never quite gone (IN_DELETE_SELF).
                self.close()

    def close(self) -> None:
        """Close the file that is being read."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _unread(self, files: list[int]) -> list[int]:
        """The files that are newer than all that were read."""
        newest = max((n for n, fd in enumerate(files) if identity(fd) in self._done), default=-1)
        return files[newest + 1 :]

    def _take(self, fd: int) -> None:
        self.close()
        # The two share their offset.
        self._file = os.dup(fd)
        self._done.add(identity(fd))

    def _copy_rest(self) -> None:
        """To the end of the file; one that was cut short is read from its start."""
        if self._file is None:
            return
        if os.fstat(self._file).st_size < os.lseek(self._file, 0, os.SEEK_CUR):
            os.lseek(self._file, 0, os.SEEK_SET)
        while data := os.read(self._file, COPY_BYTES):
            sys.stdout.buffer.write(data)
