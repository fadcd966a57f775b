"""The job files of a running init: read at its start, read again when one of them changes.

A running instance keeps the description that it was started with; the engine sees to that. A file
that cannot be meant is told and costs its own job only.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from hostlab.errors import UsageError
from hostlab.init.job_files import read_directories, walk
from hostlab.init.watches import Watch, Watches
from hostlab.jobs import facts
from hostlab.jobs.journal import AnyFact
from hostlab.linux.inotify import (
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE,
    IN_DELETE_SELF,
    IN_MOVE_SELF,
    IN_MOVED_FROM,
    IN_MOVED_TO,
)
from hostlab.spec.job import Console, Job, same_but_places

CHANGES = IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO
GONE = IN_DELETE_SELF | IN_MOVE_SELF
APPEARING = IN_CREATE | IN_MOVED_TO
MOST_LOOKS: Final = 100
"""At directories of which new ones come while they are being watched."""


class JobDirectories:
    """The directories of one init, in their order."""

    def __init__(
        self,
        directories: Sequence[str],
        *,
        tell: Callable[[AnyFact], None],
        warn: Callable[[str], None],
        taken: Callable[[], Iterable[str]] = tuple,
        console: Console = Console.LOG,
        watches: Watches | None = None,
    ) -> None:
        """`taken` are the names of jobs that come from elsewhere, and stand before any file's.

        `console` is that of a job that says none.
        """
        self.directories = tuple(directories)
        self.jobs: dict[str, Job] = {}
        self._tell = tell
        self._warn = warn
        self._taken = taken
        self._console = console
        self._warned: set[str] = set()
        self._shared = watches or Watches(warn)
        self._is_watching = False
        self._is_due = False
        self._watches: dict[tuple[str, int], Watch] = {}

    def read(self, known: Iterable[Job] = ()) -> None:
        """Tell the engine what is new, has changed or is gone; `known` are jobs it has already."""
        before = {job.name: job for job in known} or self.jobs
        try:
            # First: what changes while they are read is told, and they are read again.
            self._watch()
            there = [each for each in self.directories if os.path.isdir(each)]
            found = read_directories(there, console=self._console)
        except UsageError as error:
            self._complain({error.message})
            return
        self._complain({str(error) for each in found for error in each.errors})
        taken = set(self._taken())
        self.jobs = {
            each.name: each.job for each in found if each.job is not None and each.name not in taken
        }
        for name in before.keys() - self.jobs.keys() - taken:
            self._tell(facts.Unload(name=name))
        for name, job in self.jobs.items():
            if name not in before or not same_but_places(job, before[name]):
                self._tell(facts.Load(job=job))

    def _complain(self, errors: set[str]) -> None:
        """Say what was not wrong already when the files were read last."""
        for text in sorted(errors - self._warned):
            self._warn(text)
        self._warned = errors

    def change(self, directories: Sequence[str]) -> None:
        """Read other directories from now on."""
        if tuple(directories) == self.directories:
            return
        self.directories = tuple(directories)
        self.read()
        self.watch()

    def watch(self) -> None:
        """Read again whenever a file changes, until `close`.

        What changed between the last reading and now is read too.
        """
        if self._is_watching or not self.directories:
            return
        self._is_watching = True
        self.read()

    def close(self) -> None:
        """Watch no longer."""
        self._is_watching = False
        for watch in self._watches.values():
            watch.close()
        self._watches.clear()

    def _heard(self, mask: int, name: str) -> None:
        """Of many changes that come together there is one look."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._changed)

    def _changed(self) -> None:
        self._is_due = False
        if self._is_watching:
            self.read()

    def _watch(self) -> None:
        """Watch the directories, and where missing ones would appear.

        What comes between the look that found a place and the watch on it is told by nobody, so
        there is another look, until one finds nothing that was not watched before it.
        """
        if not self._is_watching:
            return
        for key, watch in tuple(self._watches.items()):
            if not watch.is_live:
                del self._watches[key]
        watched: set[tuple[str, int]] = set()
        for _ in range(MOST_LOOKS):
            new = set(self._places()) - watched
            if not new:
                self._close_others(watched)
                return
            for place, mask in new:
                self._add(place, mask)
            watched |= new
        self._warn("changes of job files may go unseen: new directories come faster than a look")

    def _places(self) -> Iterator[tuple[str, int]]:
        for directory in self.directories:
            place = None
            for place, _ in walk(directory):
                yield place, CHANGES | GONE
            if place is None:
                yield nearest(directory), APPEARING | GONE

    def _add(self, path: str, mask: int) -> None:
        if (path, mask) in self._watches:
            return
        # It may have gone by now, and then that is told.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            try:
                self._watches[path, mask] = self._shared.add(path, mask, self._heard)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EMFILE):
                    raise
                self._shared.warn(path, error)

    def _close_others(self, places: set[tuple[str, int]]) -> None:
        for place in self._watches.keys() - places:
            self._watches.pop(place).close()


def nearest(path: str) -> str:
    """The directory in which what is missing of a path would appear first."""
    while path not in ("", "/"):
        path = os.path.dirname(path)
        if os.path.isdir(path):
            return path
    return "/"
