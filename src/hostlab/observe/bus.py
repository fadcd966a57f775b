"""Asking a message bus: who is there, which objects they have, and what these can do.

To call anything on D-Bus one has to know four things: a name, an object's path, an interface and a
member. Whoever knows one or two of them finds the others here, in what the objects say of
themselves (`org.freedesktop.DBus.Introspectable`).
"""

from __future__ import annotations

import asyncio
import difflib
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from hostlab.errors import Failed, UsageError
from hostlab.init.dbus.library import (
    Interface,
    Message,
    MessageBus,
    MessageType,
    Node,
    Variant,
)
from hostlab.init.dbus.link import GONE, call, connect, disconnect, ended_of
from hostlab.observe.bus_values import argument, arguments

MAX_OBJECTS: Final = 5000
"""Objects of one name that are looked through."""
MAX_CANDIDATES: Final = 10
"""Named when several are meant."""
PROPERTIES: Final = "org.freedesktop.DBus.Properties"
INTROSPECTABLE: Final = "org.freedesktop.DBus.Introspectable"
MONITORING: Final = "org.freedesktop.DBus.Monitoring"
MAX_QUEUED: Final = 10_000
"""Messages that have come and are not shown yet; further ones are lost, and counted."""
STANDARD: Final = frozenset(
    {PROPERTIES, INTROSPECTABLE, "org.freedesktop.DBus.Peer", "org.freedesktop.DBus.ObjectManager"}
)
"""Interfaces that most objects have; a member of theirs is meant only where no other has it."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A name on a bus."""

    name: str
    unique: str = ""
    """The name of the connection that has it; empty: would be started when it is called."""
    pid: int | None = None
    uid: int | None = None
    process: str = ""


@dataclass(frozen=True, slots=True)
class Member:
    """A method or a property, with the four things."""

    name: str
    path: str
    interface: str
    member: str
    signature: str
    """What a method takes, or a property's type."""
    answer: str = ""
    """What a method gives."""

    def __str__(self) -> str:
        return f"{self.name} {self.path} {self.interface}.{self.member}"


@asynccontextmanager
async def opened(address: str) -> AsyncIterator[Buses]:
    """A connection for the length of the block; Failed when there is no bus."""
    try:
        bus = await connect(address)
    except (*GONE, ValueError) as error:
        hint = "a node's bus is a job like any other: see docs/dbus.md"
        raise Failed("no-bus", f"no bus at {address}: {error}", hint=hint) from None
    try:
        yield Buses(bus)
    finally:
        await disconnect(bus)


class Buses:
    """One bus, asked."""

    def __init__(self, bus: MessageBus) -> None:
        self.bus = bus
        self.lost = 0
        """Messages that came faster than they were taken (`listen`)."""

    # Names.

    async def names(self) -> list[Owner]:
        """Everybody, well-known names first; then those who would be started."""
        (running,) = await call(self.bus, "ListNames")
        (activatable,) = await call(self.bus, "ListActivatableNames")
        found = [await self._owner(name) for name in sorted(running, key=_by_kind)]
        return found + [Owner(name) for name in sorted(set(activatable) - set(running))]

    async def _owner(self, name: str) -> Owner:
        try:
            (unique,) = await call(self.bus, "GetNameOwner", "s", [name])
            (pid,) = await call(self.bus, "GetConnectionUnixProcessID", "s", [name])
            (uid,) = await call(self.bus, "GetConnectionUnixUser", "s", [name])
        except Failed:
            # The bus itself, on some; or it has gone meanwhile.
            return Owner(name)
        return Owner(name, unique, pid, uid, _process(pid))

    async def name(self, text: str) -> str:
        """The name that is meant: whole, or its end, or a part of it; UsageError if not one."""
        if text.startswith(":"):
            return text
        (running,) = await call(self.bus, "ListNames")
        (activatable,) = await call(self.bus, "ListActivatableNames")
        names = sorted({name for name in (*running, *activatable) if not name.startswith(":")})
        if text in names:
            return text
        candidates: list[str]
        for candidates in (
            [name for name in names if name.lower().endswith(f".{text.lower()}")],
            [name for name in names if text.lower() in name.lower()],
        ):
            if len(candidates) == 1:
                return candidates[0]
            if candidates:
                raise UsageError(
                    "which-name", f"`{text}` is in: {_some(candidates)}", hint="say more"
                )
        close = difflib.get_close_matches(text, [name.rpartition(".")[2] for name in names], 1)
        hint = f"did you mean {close[0]!r}?" if close else "`hostlab bus names` lists them"
        raise UsageError("no-name", f"no name on the bus has `{text}` in it", hint=hint)

    # Objects.

    async def objects(self, name: str, start: str = "/") -> AsyncIterator[tuple[str, Node]]:
        """Every object below a path, each before those below it; Failed when the first is none."""
        waiting = deque([start])
        for number in range(MAX_OBJECTS):
            if not waiting:
                return
            path = waiting.popleft()
            try:
                tree = await self.introspect(name, path)
            except Failed:
                if number == 0:
                    raise
                # It has gone, or says nothing of itself.
                continue
            yield path, tree
            waiting += [f"{path.rstrip('/')}/{child.name}" for child in tree.nodes if child.name]

    async def introspect(self, name: str, path: str) -> Node:
        """What an object says of itself; Failed when it does not, or not in XML."""
        (text,) = await call(self.bus, "Introspect", to=name, path=path, interface=INTROSPECTABLE)
        try:
            return Node.parse(text, validate_property_names=False)
        except Exception as error:
            raise Failed("introspection", f"{name} {path}: {error}") from None

    async def method(self, name: str, path: str | None, text: str) -> Member:
        """The method that is meant by `[INTERFACE.]MEMBER`."""
        interface, _, member = text.rpartition(".")
        found = [
            Member(name, where, each.name, method.name, method.in_signature, method.out_signature)
            async for where, each in self.interfaces(name, path, interface)
            for method in each.methods
            if method.name == member
        ]
        return _one(found, text, "method")

    async def property(self, name: str, path: str | None, text: str) -> Member:
        """The property that is meant by `[INTERFACE.]PROPERTY`."""
        interface, _, member = text.rpartition(".")
        found = [
            Member(name, where, each.name, each_property.name, each_property.signature)
            async for where, each in self.interfaces(name, path, interface)
            for each_property in each.properties
            if each_property.name == member
        ]
        return _one(found, text, "property")

    async def interfaces(
        self, name: str, path: str | None, interface: str
    ) -> AsyncIterator[tuple[str, Interface]]:
        """Of the named object, or else of all; the named one, or else all."""
        if path is not None:
            for each in (await self.introspect(name, path)).interfaces:
                if interface in ("", each.name):
                    yield path, each
            return
        async for where, tree in self.objects(name):
            for each in tree.interfaces:
                if interface in ("", each.name):
                    yield where, each

    # What can be done.

    async def get(self, member: Member) -> Any:
        """A property's value."""
        (value,) = await self._call_properties(member, "Get", "ss", member.interface, member.member)
        return value

    async def get_all(self, name: str, path: str, interface: str) -> dict[str, Any]:
        """An interface's properties."""
        member = Member(name, path, interface, "", "")
        (values,) = await self._call_properties(member, "GetAll", "s", interface)
        return dict(values)

    async def set(self, member: Member, text: str) -> None:
        """Set a property; SpecError when the text is none of its type."""
        value = Variant(member.signature, argument(member.signature, text))
        words = (member.interface, member.member, value)
        await self._call_properties(member, "Set", "ssv", *words)

    async def _call_properties(
        self, member: Member, method: str, signature: str, *body: Any
    ) -> list[Any]:
        return await call(
            self.bus,
            method,
            signature,
            body,
            to=member.name,
            path=member.path,
            interface=PROPERTIES,
        )

    async def call(self, member: Member, texts: list[str]) -> list[Any]:
        """Call a method; SpecError when an argument is none of its type."""
        body = arguments(member.signature, texts)
        try:
            return await call(
                self.bus,
                member.member,
                member.signature,
                body,
                to=member.name,
                path=member.path,
                interface=member.interface,
            )
        except Failed as error:
            text = f"{member.member}: {error.message}"
            raise Failed(error.code, text, hint=f"the error is {error.code}") from None

    async def listen(self, rule: str | None) -> AsyncIterator[Message]:
        """Messages from now on: the signals of a rule, or, with None, all that anybody sends.

        Failed when the bus does not let one listen to others (root only, on the system's).
        """
        queue: asyncio.Queue[Message | None] = asyncio.Queue()

        def received(message: Message) -> bool | None:
            if message.message_type is not MessageType.SIGNAL and rule is not None:
                return None
            if message.reply_serial in asked:
                # The bus's answer to what is asked here.
                return None
            if queue.qsize() < MAX_QUEUED:
                queue.put_nowait(message)
            else:
                self.lost += 1
            # Nobody answers here for those whose calls are overheard.
            return True

        asked = {self.bus._serial + 1} if rule is None else set()
        self.bus.add_message_handler(received)
        if rule is None:
            await call(self.bus, "BecomeMonitor", "asu", [[], 0], interface=MONITORING)
            asked.clear()
        else:
            await call(self.bus, "AddMatch", "s", [rule])
        ended = asyncio.ensure_future(ended_of(self.bus))
        ended.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while (message := await queue.get()) is not None:
                yield message
        finally:
            ended.cancel()
        raise Failed("bus-gone", "the bus has ended the connection")


def _by_kind(name: str) -> tuple[bool, str]:
    return name.startswith(":"), name


def _process(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read(64).strip()
    except OSError:
        return ""


def _one(found: list[Member], text: str, what: str) -> Member:
    """The one that is meant: an interface of an object's own stands before the standard ones."""
    own = [member for member in found if member.interface not in STANDARD] or found
    if not own:
        raise UsageError(
            f"no-{what}",
            f"nobody there has a {what} `{text}`",
            hint="`hostlab bus tree NAME` lists them",
        )
    paths = {member.path for member in own}
    if len(own) == 1:
        return own[0]
    if len(paths) == 1:
        which = _some(f"{member.interface}.{member.member}" for member in own)
        raise UsageError(
            f"which-{what}", f"`{text}` is in several interfaces: {which}", hint="name one"
        )
    named = [each for each in own if each.path == f"/{each.name.replace('.', '/')}"]
    if len(named) == 1:
        # The object that is called like the name is a service's own, by custom.
        return named[0]
    first = min(own, key=lambda member: len(member.path))
    if all(_is_below(member, first) for member in own if member is not first):
        # The one that the others belong to, and of another kind than they.
        return first
    why = f"{len(paths)} objects have `{text}`: {_some(sorted(paths))}"
    raise UsageError(f"which-{what}", why, hint="name the path")


def _is_below(member: Member, other: Member) -> bool:
    is_below = member.path.startswith(f"{other.path.rstrip('/')}/")
    return is_below and member.interface != other.interface


def _some(texts: Iterable[str]) -> str:
    found = list(texts)
    more = f" and {len(found) - MAX_CANDIDATES} more" if len(found) > MAX_CANDIDATES else ""
    return ", ".join(found[:MAX_CANDIDATES]) + more


def members(tree: Node) -> Iterator[tuple[str, str, str]]:
    """(interface, kind, text) of everything that an object has, the text as one would call it."""
    for interface in tree.interfaces:
        for method in interface.methods:
            text = f"{method.name}({_arguments(method.in_args)})"
            gives = _arguments(method.out_args)
            yield interface.name, "method", f"{text} → {gives}" if gives else text
        for each in interface.properties:
            yield interface.name, "property", f"{each.name} {each.signature} {each.access.value}"
        for signal in interface.signals:
            yield interface.name, "signal", f"{signal.name}({_arguments(signal.args)})"


def _arguments(given: Iterable[Any]) -> str:
    return ", ".join(
        f"{each.signature} {each.name}".strip() if each.name else each.signature for each in given
    )
