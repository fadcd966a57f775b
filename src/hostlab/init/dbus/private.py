"""Upstart's private socket: D-Bus without a bus, for who must reach init when no bus runs.

Its address is `unix:abstract=/com/ubuntu/upstart`, so each network namespace has its own. Only root
and the init's own user get in, and may do everything; signals go to all who are connected. The
handshake is the server's side of the D-Bus Specification's "Authentication Protocol", of which
EXTERNAL is enough: the kernel says who the peer is.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import socket
from collections import deque
from collections.abc import Callable
from typing import Final

from hostlab.init.dbus.calls import Calls, close_fds
from hostlab.init.dbus.library import Message, MessageType, build_message_reader
from hostlab.init.protocol import peer_uid

NAME: Final = "/com/ubuntu/upstart"
KEPT: Final = "upstart-socket"
"""What the holder calls the listening socket."""
MAX_CLIENTS: Final = 256
MAX_UNSENT_BYTES: Final = 16 << 20
"""A client that does not read is cut off above this."""
MAX_LINE_BYTES: Final = 4096
BACKLOG: Final = 128
_EXTERNAL: Final = re.compile(rb"AUTH EXTERNAL( [0-9a-fA-F]*)?\Z")


class PrivateServer:
    """The socket and its clients."""

    def __init__(
        self,
        calls: Calls,
        listening: socket.socket,
        warn: Callable[[str], None],
    ) -> None:
        listening.settimeout(0)
        self._calls = calls
        self._listening = listening
        self._warn = warn
        self._clients: set[Client] = set()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(listening, self._accept)

    def send(self, message: Message) -> None:
        """Send a signal to every client."""
        for client in tuple(self._clients):
            if client.is_speaking:
                client.send(message)

    def close(self) -> None:
        """Hang up on everybody."""
        self._loop.remove_reader(self._listening)
        self._listening.close()
        for client in tuple(self._clients):
            client.close()

    def _accept(self) -> None:
        try:
            sock, _ = self._listening.accept()
        except (BlockingIOError, ConnectionAbortedError, InterruptedError):
            return
        except OSError as error:
            # Who waits there would wake us without end.
            self._loop.remove_reader(self._listening)
            self._warn(f"{NAME} is closed: {error.strerror}")
            return
        uid = peer_uid(sock)
        if uid not in (0, os.getuid()) or len(self._clients) >= MAX_CLIENTS:
            sock.close()
            return
        client = Client(sock, self._received, self._clients.discard)
        self._clients.add(client)

    def _received(self, client: Client, message: Message) -> None:
        if message.message_type is not MessageType.METHOD_CALL:
            close_fds(message)
            return
        self._calls.serve(message, may_change=_anything, send=client.send)


class Client:
    """One connection: first lines, then messages."""

    def __init__(
        self,
        sock: socket.socket,
        received: Callable[[Client, Message], None],
        closed: Callable[[Client], None],
    ) -> None:
        sock.settimeout(0)
        self.is_speaking = False
        """Whether the handshake is over."""
        self._socket = sock
        self._received = received
        self._closed = closed
        self._is_known = False
        self._serial = 0
        self._unsent: deque[memoryview] = deque()
        self._unsent_bytes = 0
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._shake_hands)

    def send(self, message: Message) -> None:
        """Queue a message; a client that takes none is cut off in the end."""
        if self._socket.fileno() < 0:
            return
        self._serial += 1
        message.serial = self._serial
        self._write(bytes(message._marshall(False)))  # noqa: FBT003  (of the library)

    def close(self) -> None:
        """Hang up."""
        if self._socket.fileno() < 0:
            return
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        self._unsent.clear()
        self._closed(self)

    def _write(self, data: bytes) -> None:
        self._unsent.append(memoryview(data))
        self._unsent_bytes += len(data)
        if self._unsent_bytes > MAX_UNSENT_BYTES:
            self.close()
        elif len(self._unsent) == 1:
            self._writable()

    def _writable(self) -> None:
        try:
            while self._unsent:
                sent = self._socket.send(self._unsent[0])
                self._unsent_bytes -= sent
                self._unsent[0] = self._unsent[0][sent:]
                if not self._unsent[0]:
                    self._unsent.popleft()
        except BlockingIOError:
            self._loop.add_writer(self._socket, self._writable)
            return
        except OSError:
            self.close()
            return
        self._loop.remove_writer(self._socket)

    # The handshake.

    def _shake_hands(self) -> None:
        """Take one line: what is behind BEGIN is for the reader of messages."""
        try:
            data = self._socket.recv(MAX_LINE_BYTES, socket.MSG_PEEK)
            end = data.find(b"\r\n")
            if not data or (end < 0 and len(data) >= MAX_LINE_BYTES):
                self.close()
                return
            if end < 0 and data.startswith(b"\0"):
                # Sent by itself, usually; its credentials are not needed.
                self._socket.recv(1)
                return
            if end >= 0:
                self._socket.recv(end + 2)
                self._take_line(data[:end].removeprefix(b"\0"))
        except BlockingIOError:
            return
        except OSError:
            self.close()

    def _take_line(self, line: bytes) -> None:
        if line == b"BEGIN" and self._is_known:
            self._begin()
        elif _EXTERNAL.match(line):
            # Whom the kernel named has been let in already, whatever is said here.
            self._is_known = True
            self._write(f"OK {secrets.token_hex(16)}\r\n".encode())
        elif line == b"NEGOTIATE_UNIX_FD" and self._is_known:
            self._write(b"AGREE_UNIX_FD\r\n")
        elif line.startswith((b"AUTH", b"CANCEL", b"ERROR")):
            self._is_known = False
            self._write(b"REJECTED EXTERNAL\r\n")
        else:
            self._write(b"ERROR\r\n")

    def _begin(self) -> None:
        self.is_speaking = True
        self._loop.remove_reader(self._socket)
        reader = build_message_reader(self._socket, self._take, self._ended, True)  # noqa: FBT003
        self._loop.add_reader(self._socket, reader)

    def _take(self, message: Message) -> None:
        self._received(self, message)

    def _ended(self, _: Exception | None) -> None:
        self.close()


async def _anything() -> bool:
    return True


def listen() -> socket.socket:
    """The listening socket; OSError when another has the address in this network namespace."""
    with contextlib.ExitStack() as stack:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        stack.callback(sock.close)
        sock.bind(f"\0{NAME}")
        sock.listen(BACKLOG)
        stack.pop_all()
    return sock
