"""To be told when unit files change: inotify over the search path.

systemd only warns that `daemon-reload` is needed. Here what changes is read by itself, as job files
are; several changes that come together, as from dpkg, are read once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final

from hostlab.init.job_directories import APPEARING, CHANGES, GONE, nearest
from hostlab.linux.inotify import Inotify

FOLDERS: Final = (".d", ".wants", ".requires")
GATHER_S: Final = 0.1
"""Changes within this time are read together."""
MAX_FOLDERS: Final = 10_000


class Watching:
    """The directories of a search path, watched until `close`."""

    def __init__(
        self,
        directories: Iterable[str],
        *,
        changed: Callable[[], None],
        gathered: Callable[[], None],
    ) -> None:
        """`changed` is called at once, `gathered` a little later, once for several changes.

        OSError when the user has no inotify instance left.
        """
        self.directories = tuple(directories)
        self._changed = changed
        self._gathered = gathered
        self._timer: asyncio.TimerHandle | None = None
        self._inotify = Inotify()
        asyncio.get_running_loop().add_reader(self._inotify, self._wake)
        self._add_all()

    def look(self) -> None:
        """Take notice of what has changed until now, for who cannot wait to be told."""
        if self._inotify.has_events():
            self._wake()

    def close(self) -> None:
        """Watch no longer."""
        asyncio.get_running_loop().remove_reader(self._inotify)
        self._inotify.close()
        if self._timer is not None:
            self._timer.cancel()

    def _wake(self) -> None:
        self._inotify.discard()
        self._add_all()
        self._changed()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_S, self._tell)

    def _tell(self) -> None:
        self._timer = None
        self._gathered()

    def _add_all(self) -> None:
        with contextlib.suppress(OSError):
            # The user's watches are used up: `daemon-reload` still reads everything.
            for directory in self.directories:
                if os.path.isdir(directory):
                    self._add(directory, CHANGES | GONE)
                    for folder in _folders(directory):
                        self._add(folder, CHANGES | GONE)
                else:
                    self._add(nearest(directory), APPEARING | GONE)

    def _add(self, path: str, mask: int) -> None:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            self._inotify.add(path, mask)


def _folders(directory: str) -> list[str]:
    """Those of drop-ins and links in a directory."""
    try:
        with os.scandir(directory) as entries:
            found = (e.path for e in entries if e.name.endswith(FOLDERS) and e.is_dir())
            return list(islice(found, MAX_FOLDERS))
    except OSError:
        return []
