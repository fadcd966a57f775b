"""The match rules of a connection, which follow what is wanted of the bus."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from hostlab.errors import Failed
from hostlab.init.dbus.library import MessageBus
from hostlab.init.dbus.link import GONE, call
from hostlab.jobs.dbus_event import Rule, rule_text

NONE: Final[frozenset[Rule]] = frozenset()


class Rules:
    """The rules of the connection of now."""

    def __init__(
        self,
        name: str,
        warn: Callable[[str], None],
        settled: Callable[[MessageBus], Awaitable[None]] | None = None,
    ) -> None:
        """`name` is the bus's, for people; `settled` is awaited after each change."""
        self.wanted = NONE
        self._name = name
        self._warn = warn
        self._settled = settled
        self._set = NONE
        self._changing: asyncio.Task[None] | None = None

    async def begin(self, bus: MessageBus) -> None:
        """Set all on a new connection."""
        self._set = NONE
        await self._settle(bus)

    def follow(self, bus: MessageBus) -> None:
        """Something else is wanted of a connection that has been set up."""
        if self._changing is None:
            self._changing = asyncio.ensure_future(self._change(bus))

    def close(self) -> None:
        """The connection is no more."""
        if self._changing is not None:
            self._changing.cancel()
            self._changing = None

    async def _change(self, bus: MessageBus) -> None:
        try:
            await self._settle(bus)
        except GONE:
            # The link notices it too.
            return
        finally:
            if self._changing is asyncio.current_task():
                self._changing = None

    async def _settle(self, bus: MessageBus) -> None:
        """Until the rules are those that are wanted, which may change meanwhile."""
        while True:
            wanted = self.wanted
            for rule in wanted - self._set:
                await self._tell(bus, "AddMatch", rule)
            for rule in self._set - wanted:
                await self._tell(bus, "RemoveMatch", rule)
            self._set = wanted
            if self._settled is not None:
                await self._settled(bus)
            if wanted == self.wanted:
                return

    async def _tell(self, bus: MessageBus, member: str, rule: Rule) -> None:
        try:
            await call(bus, member, "s", [rule_text(rule)])
        except Failed as error:
            self._warn(f"{self._name}: {member} {rule_text(rule)}: {error.message}")
