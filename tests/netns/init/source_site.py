"""What a source needs of an init, in a test's own process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from hostlab.init.lasting import Lasting
from hostlab.init.sources import Surroundings
from hostlab.jobs.facts import Emit

DEADLINE_S = 60.0


@dataclass
class Init:
    """What a source needs of an init, and what it has told."""

    directory: int | None = None
    stamps: str | None = None
    told: list[Emit] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    kept: dict[str, int] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def surroundings(self) -> Surroundings:
        return Surroundings(
            self.tell, self.warnings.append, self.keep, self.drop, self.kept,
            Lasting(self.directory) if self.directory is not None else None,
            stamps=self.stamps,
        )  # fmt: skip

    def tell(self, emit: Emit) -> None:
        self.told.append(emit)
        self.changed.set()

    def keep(self, name: str, fd: int) -> None:
        self.drop(name)
        self.kept[name] = os.dup(fd)

    def drop(self, name: str) -> None:
        if name in self.kept:
            os.close(self.kept.pop(name))

    async def wait_told(self, count: int) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while len(self.told) < count:
                self.changed.clear()
                await self.changed.wait()


@contextmanager
def counted_turns() -> Iterator[list[int]]:
    """How often the loop that runs has turned round in the block: it does so when it is woken.

    The kernel's count of a process' switches has those for pages and for Python's own lock, too.
    """
    selector = vars(asyncio.get_running_loop())["_selector"]
    select, count = selector.select, [0]

    def counted(timeout: float | None = None) -> object:
        count[0] += 1
        return select(timeout)

    selector.select = counted
    try:
        yield count
    finally:
        del selector.select


def finish(init: Init) -> None:
    for name in list(init.kept):
        init.drop(name)
