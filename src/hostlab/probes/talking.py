"""A dialogue by hand or by a script, over any connection that has one.

A script has an act a line: `expect REGEX`, `send TEXT`, `sendhex BYTES`, `close`; blank lines and
those that begin with `#` are none. Texts have the escapes of C: `\\r`, `\\n`, `\\t`, `\\0`, `\\\\`,
`\\xHH`.
"""

from __future__ import annotations

import math
import os
import re
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Final, NamedTuple

from hostlab.errors import Place, SpecError
from hostlab.probes.unix import MESSAGE_BYTES, describe, receive

BUFFER_BYTES: Final = 1 << 20
"""So much is kept of what nobody has expected."""
_ESCAPES: Final = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\"}
_ESCAPE: Final = re.compile(r"\\(x[0-9A-Fa-f]{2}|.|$)", re.S)


class Verb(StrEnum):
    """What an act does."""

    EXPECT = "expect"
    SEND = "send"
    SENDHEX = "sendhex"
    CLOSE = "close"


class Act(NamedTuple):
    """A line of a script."""

    verb: Verb
    data: bytes
    """What to send, or the regular expression."""
    place: Place


class Heard(NamedTuple):
    """Something of the transcript."""

    sender: str
    """`>` ours, `<` the peer's, `*` about it."""
    data: bytes


class Unexpected(Exception):
    """What was expected did not come; the message says what did."""


def parse(lines: Iterable[str], file: str, *, eol: bytes) -> tuple[Act, ...]:
    """A script; SpecError with the place of the first act that is none."""
    return tuple(
        _act(line.rstrip("\r\n"), Place(file, number, 1, line.rstrip("\r\n")), eol)
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.lstrip().startswith("#")
    )


def _act(line: str, place: Place, eol: bytes) -> Act:
    word, _, rest = line.lstrip().partition(" ")
    try:
        verb = Verb(word)
    except ValueError:
        hint = f"an act is one of {', '.join(Verb)}"
        raise SpecError("script", f"no act is called {word!r}", where=place, hint=hint) from None
    try:
        match verb:
            case Verb.SEND:
                return Act(verb, unescaped(rest) + eol, place)
            case Verb.SENDHEX:
                return Act(verb, bytes.fromhex(rest), place)
            case Verb.EXPECT:
                re.compile(rest.encode())
                return Act(verb, rest.encode(), place)
            case _:
                return Act(verb, b"", place)
    except (ValueError, re.error) as error:
        at = Place(place.file, place.line, len(line) - len(line.lstrip()) + len(word) + 2, line)
        raise SpecError("script", f"{word}: {error}", where=at) from None


def unescaped(text: str) -> bytes:
    """A text with C's escapes as bytes; ValueError for an escape that there is not."""

    def one(found: re.Match[str]) -> str:
        word = found[1]
        if word.startswith("x") and len(word) == 3:
            return bytes.fromhex(word[1:]).decode("latin-1")
        if word not in _ESCAPES:
            raise ValueError(f"there is no escape \\{word}")
        return _ESCAPES[word].decode("latin-1")

    # Bytes above 0x7f of an escape must not be encoded again: both go through Latin-1.
    return _ESCAPE.sub(one, text.encode().decode("latin-1")).encode("latin-1")


class Conversation:
    """A connected socket, and what was said on it."""

    def __init__(self, sock: socket.socket, told: Callable[[Heard], None]) -> None:
        self.socket = sock
        self.socket.settimeout(0)
        self._told = told
        self._buffer = b""
        self._ended = False
        self._is_stream = sock.type == socket.SOCK_STREAM
        self._is_unix = sock.family == socket.AF_UNIX

    def play(self, acts: Iterable[Act], *, timeout_s: float) -> None:
        """A script; `Unexpected`, and OSError. Each act has so long."""
        for act in acts:
            match act.verb:
                case Verb.EXPECT:
                    self.expect(act.data, timeout_s=timeout_s)
                case Verb.SEND | Verb.SENDHEX:
                    self.send(act.data, timeout_s=timeout_s)
                case Verb.CLOSE:
                    self.end_of_input()

    def send(self, data: bytes, *, timeout_s: float) -> None:
        """All of it, as one message where there are messages."""
        self.socket.settimeout(timeout_s)
        try:
            if self._is_stream:
                self.socket.sendall(data)
            else:
                self.socket.send(data)
        finally:
            self.socket.settimeout(0)
        self._told(Heard(">", data))

    def end_of_input(self) -> None:
        """Say that no more is sent, where the peer can be told."""
        if self._is_stream and not isinstance(self.socket, ssl.SSLSocket):
            self.socket.shutdown(socket.SHUT_WR)

    def expect(self, pattern: bytes, *, timeout_s: float) -> bytes:
        """Wait for a regular expression; what it matched. What stands before is passed over."""
        until = time.monotonic() + timeout_s
        compiled = re.compile(pattern, re.M)
        while True:
            found = compiled.search(self._buffer)
            if found:
                self._buffer = self._buffer[found.end() :]
                return found[0]
            if self._ended:
                raise Unexpected(self._instead(pattern, "the peer hung up"))
            if not self._wait(until):
                raise Unexpected(self._instead(pattern, f"nothing more came in {timeout_s:g} s"))
            self.hear()

    def _instead(self, pattern: bytes, why: str) -> str:
        last = self._buffer[-200:]
        seen = f"; the last was {last!r}" if last else ""
        return f"expected {pattern.decode(errors='replace')!r}, and {why}{seen}"

    def _wait(self, until: float, *others: int) -> bool:
        if isinstance(self.socket, ssl.SSLSocket) and self.socket.pending():
            return True
        poller = select.poll()
        for fd in (self.socket.fileno(), *others):
            poller.register(fd, select.POLLIN)
        left_s = until - time.monotonic()
        return bool(poller.poll(None if left_s == math.inf else max(0.0, left_s) * 1000))

    def hear(self) -> bool:
        """Take in what there is; False at the peer's end."""
        while not self._ended:
            try:
                data, fds = self._receive()
            except (BlockingIOError, ssl.SSLWantReadError):
                return True
            except ConnectionResetError:
                self._ended = True
                self._told(Heard("*", b"the peer has cut the connection"))
                return False
            lines = describe(fds)
            for fd in fds:
                os.close(fd)
            if data:
                self._told(Heard("<", data))
                self._buffer = (self._buffer + data)[-BUFFER_BYTES:]
            for line in lines:
                self._told(Heard("*", f"descriptor: {line}".encode()))
            if not data and not fds and self.socket.type != socket.SOCK_DGRAM:
                self._ended = True
                self._told(Heard("*", b"the peer has hung up"))
        return not self._ended

    def _receive(self) -> tuple[bytes, list[int]]:
        if self._is_unix:
            return receive(self.socket)
        return self.socket.recv(MESSAGE_BYTES), []

    def by_hand(self, source: int, *, eol: bytes, linger_s: float) -> None:
        """Send the lines of a descriptor, until the peer hangs up.

        When the lines end, go on reading until nothing has come for `linger_s`.
        """
        rest = b""
        while True:
            if not self._wait(math.inf if source >= 0 else time.monotonic() + linger_s,
                              *((source,) if source >= 0 else ())):  # fmt: skip
                return
            if not self.hear():
                return
            if source < 0 or not select.select([source], [], [], 0)[0]:
                continue
            data = os.read(source, MESSAGE_BYTES)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self.send(line + eol, timeout_s=linger_s)
            if not data:
                if rest:
                    self.send(rest + eol, timeout_s=linger_s)
                source = -1
                self.end_of_input()
