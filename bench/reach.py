"""Does every node answer its neighbours? Asked from inside every node, by ICMP echo.

One forked helper hops from node to node with `setns` and leaves a raw socket in each: a socket
stays in the network namespace that it was made in. Then each node asks its neighbours, and the
answers are read; whoever was silent is asked again until the deadline. No process is spawned, and
nothing bypasses the nodes' own neighbour tables, routes and firewalls, as a packet socket would.
"""

from __future__ import annotations

import itertools
import os
import select
import socket
import struct
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from bench import kernel

SOL_RAW = 255
ICMP_FILTER = 1
ECHO_REPLY_ONLY = ~(1 << 0) & 0xFFFFFFFF
"""icmp_filter(7) drops the types whose bit is set; type 0 is the echo's reply."""
BURST = 64
"""Questions between two readings: their answers fit in the smallest default receive buffer."""
REPEAT_AFTER_S = 1.0
"""How long answers are awaited before the silent are asked again; ARP repeats after as long."""
MAX_SILENT_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Member:
    """A node on a segment: any process of it, and its IPv4 address there."""

    name: str
    pid: int
    segment: str
    address: str


@dataclass(frozen=True, slots=True)
class Reach:
    """Who answered whom."""

    asked: int
    """Pairs (from, to)."""
    answered: int
    silent: tuple[tuple[str, str], ...]
    """The first pairs without an answer, at most MAX_SILENT_SHOWN."""
    took_s: float

    @property
    def complete(self) -> bool:
        """Whether everybody answered."""
        return self.asked == self.answered


def verify(members: Sequence[Member], *, deadline_s: float, neighbours: int | None = None) -> Reach:
    """Ask from every member every other on its segment, or `neighbours` of them round the ring.

    With n `neighbours`, member i asks i+1 … i+n of its segment, so that everyone asks and everyone
    is asked. Needs CAP_NET_RAW and CAP_SYS_ADMIN over the nodes. RuntimeError when a node cannot
    be entered.
    """
    result = kernel.forked(lambda: _verify(members, deadline_s, neighbours))
    silent = tuple((source, target) for source, target in result["silent"])
    return Reach(result["asked"], result["answered"], silent, result["took_s"])


def _verify(
    members: Sequence[Member], deadline_s: float, neighbours: int | None
) -> dict[str, object]:
    questions = _questions(members, neighbours)
    with ExitStack() as stack:
        askers = []
        for member in members:
            asker = _Asker(member, questions[member.name])
            stack.callback(asker.close)
            askers.append(asker)
        begin = time.monotonic()
        _ask_until_answered(askers, begin + deadline_s)
        took_s = time.monotonic() - begin
    silent = [(a.member.name, target.name) for a in askers for target in a.silent.values()]
    asked = sum(len(targets) for targets in questions.values())
    return {
        "asked": asked,
        "answered": asked - len(silent),
        "silent": silent[:MAX_SILENT_SHOWN],
        "took_s": took_s,
    }


def _questions(members: Iterable[Member], neighbours: int | None) -> dict[str, tuple[Member, ...]]:
    segments = defaultdict(list)
    for member in members:
        segments[member.segment].append(member)
    questions = {}
    for segment in segments.values():
        each = len(segment) - 1 if neighbours is None else min(neighbours, len(segment) - 1)
        ring = segment + segment[:each]
        for at, member in enumerate(segment):
            questions[member.name] = tuple(ring[at + 1 : at + 1 + each])
    return questions


def _ask_until_answered(askers: Sequence[_Asker], deadline: float) -> None:
    waiting = [asker for asker in askers if asker.silent]
    while waiting and time.monotonic() < deadline:
        for asker in waiting:
            asker.ask()
        _collect(waiting, min(deadline, time.monotonic() + REPEAT_AFTER_S))
        waiting = [asker for asker in waiting if asker.silent]


def _collect(askers: Sequence[_Asker], until: float) -> None:
    by_fd = {asker.socket.fileno(): asker for asker in askers if asker.silent}
    with select.epoll() as poll:
        for fd in by_fd:
            poll.register(fd, select.EPOLLIN)
        while by_fd and (left_s := until - time.monotonic()) > 0:
            for fd, _event in poll.poll(left_s):
                by_fd[fd].read()
                if not by_fd[fd].silent:
                    poll.unregister(fd)
                    del by_fd[fd]


class _Asker:
    """The raw socket in one node, and whose answers it still lacks."""

    def __init__(self, member: Member, targets: Sequence[Member]) -> None:
        self.member = member
        self.silent = {socket.inet_aton(target.address): target for target in targets}
        _enter(member.pid)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self.socket.setsockopt(SOL_RAW, ICMP_FILTER, struct.pack("=I", ECHO_REPLY_ONLY))
        self.socket.settimeout(0)
        self._question = _echo_request(os.getpid() & 0xFFFF)
        self._identifier = self._question[4:6]

    def close(self) -> None:
        self.socket.close()

    def ask(self) -> None:
        """Ask everyone who has not answered yet, reading in between."""
        pending = iter([target.address for target in self.silent.values()])
        while burst := tuple(itertools.islice(pending, BURST)):
            for address in burst:
                self._send(address)
            self.read()

    def _send(self, address: str) -> None:
        try:
            self.socket.sendto(self._question, (address, 0))
        except BlockingIOError:
            self.read()
        except OSError:
            # No route, or the neighbour table is full: the target stays silent and is reported.
            return

    def read(self) -> None:
        """Take the answers that have arrived."""
        while self.silent:
            try:
                packet = self.socket.recv(256)
            except BlockingIOError:
                return
            header_bytes = (packet[0] & 0xF) * 4
            if packet[header_bytes + 4 : header_bytes + 6] == self._identifier:
                self.silent.pop(packet[12:16], None)


def _enter(pid: int) -> None:
    """Move this process into a node's network; into its lab's user namespace first, if need be."""
    fd = os.pidfd_open(pid)
    try:
        theirs = os.stat(f"/proc/{pid}/ns/user").st_ino
        if theirs != os.stat("/proc/self/ns/user").st_ino:
            kernel.setns(fd, kernel.CLONE_NEWUSER)
        kernel.setns(fd, kernel.CLONE_NEWNET)
    finally:
        os.close(fd)


def _echo_request(identifier: int) -> bytes:
    """An ICMP echo request without data (RFC 792), with its checksum (RFC 1071)."""
    header = struct.pack("!BBHHH", 8, 0, 0, identifier, 1)
    total = sum(struct.unpack("!4H", header))
    total = (total >> 16) + (total & 0xFFFF)
    return header[:2] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + header[4:]
