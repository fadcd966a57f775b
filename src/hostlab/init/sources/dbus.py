"""Signals of message buses as events: `dbus SIGNAL=… INTERFACE=… OBJPATH=… SENDER=…`.

One connection a bus that a job listens to, with the match rules that its operands come to
(`jobs.dbus_event`): whatever no job asks for does not wake this process. A bus may come long after
the job, go and come again; the rules are set anew then, and what it sent meanwhile is gone.

A signal's SENDER is the unique name of a connection, such as `:1.3`, as with Upstart. Where a job
names a sender by a well-known name, the signals of whoever owns that name have it as their SENDER;
with Upstart such a job was never started.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from hostlab.errors import Failed, SpecError
from hostlab.init.dbus.library import Message, MessageBus, MessageType
from hostlab.init.dbus.link import DRIVER, DRIVER_PATH, Link, call
from hostlab.init.dbus.places import address_of
from hostlab.init.dbus.rules import Rules
from hostlab.init.sources import Surroundings
from hostlab.jobs import dbus_event
from hostlab.jobs.dbus_event import EVENT, SESSION, SYSTEM, Rule
from hostlab.jobs.expression import Environment
from hostlab.jobs.facts import Emit
from hostlab.spec.job import Match

MAX_QUEUED: Final = 10_000
"""Signals that have come and are not told yet; further ones are lost, and counted."""
MAX_QUEUED_BYTES: Final = 16 << 20
MAX_TEXT_BYTES: Final = 64 << 10
"""Of a signal's variables together; execve(2) takes no string above 128 KiB."""
AT_ONCE: Final = 64
"""Events told before others have their turn."""
UPSTART: Final = "com.ubuntu.Upstart0_6"
"""Whose signals are no events here: one that tells of an event would be told for ever."""


def open_source(surroundings: Surroundings) -> DBusSource:
    """The source of D-Bus signals."""
    return DBusSource(surroundings)


class DBusSource:
    """The buses that jobs listen to."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._buses: dict[str, Signals] = {}
        self._wrong: set[Match] = set()
        self._is_due = False

    def listen(self, operands: frozenset[Match]) -> None:
        """Connect to new buses, leave those of which nobody wants anything, and set the rules."""
        usual = (SYSTEM, SESSION) if self._surroundings.is_user else (SYSTEM,)
        wanted: dict[str, dict[Match, Rule]] = {}
        for match in operands:
            for bus, rule in self._rules(match, usual):
                wanted.setdefault(bus, {})[match] = rule
        self._wrong &= operands
        for bus in self._buses.keys() - wanted.keys():
            self._buses.pop(bus).close()
        for bus, rules in wanted.items():
            if bus not in self._buses:
                self._buses[bus] = Signals(bus, self._surroundings)
            self._buses[bus].listen(rules)

    def _rules(self, match: Match, usual: tuple[str, ...]) -> list[tuple[str, Rule]]:
        """Where an operand listens, and for what."""
        try:
            rule = dbus_event.rule_of(match)
            return [(bus, rule) for bus in dbus_event.buses(match, usual)]
        except SpecError as error:
            if match not in self._wrong:
                self._wrong.add(match)
                words = " ".join(match.arguments)
                self._surroundings.warn(f"dbus {words}: {error.message}; it never comes")
            return []

    def close(self) -> None:
        """Leave every bus."""
        for bus in self._buses.values():
            bus.close()
        self._buses.clear()


class Signals:
    """The signals of one bus."""

    def __init__(self, bus: str, surroundings: Surroundings) -> None:
        self.bus = bus
        self.lost_signals = 0
        """Since the last time that all had been told."""
        self._surroundings = surroundings
        self._wanted: dict[Match, Rule] = {}
        self._rules = Rules(self._name, surroundings.warn, self._find_owners)
        self._owners: dict[str, str] = {}
        """Well-known name -> unique name, of the senders that jobs name."""
        self._queue: deque[tuple[Environment, int]] = deque()
        self._queued_bytes = 0
        self._is_telling = False
        self._link = Link(
            self._name, self._address, self, warn=surroundings.warn, watches=surroundings.watches
        )

    @property
    def _name(self) -> str:
        return f"the {self.bus} bus" if self.bus in (SYSTEM, SESSION) else self.bus

    def _address(self) -> str | None:
        return address_of(self.bus, self._surroundings.variables())

    def listen(self, wanted: dict[Match, Rule]) -> None:
        """Have the signals of these operands."""
        self._wanted = wanted
        self._rules.wanted = dbus_event.bounded(wanted.values()) | set(
            map(_of_owner, self._names())
        )
        self._link.look()
        if self._link.bus is not None:
            self._rules.follow(self._link.bus)

    def close(self) -> None:
        """Hear nothing any more."""
        self._rules.close()
        self._link.close()
        self._queue.clear()

    # What the link tells.

    async def established(self, bus: MessageBus) -> None:
        """Set the rules of now on a new connection."""
        self._owners = {}
        await self._rules.begin(bus)

    def lost(self) -> None:
        """The rules were the connection's."""
        self._rules.close()

    def received(self, message: Message) -> bool | None:
        """Queue a signal; the only messages that come otherwise are the bus's own answers."""
        if message.message_type is not MessageType.SIGNAL:
            return None
        if message.interface and message.interface.startswith(UPSTART):
            return True
        variables = self._variables(message)
        if message.sender == DRIVER:
            self._heed(message)
            if not any(dbus_event.listens_to(each, variables) for each in self._wanted):
                # Told to every connection, or asked for to know who owns a name.
                return True
        self._enqueue(variables)
        return True

    def _heed(self, message: Message) -> None:
        if message.member == "NameOwnerChanged" and len(message.body) == 3:
            name, _, new = message.body
            if name in self._names():
                self._owners[name] = new

    def _variables(self, message: Message) -> Environment:
        sender = message.sender or ""
        known = next((name for name, owner in self._owners.items() if owner == sender), sender)
        return variables_of(self.bus, message, known)

    # From the queue to the engine.

    def _enqueue(self, variables: Environment) -> None:
        size = sum(len(key) + len(value) for key, value in variables)
        if size > MAX_TEXT_BYTES:
            self._surroundings.warn(
                f"{self._name}: a signal {dict(variables)['SIGNAL']} of {size} bytes is no event,"
                f" which has {MAX_TEXT_BYTES} at most"
            )
            return
        if len(self._queue) >= MAX_QUEUED or self._queued_bytes + size > MAX_QUEUED_BYTES:
            self.lost_signals += 1
            return
        self._queue.append((variables, size))
        self._queued_bytes += size
        self._tell_soon()

    def _tell_soon(self) -> None:
        if not self._is_telling:
            self._is_telling = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._is_telling = False
        for _ in range(min(AT_ONCE, len(self._queue))):
            variables, size = self._queue.popleft()
            self._queued_bytes -= size
            self._surroundings.tell(Emit(name=EVENT, environment=variables))
        if self._queue:
            self._tell_soon()
        elif self.lost_signals:
            lost, self.lost_signals = self.lost_signals, 0
            self._surroundings.warn(f"{self._name}: {lost} signals came too fast and are lost")

    # The owners of names.

    async def _find_owners(self, bus: MessageBus) -> None:
        names = self._names()
        for name in names - self._owners.keys():
            self._owners[name] = await _owner(bus, name)
        self._owners = {name: self._owners[name] for name in names}

    def _names(self) -> frozenset[str]:
        """The well-known names by which jobs name senders."""
        named = (value for rule in self._wanted.values() for key, value in rule if key == "sender")
        return frozenset(name for name in named if not name.startswith(":") and name != DRIVER)


def variables_of(bus: str, message: Message, sender: str) -> Environment:
    """The variables of a signal's event."""
    types = [each.token for each in message.signature_tree.types]
    return dbus_event.environment(
        bus,
        message.member or "",
        interface=message.interface,
        path=message.path,
        sender=sender or None,
        destination=message.destination,
        arguments=list(zip(types, message.body, strict=True)),
    )


def _of_owner(name: str) -> Rule:
    return frozenset(
        {
            ("sender", DRIVER),
            ("path", DRIVER_PATH),
            ("interface", DRIVER),
            ("member", "NameOwnerChanged"),
            ("arg0", name),
        }
    )


async def _owner(bus: MessageBus, name: str) -> str:
    """The unique name of a name's owner; empty when it has none."""
    try:
        (owner,) = await call(bus, "GetNameOwner", "s", [name])
    except Failed:
        return ""
    return str(owner)
