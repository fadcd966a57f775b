"""One log: its newest file, the rotated ones, and what it has not got.

The file is opened by name for every move and closed after it. So a file that was deleted, renamed
or cut short meanwhile needs no thought, 500 idle logs cost no descriptor, and there is no state
that a killed supervisor could take along: where the log stands is what the file says.

Lines stay whole. Before a rotation, and before lines are dropped, the line that the file ends in
is finished: `Peek` shows where it ends while it is still in the pipe.
"""

from __future__ import annotations

import errno
import math
import os
import time
from collections.abc import Callable
from typing import Final

from hostlab.init.logs.policy import (
    Bucket,
    Dropped,
    LogPolicy,
    dropped_notice,
    dropping_notice,
    shifts,
)
from hostlab.linux import splice
from hostlab.linux.splice import Peek
from hostlab.linux.statx import birth_s

TURN_BYTES: Final = 1 << 20
"""Taken from one pipe before the others have their turn."""
DISCARD_BYTES: Final = 1 << 18
LINE_BYTES: Final = 1 << 16
"""A line that is longer than this may be split by a rotation."""
WARN_PAUSE_S: Final = 60.0
"""Between two warnings of one log for the same reason."""
FILE_MODE: Final = 0o600
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_NEWLINE: Final = 10


class Stream:
    """A pipe that a process of the log's instance writes into, or has left to its children."""

    __slots__ = ("is_cut", "is_ours", "is_wide", "key", "log", "pipe")

    def __init__(self, key: str, pipe: int, log: LogFile, *, is_ours: bool) -> None:
        self.key = key
        """The holder's name for the pipe."""
        self.pipe = pipe
        """The read end."""
        self.log = log
        self.is_ours = is_ours
        """Whether closing the read end is up to us."""
        self.is_wide = False
        self.is_cut = False
        """Whether the last that was dropped was a piece of a line."""


class LogFile:
    """A log of an instance in a directory, within the bounds of a policy.

    `monotonic` and `wall` are clocks in seconds; `warn` is told when lines begin to be dropped.
    """

    __slots__ = (
        "_birth",
        "_bucket",
        "_directory",
        "_has_begun",
        "_lines",
        "_monotonic",
        "_peek",
        "_policy",
        "_reason",
        "_retry_at",
        "_size_bytes",
        "_total",
        "_wall",
        "_warn",
        "_warned_at",
        "is_over",
        "name",
        "streams",
    )

    def __init__(
        self,
        directory: int,
        name: str,
        policy: LogPolicy,
        peek: Peek,
        *,
        warn: Callable[[str], None],
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.streams: list[Stream] = []
        self.is_over = False
        """Whether the instance is gone."""
        self._directory = directory
        self._policy = policy
        self._peek = peek
        self._warn = warn
        self._monotonic = monotonic
        self._wall = wall
        self._bucket = Bucket(policy, monotonic())
        self._birth = (0, 0.0)
        self._has_begun = False
        """Whether the file says already that lines are dropped for being too many."""
        self._reason = ""
        self._retry_at = self._warned_at = -math.inf
        self._lines = self._size_bytes = 0
        self._total = (0, 0)

    def drain(self, stream: Stream) -> int | None:
        """Take what a pipe holds, at most about TURN_BYTES; None at the end of the stream."""
        taken = 0
        while taken < TURN_BYTES:
            try:
                step = self._step(stream)
            except BlockingIOError:
                break
            if not step:
                self._lines += stream.is_cut
                return None
            taken += step
        return taken

    @property
    def is_unsettled(self) -> bool:
        """Whether lines are missing that the file does not yet speak of."""
        return self._size_bytes > 0

    @property
    def wait_s(self) -> float:
        """Seconds until the file can be told what is missing."""
        now = self._monotonic()
        self._bucket.room(now)
        pause = self._bucket.wait_s if self._bucket.is_dropping else 0.0
        return max(pause, self._retry_at - now, 0.0)

    def settle(self, *, at_once: bool = False) -> bool:
        """Write down what is missing; False while that cannot be done, or is not yet time."""
        if not self.is_unsettled:
            return True
        if not (self._room() or at_once):
            return False
        try:
            file = self._open()
        except OSError as error:
            self._fail(error)
            return False
        try:
            self._note(file, os.fstat(file).st_size)
        except OSError as error:
            self._fail(error)
        finally:
            os.close(file)
        return not self.is_unsettled

    def dropped(self) -> Dropped:
        """What has been dropped since this supervisor knows the log."""
        lines, size_bytes = self._total
        return Dropped(self.name, lines + self._lines, size_bytes + self._size_bytes)

    def _step(self, stream: Stream) -> int:
        """One move; 0 at the end of the stream, BlockingIOError when the pipe is empty."""
        room = self._room()
        if not room and (self._has_begun or not self._bucket.is_dropping):
            return self._discard(stream, DISCARD_BYTES)
        self._has_begun = not room
        try:
            file = self._open()
        except OSError as error:
            self._fail(error)
            return self._discard(stream, DISCARD_BYTES)
        try:
            return self._store(stream, file, room) if room else self._begin_drop(stream, file)
        except BlockingIOError:
            raise
        except OSError as error:
            self._fail(error)
        finally:
            os.close(file)
        return self._discard(stream, DISCARD_BYTES)

    def _store(self, stream: Stream, file: int, room: int) -> int:
        if stream.is_cut:
            return self._discard(stream, self._line_length(stream) or 1)
        status = os.fstat(file)
        size = status.st_size
        size += self._note(file, size)
        if not self._policy.must_rotate(size, self._age(file, status)):
            room = min(room, max(1, self._policy.max_bytes - size))
        elif not (length := self._line_length(stream)):
            # The end of the stream, or nothing has come: the move says which.
            room = 1
        elif ends_line(file, size) or size >= self._policy.max_bytes + LINE_BYTES:
            self._rotate()
            return self._step(stream)
        else:
            room = length
        moved = splice.move(stream.pipe, file, room, size)
        self._bucket.spend(moved)
        return moved

    def _begin_drop(self, stream: Stream, file: int) -> int:
        """Finish the line that the file ends in, then say that lines are dropped."""
        size = os.fstat(file).st_size
        moved = 0
        if not ends_line(file, size) and (length := self._line_length(stream)):
            moved = splice.move(stream.pipe, file, length, size)
            self._bucket.spend(moved)
        self._say(f"more than {self._policy.rate_bytes} bytes/s")
        append(file, size + moved, dropping_notice(self._policy))
        return moved or self._discard(stream, DISCARD_BYTES)

    def _room(self) -> int:
        now = self._monotonic()
        room = self._bucket.room(now)
        return 0 if now < self._retry_at else room

    def _line_length(self, stream: Stream) -> int:
        """How far the line at the head of a pipe goes, as far as it is there."""
        head = self._peek.look(stream.pipe)
        return head.find(b"\n") + 1 or len(head)

    def _discard(self, stream: Stream, count: int) -> int:
        data = os.read(stream.pipe, count)
        if data:
            self._lines += data.count(b"\n")
            self._size_bytes += len(data)
            stream.is_cut = data[-1] != _NEWLINE
        return len(data)

    def _note(self, file: int, size: int) -> int:
        """Say in the file what is missing, if anything is; the bytes that this took."""
        if not self.is_unsettled:
            return 0
        notice = dropped_notice(self._lines, self._size_bytes, self._reason)
        written = append(file, size, notice)
        self._total = (self._total[0] + self._lines, self._total[1] + self._size_bytes)
        self._lines = self._size_bytes = 0
        return written

    def _fail(self, error: OSError) -> None:
        self._retry_at = self._monotonic() + self._policy.retry_s
        self._say(os.strerror(error.errno or 0))

    def _say(self, reason: str) -> None:
        now = self._monotonic()
        if reason != self._reason or now >= self._warned_at + WARN_PAUSE_S:
            self._warned_at = now
            self._warn(f"log {self.name}: lines are dropped: {reason}")
        self._reason = reason

    def _open(self) -> int:
        return os.open(f"{self.name}.log", _FLAGS, FILE_MODE, dir_fd=self._directory)

    def _age(self, file: int, status: os.stat_result) -> float:
        """Seconds since the file was made, or since it was first seen here."""
        if self._birth[0] != status.st_ino or not status.st_size:
            birth = birth_s(file)
            self._birth = (status.st_ino, self._wall() if birth is None else birth)
        return self._wall() - self._birth[1]

    def _rotate(self) -> None:
        name, kept = f"{self.name}.log", self._policy.old_files
        present = {n for n in range(1, kept + 1) if self._has(f"{name}.{n}")}
        moves = shifts(name, present, kept)
        for old, new in moves:
            os.rename(old, new, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        if not moves:
            os.unlink(name, dir_fd=self._directory)

    def _has(self, name: str) -> bool:
        try:
            os.stat(name, dir_fd=self._directory, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True


def ends_line(file: int, size: int) -> bool:
    return size == 0 or os.pread(file, 1, size - 1) == b"\n"


def append(file: int, size: int, notice: bytes) -> int:
    """Write a line of ours, whole or not at all; OSError when the disk is full."""
    text = notice if ends_line(file, size) else b"\n" + notice
    written = os.pwrite(file, text, size)
    if written < len(text):
        os.ftruncate(file, size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return written
