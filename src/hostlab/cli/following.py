"""A log to standard output, and on as it grows and is rotated."""

from __future__ import annotations

import contextlib
import os
import sys

from hostlab.init.logs.reader import LogReader
from hostlab.linux.inotify import (
    IN_CREATE,
    IN_DELETE,
    IN_DELETE_SELF,
    IN_MODIFY,
    IN_MOVED_TO,
    Inotify,
)

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
            for data in reader.read():
                sys.stdout.buffer.write(data)
            sys.stdout.flush()
            if inotify is None or not os.path.isdir(directory):
                return
            inotify.wait()
