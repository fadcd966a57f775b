"""Logs in a directory of a test, with a keeper of descriptors in the holder's place."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from hostlab.init.logs.pipes import Logs
from hostlab.linux.clone import CLONE_NEWNS, clone3
from hostlab.linux.libc import mount
from hostlab.linux.mounts import make_private

DEADLINE_S = 60.0


class Keeper:
    """Keeps copies of descriptors by name, as a holder does."""

    def __init__(self) -> None:
        self.kept: dict[str, int] = {}
        self.told: dict[str, int] = {}
        """What a new supervisor was given, which `drop` closes."""

    def keep(self, name: str, fd: int) -> None:
        self.kept[name] = os.dup(fd)

    def drop(self, name: str) -> None:
        os.close(self.kept.pop(name))
        if name in self.told:
            os.close(self.told.pop(name))

    def tell(self) -> dict[str, int]:
        """The copies that a new supervisor gets."""
        self.told = {name: os.dup(fd) for name, fd in self.kept.items()}
        return self.told

    def close(self) -> None:
        for fd in (*self.kept.values(), *self.told.values()):
            os.close(fd)


@contextlib.asynccontextmanager
async def logging(
    directory: Path, keeper: Keeper | None = None, **options: Any
) -> AsyncIterator[Logs]:
    """Logs for the length of the block; with a keeper of one's own, what it has goes on."""
    place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    own = keeper or Keeper()
    logs = Logs(place, keep=own.keep, drop=own.drop, **options)
    try:
        yield logs
    finally:
        logs.close()
        if keeper is None:
            own.close()
        os.close(place)


async def until(condition: Callable[[], bool], what: str) -> None:
    """Let the loop run until it holds; fails after the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not in {DEADLINE_S} s: {what}"
        await asyncio.sleep(0.002)


def write(fd: int, data: bytes) -> None:
    """Write all of it, without waiting for a reader: what does not fit fails."""
    os.set_blocking(fd, False)
    assert os.write(fd, data) == len(data)


@contextlib.contextmanager
def small_disk(size_bytes: int, *, files: int = 0) -> Iterator[Path]:
    """A tmpfs of this size that no mount namespace but a dead process's has ever seen.

    `files` is how many it has room for with their directories; 0 is no bound.
    """
    ours, theirs = socket.socketpair()
    pid, pidfd = clone3(CLONE_NEWNS)
    if pid == 0:
        try:
            make_private()
            mount(b"tmpfs", b"/mnt", b"tmpfs", 0, b"size=%d,nr_inodes=%d" % (size_bytes, files))
            place = os.open("/mnt", os.O_RDONLY | os.O_DIRECTORY)
            socket.send_fds(theirs, [b"."], [place])
        finally:
            os._exit(0)
    theirs.close()
    _, (place,), _, _ = socket.recv_fds(ours, 1, 1)
    os.waitpid(pid, 0)
    ours.close()
    os.close(pidfd)
    try:
        yield Path(f"/proc/self/fd/{place}")
    finally:
        os.close(place)
