"""A log that is followed: read on as it grows and is rotated."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from hostlab.init.logs.files import Identity, identity, last_lines, opened

COPY_BYTES: Final = 1 << 16


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

    def read(self) -> Iterator[bytes]:
        """What has come since the last time, through all files that it is in."""
        with opened(self._path) as files:
            yield from self._rest()
            self._done &= {identity(fd) for fd in files}
            for fd in self._unread(files):
                self._take(fd)
                yield from self._rest()
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

    def _rest(self) -> Iterator[bytes]:
        """To the end of the file; one that was cut short is read from its start."""
        if self._file is None:
            return
        if os.fstat(self._file).st_size < os.lseek(self._file, 0, os.SEEK_CUR):
            os.lseek(self._file, 0, os.SEEK_SET)
        while data := os.read(self._file, COPY_BYTES):
            yield data
