"""To be told when unit files change: watches over the search path.

systemd only warns that `daemon-reload` is needed. Here what changes is read by itself, as job files
are; several changes that come together, as from dpkg, are read once.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final

from hostlab.init.job_directories import CHANGES, nearest
from hostlab.init.watches import APPEARING, GONE, MOST_LOOKS, Watch, Watches

FOLDERS: Final = (".d", ".wants", ".requires")
GATHER_S: Final = 0.1
"""Changes within this time are read together."""
MAX_FOLDERS: Final = 10_000


class Watching:
    """The directories of a search path, watched until `close`."""

    def __init__(
        self,
        directories: Iterable[str],
        watches: Watches,
        *,
        changed: Callable[[], None],
        gathered: Callable[[], None],
    ) -> None:
        """`changed` is called at once, `gathered` a little later, once for several changes."""
        self.directories = tuple(directories)
        self._shared = watches
        self._changed = changed
        self._gathered = gathered
        self._timer: asyncio.TimerHandle | None = None
        self._watches: dict[tuple[str, int], Watch] = {}
        self._add_all()

    def look(self) -> None:
        """Take notice of what has changed until now, for who cannot wait to be told."""
        self._shared.look()

    def close(self) -> None:
        """Watch no longer."""
        for watch in self._watches.values():
            watch.close()
        self._watches.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _heard(self, mask: int, name: str) -> None:
        self._changed()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_S, self._tell)

    def _tell(self) -> None:
        self._timer = None
        self._add_all()
        self._gathered()

    def _add_all(self) -> None:
        """Until a look finds nothing that was not watched before it: see `JobDirectories`."""
        for key, watch in tuple(self._watches.items()):
            if not watch.is_live:
                del self._watches[key]
        places: set[tuple[str, int]] = set()
        for _ in range(MOST_LOOKS):
            places = set(self._places())
            new = places - self._watches.keys()
            for place, mask in new:
                self._add(place, mask)
            if not new & self._watches.keys():
                break
        for key in self._watches.keys() - places:
            self._watches.pop(key).close()

    def _add(self, path: str, mask: int) -> None:
        # It may have gone by now, and then that is told.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            try:
                self._watches[path, mask] = self._shared.add(path, mask, self._heard)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EMFILE):
                    raise
                self._shared.warn(path, error)

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
