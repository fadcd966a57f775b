"""A steady stream of packets while a ruleset is changed, and how many met neither the old nor the
new one.

The packets go over the node's loopback, all on one processor, so they come in the order in which
they were sent, and the last that is let in is waited for.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from hostlab.firewall.ruleset import Ruleset
from hostlab.linux.entering import from_inside

LET_IN: Final = 7007
DROPPED: Final = 7008
PER_S: Final = 10_000
AT_ONCE: Final = 20
LOST_S: Final = 5.0
"""What has not come by then is lost."""
_COUNTS: Final = struct.Struct("=QQQ")


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of the stream."""

    sent: int
    wrong: int
    """Of the port that both rulesets let in, lost; of the one that both drop, seen."""
    took_s: float


def switch(
    pid: int,
    times: int,
    go: Callable[[Ruleset, Ruleset], None],
    pair: tuple[Ruleset, Ruleset],
) -> Seen:
    """Switch so often from one of `pair`, which is loaded, to the other, under a stream."""
    stream = _Stream(_sockets(pid))
    try:
        stream.wait_runs()
        for number in range(times):
            go(pair[(number + 1) % 2], pair[number % 2])
        return stream.end()
    finally:
        stream.close()


def _sockets(pid: int) -> list[socket.socket]:
    """A sender and two receivers in the node's network."""

    def make() -> tuple[bytes, Sequence[int]]:
        found = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
        for receiver, port in zip(found[1:], (LET_IN, DROPPED), strict=True):
            receiver.settimeout(0)
            receiver.bind(("127.0.0.1", port))
        return b"", [each.detach() for each in found]

    _, fds = from_inside(pid, ("user", "net"), make)
    return [socket.socket(fileno=fd) for fd in fds]


class _Stream:
    """A process that sends and counts until it is told to end."""

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        self._mine, theirs = socket.socketpair()
        self._begin = time.perf_counter()
        self._pid = os.fork()
        if self._pid == 0:
            self._mine.close()
            _send(sockets, theirs)
        theirs.close()
        for each in sockets:
            each.close()

    def wait_runs(self) -> None:
        """Until the first packets are sent."""
        if self._mine.recv(1) != b"+":
            raise RuntimeError("the sender ended before it began")

    def end(self) -> Seen:
        """Stop it, and take its counts."""
        took_s = time.perf_counter() - self._begin
        self._mine.sendall(b".")
        sent, let_in, dropped = _COUNTS.unpack(self._mine.recv(_COUNTS.size, socket.MSG_WAITALL))
        return Seen(2 * sent, sent - let_in + dropped, took_s)

    def close(self) -> None:
        """End it, whatever it does."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        self._mine.close()


def _send(sockets: Sequence[socket.socket], told: socket.socket) -> None:
    """In the child: packets in turn to both ports, so many a second, until a byte comes."""
    try:
        sender, let_in, dropped = sockets
        sent = taken = wrong = 0
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        begin = time.perf_counter()
        while not select.select([told], [], [], 0)[0]:
            for _ in range(AT_ONCE // 2):
                sender.sendto(b"x", ("127.0.0.1", LET_IN))
                sender.sendto(b"x", ("127.0.0.1", DROPPED))
            sent += AT_ONCE // 2
            taken += _take(let_in)
            wrong += _take(dropped)
            if sent == AT_ONCE // 2:
                told.sendall(b"+")
            left_s = begin + 2 * sent / PER_S - time.perf_counter()
            if left_s > 0:
                select.select([told], [], [], left_s)
        while taken < sent and select.select([let_in], [], [], LOST_S)[0]:
            taken += _take(let_in)
        wrong += _take(dropped)
        told.sendall(_COUNTS.pack(sent, taken, wrong))
        signal.pause()
    finally:
        os._exit(0)


def _take(receiver: socket.socket) -> int:
    """How many have come."""
    number = 0
    with contextlib.suppress(BlockingIOError):
        while receiver.recv(1):
            number += 1
    return number
