"""What a source has to tell its successor: lines in a memfd that the holder keeps.

The first line is everything, each further one a change. A supervisor that is killed while it writes
leaves a torn last line, which is left out.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

import msgspec

from hostlab import typed
from hostlab.init.sources import Surroundings

MOST_LINES: Final = 4096
"""Behind the first, after which everything is written anew; more, where there is more of it."""


class Notes:
    """The notes of one source."""

    def __init__(
        self, surroundings: Surroundings, name: str, everything: Callable[[], tuple[Any, int]]
    ) -> None:
        """`everything` gives what the first line says, and how many things that are."""
        self._surroundings = surroundings
        self._name = name
        self._everything = everything
        self._fd = -1
        self._lines = 0
        self._most = MOST_LINES

    def earlier(self) -> list[Any]:
        """What an earlier supervisor noted, line by line."""
        fd = self._surroundings.kept.get(self._name)
        if fd is None:
            return []
        found = []
        for line in os.pread(fd, os.fstat(fd).st_size, 0).splitlines():
            try:
                found.append(typed.decode(line, Any))
            except msgspec.DecodeError:
                break
        return found

    def note(self, change: object) -> None:
        """One more line."""
        self._lines += 1
        if self._fd < 0 or self._lines > self._most:
            self.begin()
        else:
            os.write(self._fd, msgspec.json.encode(change) + b"\n")

    def begin(self) -> None:
        """Write everything anew."""
        everything, count = self._everything()
        fd = os.memfd_create(f"hostlab {self._name}", os.MFD_CLOEXEC)
        with open(fd, "wb", closefd=False) as file:
            file.write(msgspec.json.encode(everything) + b"\n")
        self._surroundings.keep(self._name, fd)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._lines, self._most = fd, 0, max(MOST_LINES, count)

    def close(self) -> None:
        """Nothing is to be remembered any more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._surroundings.drop(self._name)
