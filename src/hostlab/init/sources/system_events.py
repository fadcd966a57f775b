"""The system's events in a user's session: `:sys:NAME` with the event's own variables.

The host's init tells each event on the system bus when it is finished (`EventEmitted` of
com.ubuntu.Upstart), and what a session's jobs listen to is asked of the bus by name, so nothing
else wakes this process. That init's restart is `:sys:restarted`. As with upstart-event-bridge(8),
a session blocks no event of the system: it hears of it afterwards.
"""

from __future__ import annotations

from typing import Final

from hostlab.errors import UsageError
from hostlab.init.dbus.library import Message, MessageBus, MessageType
from hostlab.init.dbus.link import Link
from hostlab.init.dbus.objects import MANAGER, NAME, ROOT
from hostlab.init.dbus.places import address_of
from hostlab.init.dbus.rules import Rules
from hostlab.init.sources import Surroundings
from hostlab.jobs.dbus_event import SYSTEM, Rule, bounded
from hostlab.jobs.facts import Emit
from hostlab.spec.job import Match

PREFIX: Final = ":sys:"
RESTARTED: Final = "restarted"
BUS: Final = "the system bus"


def open_source(surroundings: Surroundings) -> SystemEvents:
    """The source of the system's events; UsageError in the system's own init."""
    if not surroundings.is_user:
        raise UsageError("system-events", f"`{PREFIX}` begins an event of a user's session only")
    return SystemEvents(surroundings)


class SystemEvents:
    """The events of the host's init that jobs of a session listen to."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._names: frozenset[str] = frozenset()
        self._rules = Rules(BUS, surroundings.warn)
        self._link = Link(
            BUS, self._address, self, warn=surroundings.warn, watches=surroundings.watches
        )

    def listen(self, operands: frozenset[Match]) -> None:
        """Have the events that these name."""
        self._names = frozenset(match.name.removeprefix(PREFIX) for match in operands)
        self._rules.wanted = bounded(map(_rule, self._names))
        self._link.look()
        if self._link.bus is not None:
            self._rules.follow(self._link.bus)

    def close(self) -> None:
        """Hear nothing any more."""
        self._rules.close()
        self._link.close()

    def _address(self) -> str | None:
        return address_of(SYSTEM, self._surroundings.variables())

    # What the link tells.

    async def established(self, bus: MessageBus) -> None:
        """Ask for the events again."""
        await self._rules.begin(bus)

    def lost(self) -> None:
        """The rules were the connection's."""
        self._rules.close()

    def received(self, message: Message) -> bool | None:
        """Tell an event, if it is one that a job named."""
        if message.message_type is not MessageType.SIGNAL:
            return None
        if (message.interface, message.path) != (MANAGER, ROOT):
            return True
        if message.member == "Restarted" and not message.body:
            self._tell(RESTARTED, [])
        elif message.member == "EventEmitted" and message.signature == "sas":
            self._tell(*message.body)
        return True

    def _tell(self, name: str, env: list[str]) -> None:
        if name in self._names:
            pairs = tuple((key, value) for key, _, value in (text.partition("=") for text in env))
            self._surroundings.tell(Emit(name=f"{PREFIX}{name}", environment=pairs))


def _rule(name: str) -> Rule:
    """What the bus is asked for; of whoever has the name, as only root may have it."""
    of_init = {("sender", NAME), ("interface", MANAGER), ("path", ROOT)}
    if name == RESTARTED:
        return frozenset({*of_init, ("member", "Restarted")})
    return frozenset({*of_init, ("member", "EventEmitted"), ("arg0", name)})
