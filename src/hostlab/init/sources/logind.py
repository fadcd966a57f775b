"""Logins from logind: its signals, and the properties of the sessions that they name.

What is asked of logind takes time, in which more may happen; so a task does one thing after the
other. When too much waits for it, the list of sessions is asked for anew, which says it all.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from hostlab.errors import Failed
from hostlab.init.dbus.library import Message, MessageBus, MessageType
from hostlab.init.dbus.link import DRIVER, DRIVER_PATH, GONE, Link, call
from hostlab.init.dbus.rules import Rules
from hostlab.init.watches import Watches
from hostlab.jobs.dbus_event import Rule
from hostlab.jobs.login_event import Session

NAME: Final = "org.freedesktop.login1"
PATH: Final = "/org/freedesktop/login1"
MANAGER: Final = f"{NAME}.Manager"
SESSION: Final = f"{NAME}.Session"
PROPERTIES: Final = "org.freedesktop.DBus.Properties"
BUS: Final = "the system bus"
MAX_WAITING: Final = 256
USER_CLASS: Final = "user"
"""How the classes of people's sessions begin; others are greeters, cron's, a user's manager."""
_RULES: Final[frozenset[Rule]] = frozenset(
    {
        frozenset(
            {("sender", NAME), ("interface", MANAGER), ("path", PATH), ("member", "SessionNew")}
        ),
        frozenset(
            {("sender", NAME), ("interface", MANAGER), ("path", PATH), ("member", "SessionRemoved")}
        ),
        frozenset(
            {
                ("sender", DRIVER),
                ("path", DRIVER_PATH),
                ("interface", DRIVER),
                ("member", "NameOwnerChanged"),
                ("arg0", NAME),
            }
        ),
    }
)


class LogindSessions:
    """The sessions that logind tells of, by its names of them."""

    def __init__(
        self,
        address: Callable[[], str | None],
        changed: Callable[[], None],
        warn: Callable[[str], None],
        watches: Watches | None = None,
    ) -> None:
        self.sessions: dict[str, Session] = {}
        self.since: dict[str, float] = {}
        """When each was opened, on the monotonic clock, in seconds."""
        self.is_there: bool | None = None
        """Whether there is a logind; None while no bus has told."""
        self._changed = changed
        self._warn = warn
        self._waiting: deque[tuple[str, str, str]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._rules = Rules(BUS, warn)
        self._rules.wanted = _RULES
        self._link = Link(BUS, address, self, warn=warn, watches=watches)

    def look(self) -> None:
        """The bus may be somewhere else now."""
        self._link.look()

    def close(self) -> None:
        """Hear nothing any more."""
        self.lost()
        self._link.close()

    # What the link tells.

    async def established(self, bus: MessageBus) -> None:
        """Ask for the signals, then for what there is already."""
        await self._rules.begin(bus)
        (has_owner,) = await call(bus, "NameHasOwner", "s", [NAME])
        if has_owner:
            await self._list(bus)
        else:
            self._vanished()

    def lost(self) -> None:
        """What was to be asked is asked anew of the next connection."""
        self._rules.close()
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def received(self, message: Message) -> bool | None:
        """Have a session looked at."""
        if message.message_type is not MessageType.SIGNAL:
            return None
        if message.member == "NameOwnerChanged" and message.sender == DRIVER:
            if message.signature == "sss" and message.body[0] == NAME:
                self._later("list" if message.body[2] else "vanished", "", "")
        elif message.member in ("SessionNew", "SessionRemoved") and message.signature == "so":
            self._later(message.member, *message.body)
        return True

    # One thing after the other.

    def _later(self, what: str, name: str, path: str) -> None:
        self._waiting.append((what, name, path))
        if len(self._waiting) > MAX_WAITING:
            self._waiting.clear()
            self._waiting.append(("list", "", ""))
        if self._task is None and self._link.connection is not None:
            self._task = asyncio.ensure_future(self._work(self._link.connection))

    async def _work(self, bus: MessageBus) -> None:
        try:
            while self._waiting:
                await self._do(bus, *self._waiting.popleft())
        except GONE:
            # The link notices it too.
            return
        finally:
            if self._task is asyncio.current_task():
                self._task = None

    async def _do(self, bus: MessageBus, what: str, name: str, path: str) -> None:
        match what:
            case "SessionNew":
                await self._add(bus, name, path)
            case "SessionRemoved":
                self.sessions.pop(name, None)
                self.since.pop(name, None)
            case "list":
                await self._list(bus)
                return
            case _:
                self._vanished()
                return
        self._changed()

    def _vanished(self) -> None:
        self.is_there = False
        self._changed()

    async def _list(self, bus: MessageBus) -> None:
        try:
            (rows,) = await call(bus, "ListSessions", to=NAME, path=PATH, interface=MANAGER)
        except Failed as error:
            self._warn(f"logind: {error.message}")
            return
        found = {row[0]: row[4] for row in rows}
        for name in self.sessions.keys() - found.keys():
            del self.sessions[name]
            self.since.pop(name, None)
        for name, path in found.items():
            if name not in self.sessions:
                await self._add(bus, name, path)
        self.is_there = True
        self._changed()

    async def _add(self, bus: MessageBus, name: str, path: str) -> None:
        try:
            (values,) = await call(
                bus, "GetAll", "s", [SESSION], to=NAME, path=path, interface=PROPERTIES
            )
        except Failed:
            # It has ended already: that is told too, and nobody has heard of it.
            return
        plain = {key: each.value for key, each in values.items()}
        if str(plain.get("Class", USER_CLASS)).startswith(USER_CLASS):
            self.sessions[name] = session_of(name, plain)
            self.since[name] = int(plain.get("TimestampMonotonic") or 0) / 1e6


def session_of(name: str, values: Mapping[str, Any]) -> Session:
    """A session as its properties say (org.freedesktop.login1(5))."""

    def text(key: str) -> str:
        return str(values.get(key) or "")

    user = values.get("User") or (None,)
    return Session(
        session=name,
        user=text("Name"),
        uid="" if user[0] is None else str(user[0]),
        type=text("Type"),
        service=text("Service"),
        remote=bool(values.get("Remote")),
        host=text("RemoteHost"),
        tty=text("TTY"),
        display=text("Display"),
    )
