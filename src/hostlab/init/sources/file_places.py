"""Directories whose entries jobs wait for, and what has happened to these.

Upstart's meaning (its file bridge, on libnih's watches): a file is created when whoever made it
has closed it, modified when somebody who could write has closed it. One that goes before it was
ever closed has not been there. What is not opened for that (a directory, a link, a socket, a file
that is moved here) is created at once. In one thing more is told: a file that takes the place of
another is created, as with Upstart, and modified too, for that is how editors save.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from typing import Final

from hostlab.init.watches import Trail, Watches
from hostlab.jobs.file_operand import FileOperand, Happening
from hostlab.jobs.glob import matches
from hostlab.linux.inotify import (
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE,
    IN_ISDIR,
    IN_MOVED_FROM,
    IN_MOVED_TO,
)

MASK: Final = IN_CREATE | IN_MOVED_TO | IN_CLOSE_WRITE | IN_DELETE | IN_MOVED_FROM
MOST_ENTRIES: Final = 16384
"""Of one directory that are remembered; what a look anew finds of further ones is not told."""
Print = tuple[int, int, int]
"""A file as it was: inode, time of its last change in nanoseconds, size."""
_GONE_SINCE: Final[Print] = (0, 0, 0)
"""One that is there no more when it is told of; that is told next."""
Happened = Callable[["Spec", Happening, str], None]
Known = Callable[["Spec", str, "Print | None"], None]


def fingerprint(path: str) -> Print | None:
    """A file as it is; None when there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return _print(found)


def _print(found: os.stat_result) -> Print:
    return found.st_ino, found.st_mtime_ns, found.st_size


class Spec:
    """One file, pattern or directory that jobs wait for."""

    def __init__(self, operand: FileOperand) -> None:
        self.operand = operand
        self.wanted = operand.wanted
        """What any job waits for."""
        self.known: dict[str, Print] = {}
        """The paths of it that are there; of a directory, what is in it and, last, itself."""

    @property
    def said(self) -> str:
        """What jobs call it."""
        return self.operand.said

    def takes(self, name: str) -> bool:
        """Whether an entry of its directory is one of its own."""
        operand = self.operand
        if operand.is_pattern:
            return matches(operand.name, name)
        return operand.is_directory or operand.name == name


class Place:
    """One directory."""

    def __init__(
        self, watches: Watches, directory: str, happened: Happened, known: Known,
        warn: Callable[[str], None],
    ) -> None:  # fmt: skip
        """`happened` is told what happens, `known` each path that is otherwise than before."""
        self.directory = directory
        self.specs: dict[str, Spec] = {}
        self._named: dict[str, list[Spec]] = {}
        self._others: list[Spec] = []
        self._happened = happened
        self._known = known
        self._warn = warn
        self._has_warned = False
        self._trail = Trail(
            watches, directory, MASK, told=self._told, changed=self.look, is_directory=True
        )

    def add(self, spec: Spec, *, before: dict[str, Print] | None) -> None:
        """Listen for a spec; `before` is what an earlier supervisor knew of it."""
        self.specs[spec.said] = spec
        operand = spec.operand
        is_named = not (operand.is_pattern or operand.is_directory)
        if is_named:
            self._named.setdefault(operand.name, []).append(spec)
        else:
            self._others.append(spec)
        if before is None:
            spec.known = dict(self._found(spec))
        else:
            spec.known = dict(before)
            self._look_at(spec)

    def remove(self, said: str) -> None:
        """Listen for it no more."""
        spec = self.specs.pop(said)
        if spec in self._others:
            self._others.remove(spec)
            return
        named = self._named[spec.operand.name]
        named.remove(spec)
        if not named:
            del self._named[spec.operand.name]

    def close(self) -> None:
        """Watch no longer."""
        self._trail.close()

    def look(self) -> None:
        """Compare everything with what it was when it was last seen."""
        for spec in tuple(self.specs.values()):
            self._look_at(spec)

    # What is told.

    def _told(self, mask: int, name: str) -> None:
        if not name:
            return
        path = os.path.join(self.directory, name)
        for spec in (*self._named.get(name, ()), *self._others):
            if spec.takes(name):
                self._entry(spec, path, mask)

    def _entry(self, spec: Spec, path: str, mask: int) -> None:
        is_known = path in spec.known
        if mask & (IN_DELETE | IN_MOVED_FROM):
            if is_known:
                self._tell(spec, Happening.DELETE, path)
                self._has(spec, path, None)
            return
        now = _GONE_SINCE
        try:
            found = os.stat(path)
        except OSError:
            if mask & IN_CREATE and not mask & IN_ISDIR:
                return
        else:
            is_being_written = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
            if mask & IN_CREATE and (is_being_written or is_known):
                return
            now = _print(found)
        if not mask & IN_CLOSE_WRITE or not is_known:
            self._tell(spec, Happening.CREATE, path)
        if is_known:
            self._tell(spec, Happening.MODIFY, path)
        self._has(spec, path, now)

    # An event is told, then noted: see docs/decisions/sources.md.

    def _tell(self, spec: Spec, happening: Happening, path: str) -> None:
        """Whatever happens in a directory modifies it."""
        if spec.operand.is_directory and path != self.directory:
            happening = Happening.MODIFY
        if happening in spec.wanted:
            self._happened(spec, happening, path)

    # What is found.

    def _look_at(self, spec: Spec) -> None:
        found = dict(self._found(spec))
        before = dict(spec.known)
        own = self.directory if spec.operand.is_directory else None
        if own in before and (own not in found or found[own] != before[own]):
            # With it goes what was in it, unsaid.
            self._tell(spec, Happening.DELETE, self.directory)
            for path in before:
                self._has(spec, path, None)
            before.clear()
        for path in before:
            if path not in found:
                self._tell(spec, Happening.DELETE, path)
                self._has(spec, path, None)
        for path, now in found.items():
            was = before.get(path)
            if was != now:
                happening = Happening.CREATE if was is None else Happening.MODIFY
                self._tell(spec, happening, path)
                self._has(spec, path, now)

    def _has(self, spec: Spec, path: str, now: Print | None) -> None:
        if now is None:
            del spec.known[path]
        else:
            if path not in spec.known and len(spec.known) >= MOST_ENTRIES:
                self._warn_of_many()
                return
            spec.known[path] = now
        self._known(spec, path, now)

    def _found(self, spec: Spec) -> Iterator[tuple[str, Print]]:
        """What is there of a spec now."""
        operand = spec.operand
        if not (operand.is_directory or operand.is_pattern):
            path = os.path.join(self.directory, operand.name)
            now = fingerprint(path)
            if now is not None:
                yield path, now
            return
        own = fingerprint(self.directory)
        if operand.is_directory and own is not None and os.path.isdir(self.directory):
            # Times and size of a directory change with its entries, which are told by themselves.
            yield self.directory, (own[0], 0, 0)
        for count, name in enumerate(sorted(self._names(spec))):
            if count >= MOST_ENTRIES:
                self._warn_of_many()
                return
            path = os.path.join(self.directory, name)
            now = fingerprint(path)
            if now is not None:
                yield path, now

    def _names(self, spec: Spec) -> Iterator[str]:
        try:
            with os.scandir(self.directory) as entries:
                for entry in entries:
                    if spec.takes(entry.name):
                        yield entry.name
        except OSError:
            return

    def _warn_of_many(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            self._warn(
                f"{self.directory} has more than {MOST_ENTRIES} entries that jobs wait for: "
                "of further ones some changes may go unseen"
            )
