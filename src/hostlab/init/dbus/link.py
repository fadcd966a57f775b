"""A connection to a bus, made whenever the bus is there, and made anew when it was lost.

Who uses it is told of each new connection (`established`) and of its end (`lost`). Between the two
nothing is remembered by the bus: names and match rules belong to the connection, and signals that
are sent meanwhile are gone.

It sleeps until the kernel tells that something has happened where the bus's socket is to be. One
that listens without any sign of it is found by one further look, `LATE_LOOK_S` after a refusal.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

from hostlab.errors import Failed
from hostlab.init.dbus.library import (
    AuthError,
    InvalidAddressError,
    Message,
    MessageBus,
    MessageType,
    SignatureTree,
)
from hostlab.init.dbus.places import SocketWatch, paths_of
from hostlab.init.watches import Watches

LATE_LOOK_S: Final = 0.5
SHORT_LIFE_S: Final = 1.0
"""A connection that has lived less is followed by a pause, for something is wrong."""
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 30.0
MAX_UNSENT: Final = 10_000
"""Messages that the bus has not taken; what a slow bus would be told beyond is dropped."""
MAX_SIGNATURE_BYTES: Final = 255
DRIVER: Final = "org.freedesktop.DBus"
DRIVER_PATH: Final = "/org/freedesktop/DBus"
GONE: Final = (OSError, EOFError, AuthError)
"""How the end of a connection shows."""

NO_MESSAGE: Final = "it sent what is no message"

_BROKEN: Final = (EOFError, ConnectionResetError, BrokenPipeError, AuthError)
"""How it shows that somebody listens and does not, or not yet, do what a bus does."""


class User(Protocol):
    """Who uses a connection."""

    async def established(self, bus: MessageBus) -> None:
        """There is a new connection; nothing is set on it yet."""

    def received(self, message: Message) -> Message | bool | None:
        """A message has come; True when it needs no answer, None when it is somebody else's."""

    def lost(self) -> None:
        """The connection has ended."""


class Link:
    """The connection to one bus."""

    def __init__(
        self,
        name: str,
        address: Callable[[], str | None],
        user: User,
        *,
        warn: Callable[[str], None],
        watches: Watches | None = None,
        passes_fds: bool = False,
    ) -> None:
        """`name` is for people; `address` is asked before each attempt, None is not known yet.

        `watches` are init's; a link has its own where there are none.
        """
        self.name = name
        self.bus: MessageBus | None = None
        """The connection, while there is one that has been set up."""
        self.connection: MessageBus | None = None
        """The connection, also while it is being set up."""
        self.dropped = 0
        """Messages that a bus too slow for them was not sent."""
        self._address = address
        self._user = user
        self._warn = warn
        self._watches = watches or Watches(warn)
        self._passes_fds = passes_fds
        self._awake = asyncio.Event()
        self._is_asked = False
        self._connected_to = ""
        self._unsent = 0
        self._told: set[str] = set()
        self._task = asyncio.ensure_future(self._run())
        self._task.add_done_callback(_tell_defect)

    def look(self) -> None:
        """The address may be another now, or the bus may be there without a sign."""
        if self.bus is not None:
            if self._address() not in (None, self._connected_to):
                self.bus.disconnect()
            return
        self._is_asked = True
        self._awake.set()

    def close(self) -> None:
        """Disconnect."""
        self._task.cancel()

    def send(self, message: Message) -> None:
        """Send a message that needs no answer; dropped while there is no connection."""
        if self.connection is None or not self.connection.connected:
            return
        if self._unsent >= MAX_UNSENT:
            self.dropped += 1
            if self.dropped == 1:
                self._warn(f"{self.name}: it takes no more; what it is told is dropped")
            return
        try:
            sent = self.connection.send(message)
        except GONE:
            # It writes at once, perhaps into a socket that is closed and not yet known to be:
            # `_run` tells of that, and who has something to announce is not to hear of it.
            return
        self._unsent += 1
        sent.add_done_callback(self._sent)

    def _sent(self, _: asyncio.Future[Any]) -> None:
        self._unsent -= 1

    async def _run(self) -> None:
        pause_s = 0.0
        loop = asyncio.get_running_loop()
        while True:
            bus = await self._connected()
            since = loop.time()
            try:
                await self._use(bus)
            finally:
                self.bus = self.connection = None
                self._user.lost()
                await disconnect(bus)
            if loop.time() - since < SHORT_LIFE_S:
                pause_s = min(max(2 * pause_s, FIRST_PAUSE_S), LONGEST_PAUSE_S)
                await asyncio.sleep(pause_s)
            else:
                pause_s = 0.0

    async def _use(self, bus: MessageBus) -> None:
        """Until the connection ends."""
        self.connection = bus
        bus.add_message_handler(self._user.received)
        self._told.clear()
        try:
            await self._user.established(bus)
            self.bus = bus
            await ended_of(bus)
            why = "the connection has ended"
        except GONE as error:
            why = "the connection has ended" if _is_end(error) else str(error)
        except Failed as error:
            why = error.message
        except Exception as error:
            # What the library could not make sense of: bytes that are no messages, mostly.
            why = f"{NO_MESSAGE}: {error!r:.200}"
        self._warn(f"{self.name}: {why}")

    async def _connected(self) -> MessageBus:
        while True:
            self._is_asked = False
            self._awake.clear()
            address = self._address()
            if address is None:
                await self._awake.wait()
            elif (bus := await self._connect(address)) is not None:
                return bus

    async def _connect(self, address: str) -> MessageBus | None:
        """A connection; None when the address is not this one any more."""
        with contextlib.ExitStack() as stack:
            watch = self._watch(address)
            if watch is not None:
                stack.callback(watch.close)
            late_look_of: object = None
            pause_s = 0.0
            while True:
                state = () if watch is None else watch.state()
                error = await self._attempt(address)
                if isinstance(error, MessageBus):
                    self._connected_to = address
                    return error
                within_s: float | None = None
                if isinstance(error, ConnectionRefusedError) and late_look_of != state:
                    late_look_of, within_s = state, LATE_LOOK_S
                elif isinstance(error, _BROKEN):
                    # Somebody listens there: a sign of him may never come again.
                    pause_s = within_s = min(max(2 * pause_s, FIRST_PAUSE_S), LONGEST_PAUSE_S)
                if not await self._wait(watch, state, within_s):
                    return None

    async def _wait(self, watch: SocketWatch | None, state: object, within_s: float | None) -> bool:
        """Until it is worth another attempt; False when somebody else has asked for it."""
        try:
            async with asyncio.timeout(within_s):
                while True:
                    await self._awake.wait()
                    self._awake.clear()
                    if self._is_asked:
                        return False
                    if watch is not None and watch.state() != state:
                        return True
        except TimeoutError:
            return True

    def _watch(self, address: str) -> SocketWatch | None:
        paths = paths_of(address)
        return SocketWatch(paths, self._awake.set, self._watches) if paths else None

    async def _attempt(self, address: str) -> MessageBus | Exception:
        """A connection, or why not."""
        try:
            return await connect(address, passes_fds=self._passes_fds)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            if not paths_of(address):
                self._say(f"nobody listens at {address}, where nothing tells of one who will")
            return error
        except (OSError, EOFError, AuthError, InvalidAddressError) as error:
            self._say(f"{address}: {error or type(error).__name__}")
            return error
        except Exception as error:
            self._say(f"{address}: {NO_MESSAGE}: {error!r:.200}")
            return EOFError()

    def _say(self, text: str) -> None:
        """Once until there is a connection."""
        if text not in self._told:
            self._told.add(text)
            self._warn(f"{self.name}: {text}")


async def disconnect(bus: MessageBus) -> None:
    """End a connection, if it has not ended, and have its socket closed."""
    bus.disconnect()
    with contextlib.suppress(Exception):
        # Why it had ended is told already.
        await ended_of(bus)


async def ended_of(bus: MessageBus) -> None:
    """Until a connection has ended; raises why."""
    ended: Awaitable[None] = bus.wait_for_disconnect()  # type: ignore[no-untyped-call]  # dbus-fast does not type it
    await ended


def _tell_defect(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        text = {"message": "a connection to a bus failed", "exception": error, "task": task}
        asyncio.get_running_loop().call_exception_handler(text)


def _is_end(error: BaseException) -> bool:
    return isinstance(error, EOFError | ConnectionResetError | BrokenPipeError)


class _Connection(MessageBus):
    """One whose messages need nobody to ask whether they were sent."""

    def send(self, msg: Message) -> asyncio.Future[Any]:  # type: ignore[override]  # it returns None or a future there
        sent = super().send(msg)
        sent.add_done_callback(_ask)
        return sent


def _ask(done: asyncio.Future[Any]) -> None:
    # That a connection is gone shows in `_run`, and to whoever waits for an answer.
    if not done.cancelled():
        done.exception()


class _Patient:
    """A socket of which a full buffer is no error: nothing has been sent then.

    dbus-fast 5.2 takes EAGAIN at a message's beginning for the connection's end, but waits until it
    can send more when only a part of a message was taken.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def send(self, data: memoryview) -> int:
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0

    def sendmsg(self, data: Sequence[memoryview], ancillary: Any) -> int:
        # Descriptors go with the first byte, and are not offered again.
        return self._sock.sendmsg(data, ancillary)


async def connect(address: str, *, passes_fds: bool = False) -> MessageBus:
    """A connection that has said Hello; raises what is in `GONE`, or InvalidAddressError."""
    bus = _Connection(bus_address=address, negotiate_unix_fd=passes_fds)
    try:
        await bus.connect()
    finally:
        ended = bus._disconnect_future
        if ended.done() and not ended.cancelled():
            # It is told already by what was raised, and nobody else asks for it.
            ended.exception()
    writer: Any = bus._writer
    writer.sock = _Patient(writer.sock)
    return bus


async def call(
    bus: MessageBus,
    member: str,
    signature: str = "",
    body: Sequence[Any] = (),
    *,
    to: str = DRIVER,
    path: str = DRIVER_PATH,
    interface: str | None = DRIVER,
) -> list[Any]:
    """Call a method, of the bus itself if nothing else is said; what it returns.

    Failed, with the error's name as its code, when it answers with an error; ConnectionError when
    the connection ends before it has answered.
    """
    if not bus.connected:
        # Of one that has ended already nobody would tell.
        raise ConnectionResetError("the connection to the bus has ended")
    message = Message(
        destination=to,
        path=path,
        interface=interface,
        member=member,
        signature=signature,
        body=list(body),
    )
    reply = await bus.call(message)
    if reply is None:
        raise ConnectionResetError("the connection to the bus has ended")
    if reply.message_type is MessageType.ERROR:
        text = str(reply.body[0]) if reply.body else str(reply.error_name)
        raise Failed(str(reply.error_name), text)
    return list(reply.body)


def signature_types(signature: str) -> list[str]:
    """The complete types of a signature; ValueError when it is none (at most 255 bytes)."""
    if len(signature) > MAX_SIGNATURE_BYTES:
        raise ValueError(f"it is longer than {MAX_SIGNATURE_BYTES} bytes")
    return [each.signature for each in SignatureTree(signature).types]
