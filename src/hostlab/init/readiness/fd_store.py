"""Descriptors that a program gives to its init and gets back at its next start: `FDSTORE=1`.

The holder keeps them, so they outlive the supervisor too. An instance's next process finds them
from 3 on, with their names in $LISTEN_FDNAMES (sd_listen_fds(3)).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import select
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

PREFIX: Final = "store:"
MAX_STORED: Final = 64
"""Of one instance; what is given beyond is closed."""
MAX_KEY_BYTES: Final = 3000
"""The holder hears of a descriptor's name in one datagram."""
F_DUPFD_QUERY: Final = 1027
"""Whether two descriptors are one open file (Linux 6.10)."""

Keep = Callable[[str, int], None]
Drop = Callable[[str], None]
_UNPOLLED: Final = "!"
_PLAIN: Final = re.compile(r"[^A-Za-z0-9_.@-]")


def quote(text: str) -> str:
    """A name as part of a kept descriptor's: without separators, blanks and surprises."""
    return _PLAIN.sub(lambda found: f"%{ord(found[0]):06x}", text)


def unquote(text: str) -> str:
    """What `quote` was given."""
    return re.sub("%([0-9a-f]{6})", lambda found: chr(int(found[1], 16)), text)


class Stored(msgspec.Struct, frozen=True):
    """One descriptor that is kept."""

    key: str
    """Its name at the holder: `store:JOB/INSTANCE/NAME:N`, with `!` where it is never polled."""
    name: str
    fd: int


class FdStore:
    """Every instance's descriptors."""

    def __init__(self, *, keep: Keep, drop: Drop) -> None:
        self._keep = keep
        self._drop = drop
        self._stored: dict[tuple[str, str], list[Stored]] = {}
        self._epoll: select.epoll | None = None

    def of(self, job: str, instance: str) -> tuple[Stored, ...]:
        """What an instance has stored, in its order."""
        return tuple(self._stored.get((job, instance), ()))

    def store(self, job: str, instance: str, name: str, fd: int, *, poll: bool) -> bool:
        """Keep a descriptor, which stays the caller's; True also when it is kept already.

        False when the instance has `MAX_STORED` of them.
        """
        stored = self._stored.setdefault((job, instance), [])
        if any(_is_same(one.fd, fd) for one in stored):
            return True
        taken = {one.key.removesuffix(_UNPOLLED) for one in stored}
        prefix = f"{PREFIX}{quote(job)}/{quote(instance)}/{quote(name)}:"
        if len(stored) >= MAX_STORED or len(prefix) > MAX_KEY_BYTES:
            return False
        number = next(n for n in range(MAX_STORED) if f"{prefix}{n}" not in taken)
        one = Stored(f"{prefix}{number}{'' if poll else _UNPOLLED}", name, _copy(fd))
        self._keep(one.key, one.fd)
        stored.append(one)
        self._watch(one)
        return True

    def remove(self, job: str, instance: str, name: str) -> None:
        """Close every descriptor of this name."""
        for one in self.of(job, instance):
            if one.name == name:
                self._forget(job, instance, one)

    def release(self, job: str, instance: str) -> None:
        """Close all that an instance has stored."""
        for one in self.of(job, instance):
            self._forget(job, instance, one)

    def restore(self, kept: Mapping[str, int]) -> None:
        """Take up what the holder has kept."""
        for key in sorted(kept, key=_order):
            parts = key.removeprefix(PREFIX).rpartition(":")[0].split("/")
            if not key.startswith(PREFIX) or len(parts) != 3:
                continue
            job, instance, name = map(unquote, parts)
            one = Stored(key, name, _copy(kept[key]))
            self._stored.setdefault((job, instance), []).append(one)
            self._watch(one)

    def close(self) -> None:
        """Close this side's copies; the holder keeps its own."""
        for stored in self._stored.values():
            for one in stored:
                os.close(one.fd)
        self._stored.clear()
        self._unwatch_all()

    def _forget(self, job: str, instance: str, one: Stored) -> None:
        stored = self._stored[job, instance]
        stored.remove(one)
        if not stored:
            del self._stored[job, instance]
        if self._epoll is not None:
            with contextlib.suppress(OSError):  # One that is not watched.
                self._epoll.unregister(one.fd)
        self._drop(one.key)
        os.close(one.fd)
        if not self._stored:
            self._unwatch_all()

    def _watch(self, one: Stored) -> None:
        """Hear when the other end hangs up; of files there is nothing to hear (EPERM)."""
        if one.key.endswith(_UNPOLLED):
            return
        if self._epoll is None:
            self._epoll = select.epoll()
            asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._hung_up)
        with contextlib.suppress(PermissionError):
            self._epoll.register(one.fd, 0)

    def _unwatch_all(self) -> None:
        if self._epoll is not None:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def _hung_up(self) -> None:
        assert self._epoll is not None
        gone = {fd for fd, _ in self._epoll.poll(0)}
        for (job, instance), stored in list(self._stored.items()):
            for one in tuple(stored):
                if one.fd in gone:
                    self._forget(job, instance, one)


def _order(key: str) -> tuple[str, int]:
    place, _, number = key.rpartition(":")
    digits = number.removesuffix(_UNPOLLED)
    return place, int(digits) if digits.isdigit() else 0


def _copy(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)


def _is_same(one: int, other: int) -> bool:
    """Whether two descriptors are one open file, or as near to it as an older kernel can tell."""
    try:
        return fcntl.fcntl(one, F_DUPFD_QUERY, other) == 1
    except OSError:
        first, second = os.fstat(one), os.fstat(other)
        return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)
