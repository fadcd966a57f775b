"""What a source needs of an init, in a test's own process."""

from __future__ import annotations

import asyncio
import os
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


def finish(init: Init) -> None:
    for name in list(init.kept):
        init.drop(name)
