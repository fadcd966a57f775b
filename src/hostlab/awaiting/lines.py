"""The lines of a job's log, told by inotify(7) as they come."""

from __future__ import annotations

import os
import re
from typing import Final

from hostlab.init.logs.reader import LogReader
from hostlab.linux.inotify import IN_CREATE, IN_DELETE, IN_MODIFY, IN_MOVED_TO, Inotify

CHANGES: Final = IN_CREATE | IN_MOVED_TO | IN_DELETE | IN_MODIFY
MOST_LINE: Final = 1 << 16
"""Bytes of one line that are looked at."""


class AwaitedLine:
    """A line of the log at `path` that matches; its directory must be there."""

    def __init__(self, path: str, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern
        self._inotify = Inotify()
        try:
            # Before the first look: what comes after it wakes us.
            self._inotify.add(os.path.dirname(path), CHANGES)
        except BaseException:
            self._inotify.close()
            raise
        self._reader = LogReader(path)
        self._rest = b""

    def look(self) -> re.Match[str] | None:
        """The first match in what has come since the last look."""
        self._inotify.discard()
        for data in self._reader.read():
            *lines, rest = (self._rest + data).split(b"\n")
            self._rest = rest[-MOST_LINE:]
            for line in lines:
                if found := self._search(line):
                    return found
        return self._search(self._rest) if self._rest else None

    def _search(self, line: bytes) -> re.Match[str] | None:
        return self._pattern.search(line[:MOST_LINE].decode(errors="replace"))

    def fileno(self) -> int:
        """Readable when the log has changed."""
        return self._inotify.fileno()

    def close(self) -> None:
        """Read no further."""
        self._reader.close()
        self._inotify.close()
