"""A name on the system bus that is awaited (`Type=dbus`): asked once, then told by the bus.

This is all of D-Bus that readiness needs: a `Hello`, a match rule for NameOwnerChanged, and
NameHasOwner for the names that may be there already (D-Bus Specification, "Message Protocol"). So
no library is loaded into a supervisor for it. One connection serves all names that are awaited.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Final

from hostlab.errors import DecodeError

SYSTEM_BUS: Final = "/run/dbus/system_bus_socket"
MAX_BYTES: Final = 1 << 20
"""Of one message, and of what is not yet read as one."""
READ_BYTES: Final = 65536
_METHOD_CALL, _METHOD_RETURN, _SIGNAL = 1, 2, 4
_PATH, _INTERFACE, _MEMBER, _REPLY_SERIAL, _DESTINATION, _SIGNATURE = 1, 2, 3, 5, 6, 8
_BUS: Final = "org.freedesktop.DBus"
_RULE: Final = (
    f"type='signal',sender='{_BUS}',interface='{_BUS}',member='NameOwnerChanged',arg0='%s'"
)


class BusNames:
    """The names that are awaited."""

    def __init__(self, *, warn: Callable[[str], None], path: str = SYSTEM_BUS) -> None:
        self._warn = warn
        self._path = path
        self._awaited: dict[int, tuple[str, Callable[[], None]]] = {}
        self._socket: socket.socket | None = None
        self._is_begun = False
        self._buffer = b""
        self._serial = 0
        self._asked: dict[int, str] = {}

    def wait(self, spawn: int, name: str, appeared: Callable[[], None]) -> None:
        """Call `appeared` once when somebody has the name on the bus.

        Without a bus nobody ever will, and who counts on the name has an error of its own: so it
        is called at once, with a warning.
        """
        self._awaited[spawn] = (name, appeared)
        if self._socket is None and not self._connect():
            self.forget(spawn)
            appeared()
        elif self._is_begun:
            self._ask(name)

    def forget(self, spawn: int) -> None:
        """Wait no longer for a spawn's name."""
        self._awaited.pop(spawn, None)
        if not self._awaited:
            self._hang_up()

    def _connect(self) -> bool:
        found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            found.settimeout(0)
            found.connect(self._path)
            uid = str(os.geteuid()).encode().hex()
            found.send(f"\0AUTH EXTERNAL {uid}\r\n".encode())
        except OSError as error:
            found.close()
            self._warn(f"no name on the system bus can be awaited: {self._path}: {error.strerror}")
            return False
        self._socket, self._buffer, self._is_begun = found, b"", False
        asyncio.get_running_loop().add_reader(found, self._readable)
        return True

    def _hang_up(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        self._asked.clear()

    def _readable(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._give_up("it has hung up")
            return
        self._buffer += data
        try:
            if not self._is_begun:
                self._begin()
            for message in self._messages():
                self._hear(message)
        except (DecodeError, OSError, struct.error, UnicodeDecodeError) as error:
            self._give_up(str(error))

    def _give_up(self, why: str) -> None:
        """Who waits goes on to do so, until the deadline: the bus may come back too late."""
        names = ", ".join(sorted({name for name, _ in self._awaited.values()}))
        self._warn(f"the system bus tells no longer who has {names}: {why}")
        self._hang_up()

    def _begin(self) -> None:
        line, end, rest = self._buffer.partition(b"\r\n")
        if not end:
            return
        if not line.startswith(b"OK"):
            raise DecodeError("bus", f"it refuses: {line[:80]!r}")
        assert self._socket is not None
        self._buffer, self._is_begun = rest, True
        self._socket.send(b"BEGIN\r\n")
        self._call("Hello")
        for name in dict.fromkeys(name for name, _ in self._awaited.values()):
            self._ask(name)

    def _ask(self, name: str) -> None:
        self._call("AddMatch", _RULE % name)
        self._asked[self._call("NameHasOwner", name)] = name

    def _call(self, member: str, *words: str) -> int:
        assert self._socket is not None
        self._serial += 1
        self._socket.send(method_call(self._serial, member, *words))
        return self._serial

    def _messages(self) -> Iterator[tuple[int, dict[int, str | int], bytes]]:
        while self._is_begun and (found := parse(self._buffer)) is not None:
            size, kind, fields, body = found
            self._buffer = self._buffer[size:]
            yield kind, fields, body

    def _hear(self, message: tuple[int, dict[int, str | int], bytes]) -> None:
        kind, fields, body = message
        if kind == _METHOD_RETURN:
            name = self._asked.pop(int(fields.get(_REPLY_SERIAL, 0)), None)
            if name is not None and body[:4] != bytes(4):
                self._appeared(name)
        elif kind == _SIGNAL and fields.get(_MEMBER) == "NameOwnerChanged":
            name, _, owner = strings(body, 3)
            if owner:
                self._appeared(name)

    def _appeared(self, name: str) -> None:
        for spawn, (awaited, appeared) in tuple(self._awaited.items()):
            if awaited == name and spawn in self._awaited:
                self.forget(spawn)
                appeared()


def method_call(serial: int, member: str, *words: str) -> bytes:
    """A call of the bus's own object, with strings."""
    body = b"".join(_padded(_string(word), 4) for word in words[:-1])
    body += _string(words[-1]) if words else b""
    fields = [
        (_PATH, b"o", "/org/freedesktop/DBus"),
        (_INTERFACE, b"s", _BUS),
        (_MEMBER, b"s", member),
        (_DESTINATION, b"s", _BUS),
    ]
    array = b""
    for code, kind, value in fields:
        array = _padded(array, 8) + bytes((code, 1)) + kind + b"\0" + _string(value)
    if words:
        kinds = b"s" * len(words)
        array = _padded(array, 8) + bytes((_SIGNATURE, 1)) + b"g\0" + bytes((len(kinds),))
        array += kinds + b"\0"
    head = struct.pack("<cBBBIII", b"l", _METHOD_CALL, 0, 1, len(body), serial, len(array))
    return _padded(head + array, 8) + body


def parse(data: bytes) -> tuple[int, int, dict[int, str | int], bytes] | None:
    """The first message: its size, kind, header fields and body; None when it is not all there.

    DecodeError for what is none.
    """
    if len(data) < 16:
        return None
    order = {b"l": "<", b"B": ">"}.get(data[:1])
    if order is None:
        raise DecodeError("bus", f"no message: {data[:8]!r}")
    kind = data[1]
    body_size, _, fields_size = struct.unpack_from(f"{order}III", data, 4)
    start = 16 + fields_size + -fields_size % 8
    if start + body_size > MAX_BYTES:
        raise DecodeError("bus", f"a message of {start + body_size} bytes")
    if len(data) < start + body_size:
        return None
    fields = _fields(data[: 16 + fields_size], order)
    return start + body_size, kind, fields, data[start : start + body_size]


def _fields(data: bytes, order: str) -> dict[int, str | int]:
    """Header fields whose values are one string or number; all that the bus has are."""
    found: dict[int, str | int] = {}
    at = 16
    while at + 4 < len(data):
        at += -at % 8
        code, length = data[at], data[at + 1]
        kind = data[at + 2 : at + 2 + length]
        at += 3 + length
        if kind == b"g":
            found[code] = data[at + 1 : at + 1 + data[at]].decode()
            at += data[at] + 2
            continue
        at += -at % 4
        (number,) = struct.unpack_from(f"{order}I", data, at)
        at += 4
        if kind == b"u":
            found[code] = number
        elif kind in (b"s", b"o"):
            found[code] = data[at : at + number].decode()
            at += number + 1
        else:
            raise DecodeError("bus", f"a header field of type {kind!r}")
    return found


def strings(body: bytes, count: int) -> tuple[str, ...]:
    """The strings that a body in the machine's usual order begins with."""
    found = []
    at = 0
    for _ in range(count):
        at += -at % 4
        (length,) = struct.unpack_from("<I", body, at)
        found.append(body[at + 4 : at + 4 + length].decode())
        at += 5 + length
    return tuple(found)


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<I", len(data)) + data + b"\0"


def _padded(data: bytes, size: int) -> bytes:
    return data + bytes(-len(data) % size)
