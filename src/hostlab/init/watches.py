"""One instance of inotify for an init, whoever in it watches a path: a user has 128 of them.

`Watches` shares it. `Trail` keeps to a path whatever becomes of it: it watches the path, or the
directory in which the next missing part of it would appear, and above that only that no directory
is moved or removed. So a busy directory wakes nobody who does not care for it.

The kernel tells of what happens after a watch was made: whoever makes one looks behind it. When its
queue was full (fs.inotify.max_queued_events) it says so, and everybody looks at everything.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Iterator
from typing import Final

from hostlab.linux.inotify import (
    IN_ATTRIB,
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE,
    IN_DELETE_SELF,
    IN_IGNORED,
    IN_MASK_ADD,
    IN_MOVE_SELF,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_Q_OVERFLOW,
    IN_UNMOUNT,
    Inotify,
)

GONE: Final = IN_DELETE_SELF | IN_MOVE_SELF
APPEARING: Final = IN_CREATE | IN_MOVED_TO
LEAVING: Final = IN_DELETE | IN_MOVED_FROM
LOST: Final = GONE | IN_IGNORED | IN_UNMOUNT | IN_Q_OVERFLOW
MOST_LOOKS: Final = 16
"""At a path that changes while it is looked at, before the next event is waited for."""
MOST_WARNINGS: Final = 20
"""Paths that are named in warnings; further ones are only counted."""
_ABSENT: Final = (FileNotFoundError, NotADirectoryError)
Told = Callable[[int, str], None]


class Watch:
    """What somebody wants to hear of one path."""

    def __init__(self, owner: Watches, number: int, mask: int, told: Told) -> None:
        self._owner = owner
        self.number = number
        self.mask = mask
        self.told = told
        self.is_live = True
        """False once it is closed, or the kernel has removed it with its path."""

    def close(self) -> None:
        """Hear no more."""
        if self.is_live:
            self.is_live = False
            self._owner.closed(self)


class Watches:
    """The shared instance; it exists while anybody watches."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._warned: set[str] = set()
        self._inotify: Inotify | None = None
        self._watches: dict[int, list[Watch]] = {}
        self._is_reading = False

    @property
    def count(self) -> int:
        """Of the kernel's watches."""
        return len(self._watches)

    def add(self, path: str, mask: int, told: Told) -> Watch:
        """Hear of a path: `told(mask, name)`, with IN_Q_OVERFLOW when something was not told.

        OSError when there is no such path, it may not be read, or nothing is left to watch with.
        """
        if self._inotify is None:
            self._inotify = Inotify()
            asyncio.get_running_loop().add_reader(self._inotify.fd, self._read)
        try:
            # The same directory may be watched for something else, by another of its names.
            number = self._inotify.add(path, mask | IN_MASK_ADD)
        except OSError:
            self._close_unused()
            raise
        watch = Watch(self, number, mask, told)
        self._watches.setdefault(number, []).append(watch)
        return watch

    def look(self) -> None:
        """Tell at once what has happened, for who cannot wait until the loop does."""
        if self._inotify is not None and self._inotify.has_events():
            self._read()

    def closed(self, watch: Watch) -> None:
        """A watch says that it is closed."""
        others = self._watches.get(watch.number, [])
        if watch in others:
            others.remove(watch)
        if not others and self._watches.pop(watch.number, None) is not None:
            assert self._inotify is not None
            self._inotify.remove(watch.number)
            self._close_unused()

    def warn(self, path: str, error: OSError) -> None:
        """Tell, once, that a path cannot be watched, and what would help."""
        if path in self._warned:
            return
        self._warned.add(path)
        why = error.strerror
        if error.errno == errno.ENOSPC:
            why = "the user's watches are used up: raise the sysctl fs.inotify.max_user_watches"
        elif error.errno == errno.EMFILE:
            why = "no instance of inotify is left: raise the sysctl fs.inotify.max_user_instances"
        if len(self._warned) <= MOST_WARNINGS:
            self._warn(f"changes of {path} go unseen: {why}")
        elif len(self._warned) == MOST_WARNINGS + 1:
            self._warn(f"changes of further paths go unseen: {why}")

    def close(self) -> None:
        """Close the instance; whoever watches hears nothing any more."""
        self._watches.clear()
        self._close_unused()

    def _close_unused(self) -> None:
        # While events are told, the numbers in them are this instance's.
        if self._inotify is not None and not self._watches and not self._is_reading:
            asyncio.get_running_loop().remove_reader(self._inotify.fd)
            self._inotify.close()
            self._inotify = None

    def _read(self) -> None:
        assert self._inotify is not None
        self._is_reading = True
        try:
            for number, mask, name in self._inotify.read():
                self._tell(number, mask, name)
        finally:
            self._is_reading = False
            self._close_unused()

    def _tell(self, number: int, mask: int, name: str) -> None:
        if mask & IN_Q_OVERFLOW:
            self._overflowed()
            return
        watches = tuple(self._watches.get(number, ()))
        if mask & IN_IGNORED:
            self._watches.pop(number, None)
        for watch in watches:
            if watch.is_live and mask & (watch.mask | IN_IGNORED | IN_UNMOUNT):
                watch.is_live = not mask & IN_IGNORED
                watch.told(mask, name)

    def _overflowed(self) -> None:
        for watches in tuple(self._watches.values()):
            for watch in tuple(watches):
                if watch.is_live:
                    watch.told(IN_Q_OVERFLOW, "")


class Trail:
    """Keeps to one path."""

    def __init__(
        self,
        watches: Watches,
        path: str,
        mask: int,
        *,
        told: Told,
        changed: Callable[[], None],
        is_directory: bool = False,
    ) -> None:
        """`told` hears what `mask` says of the path itself, or of what is in it.

        `changed` is called when the path has come, gone or become another, or when it cannot be
        said what has happened: then everything is to be looked at. With `is_directory` another
        file of this name is none. `path` is absolute.
        """
        self._watches = watches
        self.path = os.path.normpath(path)
        self._mask = mask
        self._told = told
        self._changed = changed
        self._is_directory = is_directory
        self._parts: list[Watch] = []
        self._identity: tuple[int, int] | None = None
        self.is_blind = False
        """There is nothing to watch it with, or it may not be read; that was told."""
        self.arm()

    @property
    def is_there(self) -> bool:
        """Whether the path was there when it was last looked for."""
        return self._identity is not None

    def arm(self) -> None:
        """Watch the path as it is now."""
        before, self._parts = self._parts, []
        self.is_blind = False
        try:
            for _ in range(MOST_LOOKS):
                if self._arm():
                    return
                self.close()
        except OSError as error:
            self.is_blind = True
            self._watches.warn(self.path, error)
        finally:
            for part in before:
                part.close()

    def close(self) -> None:
        """Watch no longer."""
        parts, self._parts = self._parts, []
        for part in parts:
            part.close()

    def _arm(self) -> bool:
        """False when the path has changed meanwhile."""
        self._identity = None
        try:
            return self._arm_steps()
        except _ABSENT:
            return False

    def _arm_steps(self) -> bool:
        steps = list(_steps(self.path))
        for number, (above, name) in enumerate(steps):
            path = os.path.join(above, name)
            is_last = number == len(steps) - 1
            needs_directory = self._is_directory or not is_last
            exists = os.path.isdir if needs_directory else os.path.exists
            is_there = exists(path)
            mask = GONE if above != "/" else 0
            if not is_there or os.path.islink(path):
                # Where a link leads may change; so its directory is listened to.
                mask |= APPEARING | LEAVING
            if mask:
                self._watch_part(above, mask, name, must=not is_there)
            if exists(path) != is_there:
                return False
            if not is_there:
                return True
        self._parts.append(self._watches.add(self.path, self._mask | GONE, self._hear))
        self._identity = _identity(self.path)
        return self._identity is not None

    def _watch_part(self, path: str, mask: int, awaited: str, *, must: bool) -> None:
        def hear(mask: int, name: str) -> None:
            if mask & LOST or name == awaited:
                self._look_again()

        try:
            self._parts.append(self._watches.add(path, mask, hear))
        except PermissionError:
            # What may not be read cannot be watched: that it is moved goes unseen.
            if must:
                raise

    def _hear(self, mask: int, name: str) -> None:
        is_lost = mask & LOST
        if not name and mask & IN_ATTRIB and _identity(self.path) != self._identity:
            # Another file took its name; this one is kept open by somebody.
            is_lost = mask
        if is_lost:
            self._look_again()
        else:
            self._told(mask, name)

    def _look_again(self) -> None:
        self.arm()
        self._changed()


def watch_path(watches: Watches, path: str, changed: Callable[[], None]) -> Trail:
    """Have `changed` called whenever a file was written, replaced, made or removed."""
    mask = IN_CLOSE_WRITE | IN_ATTRIB
    return Trail(watches, path, mask, told=lambda mask, name: changed(), changed=changed)


def _steps(path: str) -> Iterator[tuple[str, str]]:
    """The parts of an absolute path, each with what is above it."""
    above = "/"
    for name in path.strip("/").split("/"):
        yield above, name
        above = os.path.join(above, name)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
