"""The job files of a running init: read at its start, read again when one of them changes.

A running instance keeps the description that it was started with; the engine sees to that. A file
that cannot be meant is told and costs its own job only.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence

from hostlab.errors import UsageError
from hostlab.init.job_files import read_directories
from hostlab.jobs import facts
from hostlab.jobs.journal import AnyFact
from hostlab.linux.inotify import (
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    Inotify,
)
from hostlab.spec.job import Job, same_but_places

CHANGES = IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO


class JobDirectories:
    """The directories of one init, in their order."""

    def __init__(
        self,
        directories: Sequence[str],
        *,
        tell: Callable[[AnyFact], None],
        warn: Callable[[str], None],
        taken: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        """`taken` are the names of jobs that come from elsewhere, and stand before any file's."""
        self.directories = tuple(directories)
        self.jobs: dict[str, Job] = {}
        self._tell = tell
        self._warn = warn
        self._taken = taken
        self._warned: set[str] = set()
        self._inotify: Inotify | None = None

    def read(self, known: Iterable[Job] = ()) -> None:
        """Tell the engine what is new, has changed or is gone; `known` are jobs it has already."""
        before = {job.name: job for job in known} or self.jobs
        there = [each for each in self.directories if os.path.isdir(each)]
        try:
            found = read_directories(there)
        except UsageError as error:
            self._warn(error.message)
            return
        errors = {str(error) for each in found for error in each.errors}
        for text in sorted(errors - self._warned):
            self._warn(text)
        self._warned = errors
        taken = set(self._taken())
        self.jobs = {
            each.name: each.job for each in found if each.job is not None and each.name not in taken
        }
        for name in before.keys() - self.jobs.keys():
            self._tell(facts.Unload(name=name))
        for name, job in self.jobs.items():
            if name not in before or not same_but_places(job, before[name]):
                self._tell(facts.Load(job=job))
        self._watch(there)

    def change(self, directories: Sequence[str]) -> None:
        """Read other directories from now on."""
        if tuple(directories) == self.directories:
            return
        self.directories = tuple(directories)
        self.read()
        self.watch()

    def watch(self) -> None:
        """Read again whenever a file changes, until `close`."""
        if self._inotify is None and self.directories:
            self._inotify = Inotify()
            asyncio.get_running_loop().add_reader(self._inotify, self._changed)
            self._watch([each for each in self.directories if os.path.isdir(each)])

    def close(self) -> None:
        """Watch no longer."""
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify)
            self._inotify.close()
            self._inotify = None

    def _changed(self) -> None:
        assert self._inotify is not None
        self._inotify.wait()
        self.read()

    def _watch(self, directories: Sequence[str]) -> None:
        if self._inotify is None:
            return
        for directory in directories:
            for place, _, _ in os.walk(directory):
                self._inotify.add(place, CHANGES)
        for missing in set(self.directories) - set(directories):
            parent = os.path.dirname(missing)
            if os.path.isdir(parent):
                self._inotify.add(parent, IN_CREATE | IN_MOVED_TO)
