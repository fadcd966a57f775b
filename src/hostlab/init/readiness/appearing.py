"""Readiness that shows from outside: a path that appears, a port that somebody listens on.

A path is told by inotify(7). Of listen(2) the kernel tells nobody, so a port is the one thing here
that is looked at again and again, after pauses that grow from 5 to 100 ms, while it is awaited.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection
from functools import partial
from typing import Final

import msgspec

from hostlab.errors import Unsupported
from hostlab.init.watches import Trail, Watches
from hostlab.linux.netns import Home
from hostlab.linux.sockdiag import listening_inodes

FIRST_PAUSE_S: Final = 0.005
LONGEST_PAUSE_S: Final = 0.1
_Timers = dict[int, asyncio.TimerHandle]


class Files:
    """Paths that are awaited."""

    def __init__(self, *, warn: Callable[[str], None]) -> None:
        self.watches = Watches(warn)
        """Of the whole init, where it has others."""
        self._warn = warn
        self._timer: asyncio.TimerHandle | None = None
        self._awaited: dict[int, tuple[str, Callable[[], None], Trail]] = {}

    def wait(self, spawn: int, path: str, appeared: Callable[[], None]) -> None:
        """Call `appeared` once when the path exists, at once if it does.

        When the user has no inotify instance or watch left, paths are looked at every 100 ms.
        """
        self.forget(spawn)
        path = os.path.abspath(path)
        check = partial(self._check, spawn)
        trail = Trail(self.watches, path, 0, told=lambda mask, name: check(), changed=check)
        self._awaited[spawn] = (path, appeared, trail)
        if trail.is_blind and self._timer is None:
            self._warn("paths that are awaited are looked at every 100 ms")
            self._look_later()
        check()

    def _look_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(LONGEST_PAUSE_S, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        for spawn in tuple(self._awaited):
            self._check(spawn)
        if any(trail.is_blind for *_, trail in self._awaited.values()):
            self._look_later()

    def forget(self, spawn: int) -> None:
        """Do not wait for a spawn's path any more."""
        found = self._awaited.pop(spawn, None)
        if found is not None:
            found[2].close()
        if not self._awaited and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self, spawn: int) -> None:
        if spawn not in self._awaited:
            return
        path, appeared, _ = self._awaited[spawn]
        if os.path.lexists(path):
            self.forget(spawn)
            appeared()


class Port(msgspec.Struct, frozen=True):
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
