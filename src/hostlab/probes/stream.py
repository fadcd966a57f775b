"""A connection with one deadline for everything on it.

A time limit for each read lets a server that sends a byte now and then hold its reader for ever:
here every read and write has what is left until the deadline.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Mapping
from typing import Any, Final

from hostlab.probes.names import addresses, is_address

CONNECT_S: Final = 1.0
"""A handshake's longest time; a lost first packet is better sent anew by the next attempt."""
LINE_BYTES: Final = 1 << 16
"""No line of a protocol is longer."""
_READ_BYTES: Final = 1 << 16


class Until(socket.socket):
    """A socket whose every read ends at a deadline."""

    until: float

    def recv_into(self, *arguments: Any) -> int:
        self.settimeout(left(self.until))
        return super().recv_into(*arguments)


class TlsUntil(ssl.SSLSocket):
    """The same under TLS."""

    until: float

    def recv_into(self, *arguments: Any) -> int:
        self.settimeout(left(self.until))
        return super().recv_into(*arguments)


class Ended(ConnectionError):
    """The peer has hung up in the middle."""


def left(until: float) -> float:
    """The seconds until the deadline; TimeoutError when it has passed."""
    left_s = until - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("no whole answer in time")
    return left_s


def parse_server(text: str, port: int) -> tuple[str, int]:
    """`HOST`, `HOST:PORT`, an IPv6 address in brackets or alone; ValueError for anything else."""
    if is_address(text):
        return text, port
    found = re.fullmatch(r"(?:\[([^\]]+)\]|([^:\[\]\s/]+))(?::([0-9]{1,5}))?", text)
    if found is None or (found[1] and not is_address(found[1])):
        raise ValueError(f"{text!r} is not HOST or HOST:PORT")
    number = int(found[3] or port)
    if not 0 < number < 65536:
        raise ValueError(f"{number} is not a port")
    return found[1] or found[2], number


def connect(host: str, port: int, until: float) -> tuple[Until, str]:
    """The first address that completes the handshake; else OSError, which names all and why.

    `UnknownName` for a name that has no address.
    """
    problems: dict[str, OSError] = {}
    candidates = addresses(host)
    for index, address in enumerate(candidates):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = Until(family, socket.SOCK_STREAM)
        try:
            sock.until = until
            # Each has its share, so that a silent first address does not hide a good second.
            sock.settimeout(min(CONNECT_S, left(until) / (len(candidates) - index)))
            sock.connect((address, port))
        except OSError as error:
            sock.close()
            problems[address] = error
            continue
        return sock, address
    raise none_of(problems)


def none_of(problems: Mapping[str, OSError]) -> OSError:
    """Why none of these addresses takes a connection; there is one at least. What is the reason of
    several is said once.
    """
    by_reason: dict[str, list[str]] = {}
    for address, problem in problems.items():
        by_reason.setdefault(f"{problem.strerror or problem}", []).append(address)
    number = list(problems.values())[-1].errno
    text = "; ".join(f"{', '.join(tried)}: {reason}" for reason, tried in by_reason.items())
    return OSError(number, text)


def tls_context(*, verify: bool = True, authorities: str | None = None) -> ssl.SSLContext:
    """What a client accepts: by the host's own authorities, or those of a file, or anything."""
    context = ssl.create_default_context(cafile=authorities)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.sslsocket_class = TlsUntil
    return context


def over_tls(sock: socket.socket, name: str, until: float, context: ssl.SSLContext) -> TlsUntil:
    """The same connection after the handshake; ssl.SSLError and OSError."""
    sock.settimeout(left(until))
    wrapped = context.wrap_socket(sock, server_hostname=name)
    assert isinstance(wrapped, TlsUntil)
    wrapped.until = until
    return wrapped


class Stream:
    """A connection by lines and by bytes; `Ended` when the peer hangs up before they are there."""

    def __init__(self, sock: socket.socket, until: float) -> None:
        self.socket = sock
        self.until = until
        self.buffer = b""

    def send(self, data: bytes) -> None:
        """All of it."""
        self.socket.settimeout(left(self.until))
        self.socket.sendall(data)

    def some(self) -> bytes:
        """What there is next; empty at the end."""
        if self.buffer:
            data, self.buffer = self.buffer, b""
            return data
        self.socket.settimeout(left(self.until))
        return self.socket.recv(_READ_BYTES)

    def line(self) -> bytes:
        """The next line without its end."""
        while b"\n" not in self.buffer:
            self._more(LINE_BYTES)
        found, _, self.buffer = self.buffer.partition(b"\n")
        return found.removesuffix(b"\r")

    def exactly(self, count: int) -> bytes:
        """So many bytes."""
        while len(self.buffer) < count:
            self._more(count)
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def over_tls(self, name: str, context: ssl.SSLContext) -> TlsUntil:
        """Go on under TLS; what came in the clear behind the agreement is thrown away."""
        self.buffer = b""
        self.socket = wrapped = over_tls(self.socket, name, self.until, context)
        return wrapped

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def _more(self, most: int) -> None:
        if len(self.buffer) > most:
            raise ValueError("the line has no end")
        self.socket.settimeout(left(self.until))
        data = self.socket.recv(_READ_BYTES)
        if not data:
            raise Ended("the server hung up")
        self.buffer += data
