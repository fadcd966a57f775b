"""Requests sent from inside a node at a steady rate, each answered or not by its own deadline.

The schedule is open: a request is sent when its time has come, whether or not those before it have
been answered, so a service that hangs hides nothing. Each has a socket of its own, so it takes the
route that the kernel has by then; only echo requests share one, which is looked up a route for each
packet. One thread sends all and waits for all; a second one hands out, in batches, what has ended.

Nothing is imported once this runs: it lives inside a node (`checks.inside`).
"""

from __future__ import annotations

import errno
import math
import os
import re
import resource
import select
import socket
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

import msgspec

from hostlab import typed
from hostlab.errors import UsageError
from hostlab.probes.names import addresses, is_address
from hostlab.probes.reach import echo_reply, echo_request

MOST_PER_S: Final = 1000.0
LATE_S: Final = 0.05
"""A request whose time is longer past is left out: a burst is not what was asked for."""
MOST_UNANSWERED: Final = 4096
OTHER_DESCRIPTORS: Final = 32
"""What the process has open beside its requests, at most."""
FLUSH_S: Final = 0.02
"""So long what has ended is kept, so that many are told at once."""
BATCH: Final = 300
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,253}")
TEXT_BYTES: Final = 64
"""Of who has answered, and of an error; a batch is a message of `checks.inside`."""
ANSWER_BYTES: Final = 1 << 16
_ABORT: Final = struct.pack("ii", 1, 0)
_NEVER: Final = math.inf


class How(StrEnum):
    """What a request is."""

    GET = "get"
    """HTTP over a connection of its own."""
    PING = "ping"
    """An ICMP echo request."""
    UDP = "udp"
    """A datagram, answered by any other."""


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked, how often."""

    how: How
    target: str
    """A URL (http), an address or name, or HOST:PORT."""
    rate: float = 100.0
    """Requests a second."""
    timeout_s: float = 1.0
    """Whoever has not answered by then has failed."""
    header: str | None = None
    """The header that says who has answered; None: the first line of the body."""


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """A request that has ended; times by the machine's monotonic clock, in seconds."""

    sent: float
    ended: float
    who: str = ""
    error: str = ""
    """Why it has failed."""

    @property
    def ok(self) -> bool:
        """Whether it was answered as it should be."""
        return not self.error


class Taken(msgspec.Struct, frozen=True):
    """What has ended since it was asked last."""

    answers: tuple[Answer, ...]
    through: float
    """Every request that was sent before has ended, and was told."""
    left_out: int
    """Requests so far that could not be sent in time."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a probe's requests go."""

    host: str
    port: int
    path: str = "/"
    shown: str = ""
    """The host as a server is told it."""


def target_of(probe: Probe) -> Target:
    """UsageError for what is no target of such a request."""
    text, hint = probe.target, _EXAMPLES[probe.how]
    if probe.how is How.PING:
        if not is_address(text) and not _NAME.fullmatch(text):
            raise UsageError("target", f"{text!r} is no address or name", hint=hint)
        return Target(text, 0)
    try:
        parts = urlsplit(text if probe.how is How.GET else f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError("target", f"{text!r}: {error}", hint=hint) from None
    if not host or not text.isascii() or any(c.isspace() for c in text):
        raise UsageError("target", f"{text!r} cannot be asked", hint=hint)
    if probe.how is How.UDP:
        if not port:
            raise UsageError("target", f"{text!r} has no port", hint=hint)
        return Target(host, port)
    if parts.scheme != "http":
        raise UsageError("target", f"{text!r} is no http URL", hint=hint)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(host, port or 80, path, parts.netloc.rpartition("@")[2])


_EXAMPLES: Final = {
    How.GET: "for example http://10.0.0.1/ or http://[2001:db8::1]:8080/who",
    How.PING: "for example 10.0.0.1 or 2001:db8::1",
    How.UDP: "for example 10.0.0.1:7 or [2001:db8::1]:7",
}


@dataclass(slots=True)
class _Open:
    """A request that has not ended."""

    sent: float
    sock: socket.socket | None = None
    data: bytearray = field(default_factory=bytearray)
    asked: bool = False
    ended: bool = False


class Sender:
    """Sends until it is told to stop; `take` hands out what has ended."""

    def __init__(self, probe: Probe, most_unanswered: int = MOST_UNANSWERED) -> None:
        self._probe = probe
        self._most_unanswered = most_unanswered
        self._target = target_of(probe)
        address = addresses(self._target.host)[0]
        host, _, zone = address.partition("%")
        self._family = socket.AF_INET6 if ":" in host else socket.AF_INET
        scope = socket.if_nametoindex(zone) if zone else 0
        self._sockaddr: tuple[object, ...] = (host, self._target.port)
        if self._family is socket.AF_INET6:
            self._sockaddr = (host, self._target.port, 0, scope)
        self._request = (
            f"GET {self._target.path} HTTP/1.0\r\nHost: {self._target.shown}\r\n"
            "User-Agent: hostlab\r\nConnection: close\r\n\r\n"
        ).encode()
        self._epoll = select.epoll()
        self._open: deque[_Open] = deque()
        self._unanswered = 0
        self._by_fd: dict[int, _Open] = {}
        self._by_number: dict[int, _Open] = {}
        self._raw = self._raw_socket() if probe.how is How.PING else None
        self._nonce = os.urandom(8)
        self._ended: list[Answer] = []
        self._kept: deque[Answer] = deque()
        self._through = time.monotonic()
        self._left_out = 0
        self._news = threading.Condition()
        self._trouble: BaseException | None = None

    def _raw_socket(self) -> socket.socket:
        v6 = self._family is socket.AF_INET6
        protocol = socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP
        sock = socket.socket(self._family, socket.SOCK_RAW, protocol)
        sock.settimeout(0)
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        return sock

    def start(self) -> None:
        """Begin, in a thread of its own."""
        threading.Thread(target=self._guarded, daemon=True).start()

    def take(self) -> Taken:
        """Wait until something has ended, and hand it out; raises what has ended the sending."""
        with self._news:
            self._news.wait_for(lambda: self._kept or self._trouble)
            if self._trouble is not None and not self._kept:
                raise self._trouble
            batch = tuple(self._kept.popleft() for _ in range(min(BATCH, len(self._kept))))
            through = min((answer.sent for answer in self._kept), default=self._through)
            return Taken(batch, through, self._left_out)

    def _guarded(self) -> None:
        try:
            self._run()
        except BaseException as error:
            with self._news:
                self._trouble = error
                self._news.notify_all()

    def _run(self) -> None:
        started = flushed = time.monotonic()
        number = 0
        while True:
            now = time.monotonic()
            while (due := started + number / self._probe.rate) <= now:
                number += 1
                if now - due > LATE_S or self._unanswered >= self._most_unanswered:
                    self._left_out += 1
                else:
                    self._send(number & 0xFFFF)
            self._expire(time.monotonic())
            now = time.monotonic()
            if self._ended and now - flushed >= FLUSH_S:
                self._flush(now)
                flushed = now
            first = self._open[0].sent + self._probe.timeout_s if self._open else _NEVER
            wakes = min(due, first, flushed + FLUSH_S if self._ended else _NEVER)
            for fd, _ in self._epoll.poll(max(0.0, wakes - now)):
                self._ready(fd)

    def _flush(self, now: float) -> None:
        with self._news:
            self._kept += self._ended
            self._ended.clear()
            self._through = self._open[0].sent if self._open else now
            self._news.notify_all()

    def _expire(self, now: float) -> None:
        """End those that are late; the oldest is first in the line."""
        while self._open:
            first = self._open[0]
            if not first.ended:
                if first.sent + self._probe.timeout_s > now:
                    return
                self._end(first, error="no answer in time")
            self._open.popleft()

    def _end(self, request: _Open, *, who: str = "", error: str = "") -> None:
        if request.ended:
            return
        request.ended = True
        self._unanswered -= 1
        self._ended.append(Answer(request.sent, time.monotonic(), who, error))
        if request.sock is not None:
            del self._by_fd[request.sock.fileno()]
            if error:
                # No segment of it is sent again, and its port is free at once.
                request.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
            request.sock.close()

    def _send(self, number: int) -> None:
        request = _Open(time.monotonic())
        self._open.append(request)
        self._unanswered += 1
        try:
            if self._raw is not None:
                self._by_number[number] = request
                address = str(self._sockaddr[0])
                self._raw.sendto(echo_request(address, self._nonce, number), self._sockaddr)
                return
            get = self._probe.how is How.GET
            kind = socket.SOCK_STREAM if get else socket.SOCK_DGRAM
            sock = request.sock = socket.socket(self._family, kind)
            self._by_fd[sock.fileno()] = request
            sock.settimeout(0)
            status = sock.connect_ex(self._sockaddr)
            if status not in (0, errno.EINPROGRESS):
                raise OSError(status, os.strerror(status))
            self._epoll.register(sock.fileno(), select.EPOLLOUT if get else select.EPOLLIN)
            if not get:
                sock.send(b"hostlab %d\n" % number)
        except OSError as error:
            self._end(request, error=_short(error.strerror or str(error)))

    def _ready(self, fd: int) -> None:
        if self._raw is not None:
            self._hear()
            return
        request = self._by_fd.get(fd)
        if request is None:
            return  # it has ended since the kernel told of it
        sock = request.sock
        assert sock is not None
        try:
            if not request.asked and self._probe.how is How.GET:
                if status := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    raise OSError(status, os.strerror(status))
                sock.send(self._request)
                request.asked = True
                self._epoll.modify(fd, select.EPOLLIN)
                return
            data = sock.recv(ANSWER_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(request, error=_short(error.strerror or str(error)))
            return
        request.data += data
        if self._probe.how is How.UDP:
            self._end(request, who=_first_line(bytes(data)))
        elif not data or len(request.data) >= ANSWER_BYTES:
            who, error_text = judged(bytes(request.data), self._probe.header)
            self._end(request, who=who, error=error_text)

    def _hear(self) -> None:
        """Every packet that the raw socket has: answers to ours, and others' ICMP."""
        assert self._raw is not None
        while True:
            try:
                data, sender = self._raw.recvfrom(ANSWER_BYTES)
            except BlockingIOError:
                return
            except OSError:
                continue  # an error about an earlier packet, whose request will be late
            number = echo_reply(data, self._nonce, v6=self._family is socket.AF_INET6)
            if number is not None and (request := self._by_number.pop(number, None)):
                self._end(request, who=str(sender[0]))


def judged(data: bytes, header: str | None) -> tuple[str, str]:
    """(who has answered, why it is no good answer) of a whole response; RFC 9112 §4."""
    head, _, body = data.partition(b"\r\n\r\n")
    status_line, *fields = head.split(b"\r\n")
    words = status_line.split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        return "", "no HTTP answer" if data else "the connection was closed without an answer"
    if not 200 <= int(words[1]) < 400:
        return "", _short(f"status {words[1].decode()}")
    if header is None:
        return _first_line(body), ""
    wanted = header.lower().encode()
    for line in fields:
        name, colon, value = line.partition(b":")
        if colon and name.strip().lower() == wanted:
            return _first_line(value.strip()), ""
    return "", ""


def _first_line(data: bytes) -> str:
    return _short(data.partition(b"\n")[0].decode(errors="replace").strip())


def _short(text: str) -> str:
    """At most TEXT_BYTES, and nothing that JSON would write longer."""
    shown = "".join(c if c.isprintable() and c not in '"\\' else "?" for c in text[:TEXT_BYTES])
    return shown.encode()[:TEXT_BYTES].decode(errors="ignore")


class Requests:
    """The crew's handler: `begin` once, then `take` as often as there is something to take."""

    def __init__(self) -> None:
        self._sender: Sender | None = None

    def handle(self, request: bytes) -> bytes:
        """Runs inside the node."""
        if self._sender is None:
            _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            most = min(MOST_UNANSWERED, max(1, hard - OTHER_DESCRIPTORS))
            self._sender = Sender(typed.decode(request, Probe), most)
            self._sender.start()
            return b""
        return msgspec.json.encode(self._sender.take())
