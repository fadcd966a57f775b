"""Listening to UDisks2 on a bus, without ever starting it.

The match rules are set on the bus, so nothing else wakes the listener. What UDisks2 has is asked
when it is there, and again when another owner has its name: between two owners nothing is told to
be gone, for a daemon that is started anew has no less plugged in than the one before.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from hostlab.errors import Failed, Problem
from hostlab.init.dbus.library import Message, MessageBus, MessageType
from hostlab.init.dbus.link import DRIVER, GONE, call, connect
from hostlab.init.devices.storage import Storage
from hostlab.init.devices.udisks2 import NAME, ROOT

OBJECT_MANAGER: Final = "org.freedesktop.DBus.ObjectManager"
PROPERTIES: Final = "org.freedesktop.DBus.Properties"
RULES: Final = (
    f"type='signal',sender='{NAME}',interface='{OBJECT_MANAGER}',path='{ROOT}'",
    f"type='signal',sender='{NAME}',interface='{PROPERTIES}',member='PropertiesChanged',"
    f"path_namespace='{ROOT}/block_devices'",
    f"type='signal',sender='{DRIVER}',member='NameOwnerChanged',arg0='{NAME}'",
)
ANSWERS_WITHIN_S: Final = 25.0
"""As long as D-Bus libraries wait."""
OWNER_GONE: Final = frozenset(
    f"org.freedesktop.DBus.Error.{name}" for name in ("NoReply", "ServiceUnknown", "NameHasNoOwner")
)
"""How a bus answers for one that has left it meanwhile."""
MAX_PENDING: Final = 10_000
"""Signals that come while everything is being asked; beyond, it is asked again."""


class Udisks2Client:
    """Keeps a `Storage` as UDisks2 tells it; `changed` is called after each change of it."""

    def __init__(self, changed: Callable[[], None], warn: Callable[[str], None]) -> None:
        self.storage = Storage()
        self.is_there = False
        """Whether UDisks2 has answered on this connection."""
        self._changed = changed
        self._warn = warn
        self._pending: list[Message] | None = None
        self._asking: asyncio.Task[None] | None = None

    async def established(self, bus: MessageBus) -> None:
        """Set the rules on a new connection, and ask for what there is."""
        self.is_there = False
        self._bus = bus
        # With the first rule signals come, of half a stick as well: nothing is told before all
        # has been asked for.
        self._pending = []
        for rule in RULES:
            await call(bus, "AddMatch", "s", [rule])
        await self._ask(bus)

    def lost(self) -> None:
        """The connection has ended."""
        self.close()

    def close(self) -> None:
        """Ask nothing any more."""
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None
        self._pending = None

    def received(self, message: Message) -> bool | None:
        """Take a signal; None for what is no matter of this client."""
        if message.message_type is not MessageType.SIGNAL:
            return None
        if message.interface == DRIVER and message.member == "NameOwnerChanged":
            if len(message.body) == 3 and message.body[0] == NAME and message.body[2]:
                self._ask_soon()
            return True
        if message.interface not in (OBJECT_MANAGER, PROPERTIES):
            return None
        if self._pending is not None:
            if len(self._pending) < MAX_PENDING:
                self._pending.append(message)
            else:
                self._ask_soon()
        elif self._take(message):
            self._changed()
        return True

    def _take(self, message: Message) -> bool:
        """Put a signal into the storage; False for one that says nothing."""
        body = _plain(message.body)
        try:
            match message.member:
                case "InterfacesAdded":
                    self.storage.added(body[0], body[1])
                case "InterfacesRemoved":
                    self.storage.removed(body[0], body[1])
                case "PropertiesChanged":
                    self.storage.changed(message.path or "", body[0], body[1])
                case _:
                    return False
        except (IndexError, TypeError, AttributeError, ValueError) as error:
            self._warn(f"UDisks2: a signal {message.member} that means nothing: {error}")
            return False
        return True

    def _ask_soon(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
        self._pending = []
        self._asking = asyncio.ensure_future(self._ask_again())

    async def _ask_again(self) -> None:
        try:
            await self._ask(self._bus)
        except (*GONE, Failed):
            # The link notices the end of a connection, too.
            return
        finally:
            if self._asking is asyncio.current_task():
                self._asking = None

    async def _ask(self, bus: MessageBus) -> None:
        """Ask for everything; what is told meanwhile is put in afterwards, in its order."""
        held: list[Message] = []
        self._pending = held
        try:
            await call(bus, "GetNameOwner", "s", [NAME])
        except Failed:
            # Nobody has the name: it is told when somebody has.
            if self._pending is held:
                self._pending = None
            return
        try:
            async with asyncio.timeout(ANSWERS_WITHIN_S):
                (objects,) = await call(
                    bus, "GetManagedObjects", to=NAME, path=ROOT, interface=OBJECT_MANAGER
                )
        except (Failed, TimeoutError) as error:
            if isinstance(error, Failed) and error.code in OWNER_GONE:
                # Between two owners nothing has gone; the next one is told of, and asked.
                if self._pending is held:
                    self._pending = None
                return
            self._warn(f"UDisks2 does not say what there is: {str(error) or 'no answer'}")
            objects = {}
        if self._pending is not held:
            # It is being asked anew, or not at all any more.
            return
        self.is_there = True
        self.storage.replace(_plain(objects))
        self._pending = None
        for message in held:
            self._take(message)
        self._changed()


async def ask_once(address: str) -> Storage:
    """What UDisks2 on a bus has now; Failed when there is no such bus, or nobody answers."""
    try:
        bus = await connect(address)
    except (*GONE, Problem) as error:
        raise Failed("bus", f"no bus: {getattr(error, 'strerror', None) or error}") from None
    found = Storage()
    try:
        await call(bus, "GetNameOwner", "s", [NAME])
        async with asyncio.timeout(ANSWERS_WITHIN_S):
            (objects,) = await call(
                bus, "GetManagedObjects", to=NAME, path=ROOT, interface=OBJECT_MANAGER
            )
        found.replace(_plain(objects))
    except TimeoutError:
        raise Failed("udisks2", f"{NAME} does not answer") from None
    finally:
        bus.disconnect()
        with contextlib.suppress(*GONE):
            ended: Callable[[], Awaitable[None]] = bus.wait_for_disconnect
            await ended()
    return found


def _plain(value: Any) -> Any:
    """A value without signatures, all the way down."""
    if hasattr(value, "signature") and hasattr(value, "value"):
        return _plain(value.value)
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value
