"""Readiness that shows from outside: a path that appears, a port that somebody listens on.

A path is told by inotify(7). Of listen(2) the kernel tells nobody, so a port is the one thing here
that is looked at again and again, after pauses that grow from 5 to 100 ms, while it is awaited.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from hostlab.errors import Unsupported
from hostlab.linux.inotify import (
    IN_CREATE,
    IN_DELETE_SELF,
    IN_MOVE_SELF,
    IN_MOVED_TO,
    Inotify,
)
from hostlab.linux.netns import Home
from hostlab.linux.sockdiag import listening_inodes

FIRST_PAUSE_S: Final = 0.005
LONGEST_PAUSE_S: Final = 0.1
_APPEARS: Final = IN_CREATE | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF
_Timers = dict[int, asyncio.TimerHandle]


class Files:
    """Paths that are awaited, with one inotify instance for all of them while there are any."""

    def __init__(self, *, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._timer: asyncio.TimerHandle | None = None
        self._awaited: dict[int, tuple[str, Callable[[], None]]] = {}
        self._inotify: Inotify | None = None

    def wait(self, spawn: int, path: str, appeared: Callable[[], None]) -> None:
        """Call `appeared` once when the path exists, at once if it does.

        When the user has no inotify instance or watch left, paths are looked at every 100 ms.
        """
        self._awaited[spawn] = (path, appeared)
        try:
            if self._inotify is None:
                self._inotify = Inotify()
                asyncio.get_running_loop().add_reader(self._inotify.fd, self._look)
        except OSError as error:
            self._do_without(error)
        self._check(spawn)

    def _do_without(self, error: OSError) -> None:
        """Warn, and look again and again while anything is awaited."""
        if self._timer is None:
            self._warn(f"{error.strerror}: paths that are awaited are looked at every 100 ms")
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(LONGEST_PAUSE_S, self._look_again)

    def _look_again(self) -> None:
        self._look()
        self._timer = None
        if self._awaited:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(LONGEST_PAUSE_S, self._look_again)

    def forget(self, spawn: int) -> None:
        """Do not wait for a spawn's path any more."""
        self._awaited.pop(spawn, None)
        if self._awaited:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify.fd)
            self._inotify.close()
            self._inotify = None

    def _look(self) -> None:
        if self._inotify is not None:
            self._inotify.discard()
        for spawn in tuple(self._awaited):
            self._check(spawn)

    def _check(self, spawn: int) -> None:
        if spawn not in self._awaited:
            return
        path, appeared = self._awaited[spawn]
        try:
            is_there = _exists_or_watched(path, self._inotify)
        except OSError as error:
            self._do_without(error)
            return
        if is_there:
            self.forget(spawn)
            appeared()


def _exists_or_watched(path: str, inotify: Inotify | None) -> bool:
    """True when a path exists; else the nearest directory above it is watched from now on."""
    while not os.path.lexists(path):
        if inotify is None:
            return False
        above, missing = _nearest(path)
        try:
            inotify.add(above, _APPEARS)
        except FileNotFoundError:
            continue
        if not os.path.lexists(missing):
            return False
    return True


def _nearest(path: str) -> tuple[str, str]:
    """The nearest directory above a path that exists, and what is missing in it."""
    missing = os.path.abspath(path)
    while not os.path.isdir(above := os.path.dirname(missing)) and above != missing:
        missing = above
    return above, missing


@dataclass(frozen=True, slots=True)
class Port:
    """A port that is awaited."""

    number: int
    members: Callable[[], Collection[int]]
    """The processes whose socket it has to be."""
    network: int | None
    """Descriptor of the network namespace to look in; None is one's own."""
    listens: Callable[[], None]


class Ports:
    """Ports that are awaited."""

    def __init__(self, *, warn: Callable[[str], None]) -> None:
        self._timers: _Timers = {}
        self._warn = warn
        self._protocols: tuple[str, ...] = ("tcp", "udp")

    def wait(self, spawn: int, port: Port) -> None:
        """Call `port.listens` once when one of its members listens on it, over TCP or UDP.

        Where it cannot be told whose a socket is, anybody's will do: another user's descriptors
        are readable with CAP_SYS_PTRACE only (proc(5)).
        """
        self._look(spawn, port, FIRST_PAUSE_S)

    def forget(self, spawn: int) -> None:
        """Do not wait for a spawn's port any more."""
        timer = self._timers.pop(spawn, None)
        if timer is not None:
            timer.cancel()

    def _look(self, spawn: int, port: Port, pause_s: float) -> None:
        self._timers.pop(spawn, None)
        try:
            is_there = self._is_there(port)
        except OSError as error:
            self._warn(f"port {port.number} cannot be awaited: {error}")
            return
        if is_there:
            port.listens()
            return
        loop = asyncio.get_running_loop()
        longer_s = min(2 * pause_s, LONGEST_PAUSE_S)
        self._timers[spawn] = loop.call_later(pause_s, self._look, spawn, port, longer_s)

    def _is_there(self, port: Port) -> bool:
        inodes: set[int] = set()
        for protocol in self._protocols:
            try:
                inodes |= _inodes(protocol, port)
            except Unsupported as lacking:
                self._warn(f"{lacking.message}; a port is awaited without them")
                self._protocols = tuple(name for name in self._protocols if name != protocol)
        return bool(inodes) and _is_owned(inodes, port.members())


def _inodes(protocol: str, port: Port) -> frozenset[int]:
    if port.network is None:
        return listening_inodes(protocol, port.number)
    home = Home()
    try:
        with home.visit(port.network):
            return listening_inodes(protocol, port.number)
    finally:
        home.close()


def _is_owned(inodes: Collection[int], members: Collection[int]) -> bool:
    """Whether one of these processes has one of these sockets, as far as one may look."""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    is_known = bool(members)
    for pid in members:
        try:
            for name in os.listdir(f"/proc/{pid}/fd"):
                if _target(f"/proc/{pid}/fd/{name}") in wanted:
                    return True
        except PermissionError:
            is_known = False
        except (FileNotFoundError, ProcessLookupError):
            continue
    return not is_known


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except FileNotFoundError:
        return ""
