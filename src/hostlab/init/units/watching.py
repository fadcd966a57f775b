"""To be told when unit files change: inotify over the search path.

systemd only warns that `daemon-reload` is needed. Here what changes is read by itself, as job files
are; several changes that come together, as from dpkg, are read once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final

from hostlab.init.job_directories import APPEARING, CHANGES, GONE, MOST_LOOKS, nearest
from hostlab.linux.inotify import IN_MASK_ADD, Inotify

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
        """Until a look finds nothing that was not watched before it: see `JobDirectories`."""
        watched: set[tuple[str, int]] = set()
        with contextlib.suppress(OSError):
            # The user's watches are used up: `daemon-reload` still reads everything.
            for _ in range(MOST_LOOKS):
                new = set(self._places()) - watched
                for place, mask in new:
                    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                        self._inotify.add(place, mask | IN_MASK_ADD)
                watched |= new
                if not new:
                    return

    def _places(self) -> Iterator[tuple[str, int]]:
        for directory in self.directories:
            if os.path.isdir(directory):
                yield directory, CHANGES | GONE
                yield from ((folder, CHANGES | GONE) for folder in _folders(directory))
            else:
                yield nearest(directory), APPEARING | GONE


def _folders(directory: str) -> list[str]:
    """Those of drop-ins and links in a directory."""
    try:
        with os.scandir(directory) as entries:
            found = (e.path for e in entries if e.name.endswith(FOLDERS) and e.is_dir())
            return list(islice(found, MAX_FOLDERS))
    except OSError:
        return []
