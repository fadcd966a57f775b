"""A queue that outlives the supervisor: what was heard, and how much of it has been told.

A memfd that the holder keeps: a head with a version, then a record after another. What is heard is
put in before it is taken from the kernel, and noted as told after it was told. So a supervisor
that is killed in between has the next one tell it a second time rather than never.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import Final

MAX_BYTES: Final = 64 << 20
"""Of what waits to be told; what comes then stays with the kernel."""
_HEAD: Final = struct.Struct("=8sIIQQ")  # magic, version, length of the head, told, mark
_RECORD: Final = struct.Struct("=II")  # length, kind
_MAGIC: Final = b"hlspool\0"
_VERSION: Final = 1


class Spool:
    """The queue; its descriptor is this process' own."""

    def __init__(self, fd: int | None = None) -> None:
        """`fd` is one of before, which is taken up; ValueError when it says nothing."""
        self.mark = 0
        """A number that the next supervisor finds as it was left at the last `note`."""
        if fd is None:
            self.fd = os.memfd_create("hostlab spool", os.MFD_CLOEXEC)
            self._head, self._told, self._end = _HEAD.size, _HEAD.size, _HEAD.size
            self.note()
            return
        self.fd = fd
        head = os.pread(fd, _HEAD.size, 0)
        if len(head) < _HEAD.size:
            raise ValueError(f"a head of {len(head)} bytes")
        magic, _, self._head, self._told, self.mark = _HEAD.unpack(head)
        self._end = os.fstat(fd).st_size
        if magic != _MAGIC or not _HEAD.size <= self._head <= min(self._told, self._end):
            raise ValueError("a head that no spool has")
        # It was emptied, and the head not written yet.
        self._told = min(self._told, self._end)

    @property
    def is_full(self) -> bool:
        """Whether nothing more is to be put in."""
        return self._end >= MAX_BYTES

    def put(self, kind: int, data: bytes) -> int:
        """Append a record; returns where it ends, for `told`."""
        record = _RECORD.pack(len(data), kind) + data
        os.pwrite(self.fd, record, self._end)
        self._end += len(record)
        return self._end

    def waiting(self) -> Iterator[tuple[int, int, bytes]]:
        """(end, kind, data) of what has not been told; a torn last record is cut off."""
        place = self._told
        while place + _RECORD.size <= self._end:
            length, kind = _RECORD.unpack(os.pread(self.fd, _RECORD.size, place))
            following = place + _RECORD.size + length
            if not length or following > self._end:
                break
            yield following, kind, os.pread(self.fd, length, place + _RECORD.size)
            place = following
        self._end = place
        os.ftruncate(self.fd, place)

    def told(self, end: int) -> None:
        """Everything up to here has been told."""
        self._told = end
        if end == self._end:
            os.ftruncate(self.fd, self._head)
            self._told = self._end = self._head
        self.note()

    def note(self) -> None:
        """Write the head."""
        os.pwrite(self.fd, _HEAD.pack(_MAGIC, _VERSION, self._head, self._told, self.mark), 0)

    def close(self) -> None:
        """Close the descriptor; the holder has its own."""
        os.close(self.fd)
