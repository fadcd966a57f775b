"""A file to standard output, and on as it grows."""

from __future__ import annotations

import contextlib
import os
import sys

from hostlab.linux.inotify import IN_CREATE, IN_DELETE_SELF, IN_MODIFY, Inotify

COPY_BYTES = 1 << 16


def follow_file(path: str, *, from_end: bool, forever: bool) -> None:
    """Write a file out, from its end on if so wanted; `forever` ends with its directory.

    A file that is not there yet is waited for when it is to be followed, else it is empty.
    """
    with contextlib.ExitStack() as stack:
        inotify = Inotify() if forever else None
        if inotify is not None:
            stack.callback(inotify.close)
            directory = os.path.dirname(path)
            inotify.add(directory, IN_CREATE | IN_DELETE_SELF | IN_MODIFY)
            while not os.path.exists(path):
                inotify.wait()
                if not os.path.isdir(directory):
                    return
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        stack.callback(os.close, fd)
        if from_end:
            os.lseek(fd, 0, os.SEEK_END)
        while True:
            while data := os.read(fd, COPY_BYTES):
                sys.stdout.buffer.write(data)
            sys.stdout.flush()
            if inotify is None or not os.path.exists(path):
                return
            inotify.wait()
