"""A path of a node that is awaited: inotify(7) where the node sees its files.

A child looks, and brings back the instance with its watches: whoever looks through
/proc/PID/root would follow the node's absolute links into files of the machine.
"""

from __future__ import annotations

import os
import stat
from typing import Final

from hostlab.linux.entering import from_inside
from hostlab.linux.inotify import (
    IN_ATTRIB,
    IN_CREATE,
    IN_DELETE_SELF,
    IN_MOVE_SELF,
    IN_MOVED_TO,
    Inotify,
)

CHANGES: Final = IN_CREATE | IN_MOVED_TO | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF
MOST_LINKS: Final = 40
"""As many links are followed: the kernel's own bound (path_resolution(7))."""


class AwaitedPath:
    """A path in the files of process `pid`."""

    def __init__(self, pid: int, path: str) -> None:
        self.pid = pid
        self.path = os.path.normpath(os.path.join("/", path))
        self._watch = -1

    def look(self) -> bool | None:
        """True when it is there, else None, and what happens from now on wakes `fileno`."""

        def work() -> tuple[bytes, list[int]]:
            watch = Inotify()
            for directory in _on_the_way(self.path):
                watch.add(directory, CHANGES)
            # After the watches: what appears between the two is told.
            return b"1" if os.path.exists(self.path) else b"0", [watch.fd]

        data, fds = from_inside(self.pid, ("user", "mnt"), work)
        self.close()
        (self._watch,) = fds
        return True if data == b"1" else None

    def fileno(self) -> int:
        """The instance of the last look."""
        return self._watch

    def close(self) -> None:
        """Watch no longer."""
        if self._watch >= 0:
            os.close(self._watch)
            self._watch = -1


def _on_the_way(path: str) -> list[str]:
    """The directories in which a name of the path stands, also behind links, as far as they are."""
    found: list[str] = []
    rest, here = path.strip("/").split("/"), "/"
    links = 0
    while rest:
        if here not in found:
            found.append(here)
        name = rest.pop(0)
        below = os.path.normpath(os.path.join(here, name))
        try:
            mode = os.lstat(below).st_mode
        except OSError:
            break
        if stat.S_ISLNK(mode) and links < MOST_LINKS:
            links += 1
            target = os.readlink(below)
            rest = [part for part in target.split("/") if part] + rest
            here = "/" if target.startswith("/") else here
        elif stat.S_ISDIR(mode):
            here = below
        else:
            break
    return found
