"""One socket that is listened on: its descriptor, what waits at it, how often it started a job."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from hostlab.init.sources.disposal import Disposal
from hostlab.jobs.expression import Environment
from hostlab.linux import accept_queue
from hostlab.spec import sockets
from hostlab.spec.job import Match
from hostlab.spec.sockets import Accept, ListeningSocket, Proto

PREFIX: Final = "socket:"
PEEKED_BYTES: Final = 256
"""Of a datagram, to see whether it is the same one later."""


def kept_name(words: tuple[str, ...]) -> str:
    """What the holder calls the socket of an operand."""
    digest = hashlib.sha256("\0".join(words).encode(errors="surrogateescape"))
    return f"{PREFIX}{digest.hexdigest()[:24]}"


@dataclass
class Listener:
    """A socket; `fd` is None while it is not open, and `problem` then says why."""

    match: Match
    said: ListeningSocket
    fd: int | None = None
    problem: str = ""
    is_absent: bool = False
    """Its address is not there yet."""
    is_armed: bool = False
    disposal: Disposal | None = None
    """Somebody is being sent away."""
    accepts: bool = False
    """A job has been seen to accept here: what waits is waiting for the next one."""
    takers: set[str] = field(default_factory=set)
    """Jobs that were found to start on it."""
    before: tuple[int, accept_queue.Waiting | bytes] = (0, frozenset())
    """What waited when it last started a job: how many, and who."""
    was_stopped: bool = False
    """Its job was told to end before it had done so by itself."""
    triggers: deque[float] = field(default_factory=deque)

    @property
    def words(self) -> tuple[str, ...]:
        """The operand's, by which it is known."""
        return self.match.arguments

    @property
    def key(self) -> str:
        """Its name at the holder."""
        return kept_name(self.words)

    @cached_property
    def event(self) -> Environment:
        """The variables of its event."""
        return sockets.event(self.match)

    @property
    def has_acceptors(self) -> bool:
        """Whether an instance a connection accepts, rather than one job all."""
        return self.said.accept is not Accept.NO

    def __str__(self) -> str:
        return f"socket {' '.join(self.words)}"

    def take(self, fd: int) -> None:
        """Have this descriptor, which is its own from now on."""
        self.fd, self.problem, self.is_absent = fd, "", False
        if self.has_acceptors:
            # An acceptor that comes too late must not wait for the next client.
            os.set_blocking(fd, False)

    def close(self) -> None:
        """Close the descriptor of this process."""
        if self.disposal is not None:
            self.disposal.cancel()
            self.disposal = None
        if self.fd is not None:
            os.close(self.fd)
        self.fd, self.is_armed = None, False

    def is_too_often(self, now: float) -> bool:
        """Count a start; True when there have been too many, as `said.rate` has it."""
        rate = self.said.rate
        if not rate.burst or not rate.interval_s:
            return False
        while self.triggers and now - self.triggers[0] >= rate.interval_s:
            self.triggers.popleft()
        if len(self.triggers) >= rate.burst:
            return True
        self.triggers.append(now)
        return False

    def note_waiting(self) -> None:
        """Before a job is started: who waits, unless it is known that the job accepts."""
        if self.accepts or self.has_acceptors:
            return
        with self._socket() as made:
            if made is None:
                self.before = (accept_queue.readable_bytes(self.fd or 0), b"")
            elif self.said.has_connections:
                self.before = (accept_queue.count(made), accept_queue.waiting(made))
            else:
                self.before = (accept_queue.count(made), _peek(made))

    def has_taken_nothing(self) -> bool:
        """Whether the job that has ended left everything that had waited when it was started."""
        count_before, who_before = self.before
        if self.accepts or self.has_acceptors or self.was_stopped or not count_before:
            return False
        with self._socket() as made:
            if made is None:
                return 0 < count_before <= accept_queue.readable_bytes(self.fd or 0)
            count = accept_queue.count(made)
            if count < count_before:
                self.accepts = True
                return False
            if not self.said.has_connections:
                return bool(count) and _peek(made) == who_before
            if not isinstance(who_before, frozenset) or len(who_before) < count_before:
                # The kernel cannot tell them apart.
                return count > 0
            return bool(count) and who_before <= accept_queue.waiting(made)

    def discard(self) -> None:
        """Throw away one datagram, or what is in the FIFO; of connections a child does it."""
        with self._socket() as made:
            if made is None:
                size_bytes = accept_queue.readable_bytes(self.fd or 0)
                if size_bytes and self.said.proto is Proto.FIFO:
                    os.read(self.fd or 0, size_bytes)
                return
            with contextlib.suppress(OSError):
                made.recv(1, socket.MSG_DONTWAIT)

    @contextlib.contextmanager
    def _socket(self) -> Iterator[socket.socket | None]:
        """Its descriptor as a socket for a look; None of a file."""
        if self.fd is None or self.said.proto in (Proto.FIFO, Proto.SPECIAL):
            yield None
            return
        with borrowed(self.fd) as made:
            yield made


@contextlib.contextmanager
def borrowed(fd: int) -> Iterator[socket.socket]:
    """A descriptor as a socket, which does not close it."""
    made = socket.socket(fileno=fd)
    try:
        yield made
    finally:
        made.detach()


def _peek(made: socket.socket) -> bytes:
    """The beginning of the first datagram and who sent it; empty when there is none."""
    try:
        data, sender = made.recvfrom(PEEKED_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except OSError:
        return b""
    return data + repr(sender).encode()
