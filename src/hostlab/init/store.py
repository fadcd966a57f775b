"""Where the engine's state survives its supervisor: a memfd that the holder keeps.

Its first line is a snapshot, each further one a fact. A fact is written before the world sees what
follows from it, so whoever reads the file again stands where the dead supervisor stood, and only
has to ask what became of the processes. In memory, because a full disk must not cost a job, and a
machine that lost its power has no jobs to go on with.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from hostlab.jobs.effects import Effect
from hostlab.jobs.engine import Engine
from hostlab.jobs.journal import AnyFact, encode_entry, replay
from hostlab.jobs.snapshot import capture, decode, encode, restore

NAME: Final = "state"
"""What the holder calls it."""
SMALLEST_BYTES: Final = 1 << 18
GROWTH: Final = 4
"""A file that has grown to so many times its snapshot is written anew."""


class Store:
    """The state of one engine, stored fact by fact."""

    def __init__(self, keep: Callable[[str, int], None]) -> None:
        """`keep(name, fd)` has the holder keep a descriptor instead of the one of that name."""
        self._keep = keep
        self._fd = -1
        self._size = 0
        self._bound = 0

    @property
    def fd(self) -> int:
        """Descriptor of what is stored."""
        return self._fd

    def begin(self, engine: Engine) -> None:
        """Store the whole state; what was written before is not needed any more."""
        data = encode(capture(engine)) + b"\n"
        fd = os.memfd_create("hostlab state", os.MFD_CLOEXEC)
        try:
            _write(fd, data)
            self._keep(NAME, fd)
        except BaseException:
            os.close(fd)
            raise
        self.close()
        self._fd, self._size = fd, len(data)
        self._bound = max(SMALLEST_BYTES, GROWTH * len(data))

    def append(self, fact: AnyFact, now: float) -> None:
        """Store one fact."""
        data = encode_entry(fact, now)
        _write(self._fd, data)
        self._size += len(data)

    @property
    def is_long(self) -> bool:
        """Whether the facts have outgrown the snapshot, so that `begin` is due."""
        return self._size > self._bound

    def postpone(self) -> None:
        """Let it grow to twice that size before `begin` is due again."""
        self._bound *= 2

    def close(self) -> None:
        """Let go of this process' descriptor; the holder has its own."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


Told = Callable[[Engine, AnyFact, tuple[Effect, ...]], None]


def load(fd: int, begun: Callable[[Engine], None], told: Told) -> Engine:
    """The engine of a stored state.

    `begun` is called with it as the snapshot has it, `told` for each fact that came afterwards.
    DecodeError when the file is none, or of a later version than this program's.
    """
    data = os.pread(fd, os.fstat(fd).st_size, 0)
    snapshot, _, entries = data.partition(b"\n")
    engine = restore(decode(snapshot))
    begun(engine)
    replay(engine, entries, lambda fact, effects: told(engine, fact, effects))
    return engine


def _write(fd: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]
