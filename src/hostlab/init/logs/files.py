"""A log as its reader finds it: the newest file and the rotated ones, while they are being rotated.

A rotation renames from the oldest file on, so every file moves away from the newest name only.
Whoever opens them from the newest name on may meet a file twice and never misses one.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from typing import Final

from hostlab.linux.statx import birth_s

BLOCK_BYTES: Final = 1 << 16

Identity = tuple[int, float | None]


def identity(fd: int) -> Identity:
    """What tells a file from every other one; the inode's number alone is used again."""
    return os.fstat(fd).st_ino, birth_s(fd)


@contextlib.contextmanager
def opened(path: str) -> Iterator[list[int]]:
    """Descriptors of a log's files, the oldest first, closed at the end; none where none are."""
    with contextlib.ExitStack() as stack:
        found: dict[Identity, int] = {}
        oldest = _oldest(path)
        for number in itertools.count():
            name = f"{path}.{number}" if number else path
            try:
                fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError:
                if number > oldest:
                    break
                # Rotated away just now, or the gap that an interrupted rotation has left.
                continue
            stack.callback(os.close, fd)
            found.setdefault(identity(fd), fd)
        yield list(reversed(found.values()))


def _oldest(path: str) -> int:
    directory, name = os.path.split(path)
    try:
        entries = os.listdir(directory)
    except FileNotFoundError:
        return 0
    numbers = (entry.removeprefix(f"{name}.") for entry in entries if entry.startswith(f"{name}."))
    return max((int(number) for number in numbers if number.isdecimal()), default=0)


def last_lines(files: Sequence[int], lines: int) -> tuple[list[int], int]:
    """The files that the last lines are in, the oldest first, and where in the first they begin."""
    left, is_end = lines, True
    for index in range(len(files) - 1, -1, -1):
        fd = files[index]
        end = os.fstat(fd).st_size
        while end > 0:
            start = max(0, end - BLOCK_BYTES)
            block = os.pread(fd, end - start, start)
            if is_end and block.endswith(b"\n"):
                left += 1
            is_end = False
            at = len(block)
            while left and (at := block.rfind(b"\n", 0, at)) >= 0:
                left -= 1
            if not left:
                return list(files[index:]), start + at + 1
            end = start
    return list(files), 0


def read_last(files: Sequence[int], lines: int) -> bytes:
    """The last lines, as bytes."""
    rest, start = last_lines(files, lines)
    parts = []
    for fd in rest:
        parts.append(os.pread(fd, max(0, os.fstat(fd).st_size - start), start))
        start = 0
    return b"".join(parts)
