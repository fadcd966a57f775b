"""One client of an init: lines in, lines out, descriptors with them, on asyncio's loop.

asyncio's streams cannot carry descriptors, so the socket is read and written here directly.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from hostlab.errors import DecodeError
from hostlab.init.protocol import MAX_LINE_BYTES, Message, Receiver, encode

MAX_UNSENT_BYTES: Final = 16 << 20
"""A client that does not read is cut off above this."""


class Connection:
    """A connected client. `received` gets each message, `closed` is called once at the end."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        received: Callable[[Connection, Message], None],
        closed: Callable[[Connection], None],
        max_line_bytes: int = MAX_LINE_BYTES,
    ) -> None:
        sock.settimeout(0)
        self.socket = sock
        self._received = received
        self._closed = closed
        self._receiver = Receiver(max_line_bytes)
        self._unsent: deque[tuple[memoryview, list[int]]] = deque()
        self._unsent_bytes = 0
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._readable)
        self.is_open = True
        self.at_close: list[Callable[[], None]] = []
        """What else is to be called once at the end."""

    def rest(self) -> tuple[bytes, bytes] | None:
        """What has come of an unfinished line, and what is not sent yet, for another program.

        None when descriptors are among it, which cannot go on with it.
        """
        unsent = b"".join(data for data, _ in self._unsent)
        if any(descriptors for _, descriptors in self._unsent) or not self._receiver.is_plain:
            return None
        return self._receiver.unfinished, unsent

    def go_on(self, unfinished: bytes, unsent: bytes) -> None:
        """Take up the rest of the same connection in another program."""
        self._receiver.feed(unfinished)
        if unsent:
            self._unsent.append((memoryview(unsent), []))
            self._unsent_bytes = len(unsent)
            self._writable()

    def take(self, count: int) -> list[int]:
        """Descriptors that came with the message being handled."""
        return self._receiver.take(count)

    def send(self, message: Any, descriptors: Sequence[int] = ()) -> None:
        """Queue one message; the descriptors are duplicated, the caller keeps its own."""
        if not self.is_open:
            return
        data = memoryview(encode(message))
        copies = [os.dup(fd) for fd in descriptors]
        self._unsent.append((data, copies))
        self._unsent_bytes += len(data)
        if self._unsent_bytes > MAX_UNSENT_BYTES:
            self.close()
        elif len(self._unsent) == 1:
            self._writable()

    def close(self) -> None:
        """Hang up; calls `closed`. Idempotent."""
        if not self.is_open:
            return
        self.is_open = False
        self._loop.remove_reader(self.socket)
        self._loop.remove_writer(self.socket)
        for _, descriptors in self._unsent:
            for fd in descriptors:
                os.close(fd)
        self._unsent.clear()
        self._receiver.close()
        self.socket.close()
        self._closed(self)
        for call in self.at_close:
            call()

    def _readable(self) -> None:
        try:
            messages = self._receiver.receive(self.socket)
        except (BlockingIOError, InterruptedError):
            return
        except (ConnectionError, DecodeError) as error:
            if isinstance(error, DecodeError):
                self.send({"error": {"code": error.code, "message": error.message}})
            self.close()
            return
        if messages is None:
            self.close()
            return
        for message in messages:
            if not self.is_open:
                return
            self._received(self, message)

    def _writable(self) -> None:
        while self._unsent:
            data, descriptors = self._unsent[0]
            try:
                if descriptors:
                    sent = socket.send_fds(self.socket, [data], descriptors)
                else:
                    sent = self.socket.send(data)
            except (BlockingIOError, InterruptedError):
                self._loop.add_writer(self.socket, self._writable)
                return
            except OSError:
                self.close()
                return
            for fd in descriptors:
                os.close(fd)
            self._unsent_bytes -= sent
            if sent < len(data):
                self._unsent[0] = (data[sent:], [])
            else:
                self._unsent.popleft()
        self._loop.remove_writer(self.socket)
