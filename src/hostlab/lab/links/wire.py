"""The wire: one process of the lab that carries impaired cables' frames, by packet sockets.

Such a cable is cut in the switch namespace: the node's port has left its bridge, and an inner pair
of veths stands on the bridge in its place. Whatever arrives at one end leaves the other when its
`Fate` says so. A frame's time is when the kernel took it, not when this process saw it, so that
what the scheduler costs is not added to the delay unless it is longer than the delay.

A job of the hub, told by `messages` what to carry, and ended by the end of that socket. It
allocates nothing that only a collector could free, and runs without one.
"""

from __future__ import annotations

import gc
import heapq
import select
import socket
import time
from typing import Final

import msgspec

from hostlab.lab.links import messages
from hostlab.lab.links.fate import Fate
from hostlab.lab.links.messages import Answer, Counts, Drop, Put, Stat
from hostlab.linux.frame_ring import FrameSocket
from hostlab.linux.scheduling import prefer_latency
from hostlab.linux.timerfd import TimerFd
from hostlab.spec.impairments import Impairment

CLOCK_MONOTONIC: Final = 1
LATE_NS: Final = 500_000
MAX_EVENTS: Final = 64
CLOCK_READS: Final = 5
CLOCK_READ_NS: Final = 20_000
_OLDEST_NS: Final = 1_000_000_000
"""A frame cannot have waited longer; a clock that was set would say so."""


def serve(control: socket.socket) -> None:
    """Carry until the other end of `control` is closed.

    Needs CAP_NET_RAW in the calling process' network namespace.
    """
    prefer_latency()
    gc.disable()
    wire = Wire(control)
    try:
        wire.run()
    finally:
        wire.close()


class _Way:
    """One direction: frames come from one end, and leave by the other."""

    __slots__ = ("carried", "fate", "late", "missed", "source", "target")

    def __init__(self, source: FrameSocket, target: FrameSocket, fate: Fate) -> None:
        self.source = source
        self.target = target
        self.fate = fate
        self.carried = self.late = self.missed = 0

    def counts(self) -> Counts:
        """What has passed so far."""
        fate = self.fate
        self.missed += self.source.unheard()
        return Counts(
            carried=self.carried,
            lost=fate.lost,
            full=fate.full,
            duplicated=fate.doubled,
            reordered=fate.overtaking,
            corrupted=fate.corrupted,
            held=fate.held,
            late=self.late,
            missed=self.missed + self.source.cut,
        )


class _Cable:
    """Both directions, with what they were made for."""

    def __init__(self, put: Put) -> None:
        self.put = put
        port = FrameSocket(put.port, put.mtu)
        try:
            inner = FrameSocket(put.inner, put.mtu)
        except OSError:
            port.close()
            raise
        self.sending = _Way(port, inner, _fate(put.name, "out", put.sending))
        self.receiving = _Way(inner, port, _fate(put.name, "in", put.receiving))

    def ways(self) -> tuple[_Way, _Way]:
        """What the node sends, what it receives."""
        return self.sending, self.receiving

    def changes_to(self, put: Put) -> bool:
        """Take up what can be taken up in place; False when the cable must be made anew."""
        mine = self.put
        if (mine.port, mine.inner, mine.mtu) != (put.port, put.inner, put.mtu):
            return False
        for way, name, was, now in (
            (self.sending, "out", mine.sending, put.sending),
            (self.receiving, "in", mine.receiving, put.receiving),
        ):
            if now.seed != was.seed:
                way.fate.reseed(_seed(put.name, name, now))
            if now != was:
                way.fate.change(now)
        self.put = put
        return True

    def close(self) -> None:
        """Let go of both ends."""
        self.sending.source.close()
        self.receiving.source.close()


def _fate(name: str, direction: str, impairment: Impairment) -> Fate:
    return Fate(impairment, _seed(name, direction, impairment))


def _seed(name: str, direction: str, impairment: Impairment) -> str:
    return f"{impairment.seed or 0} {name} {direction}"


class Wire:
    """All cables, one heap of what is under way, and one timer for its head."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        control.settimeout(None)
        self._timer = TimerFd(CLOCK_MONOTONIC)
        self._epoll = select.epoll()
        self._epoll.register(control, select.EPOLLIN)
        self._epoll.register(self._timer, select.EPOLLIN)
        self._cables: dict[str, _Cable] = {}
        self._ways: dict[int, _Way] = {}
        self._heap: list[tuple[int, int, _Way, bytes]] = []
        self._number = 0
        self._armed_ns = 0
        self._runs = True

    def close(self) -> None:
        """Let go of everything."""
        for cable in self._cables.values():
            cable.close()
        self._epoll.close()
        self._timer.close()

    def run(self) -> None:
        """Carry frames until the control socket's other end is closed."""
        timer, control = self._timer.fileno(), self._control.fileno()
        while self._runs:
            for fd, _ in self._epoll.poll(maxevents=MAX_EVENTS):
                if fd == timer:
                    self._timer.read()
                    self._armed_ns = 0
                elif fd == control:
                    self._obey()
                elif fd in self._ways:
                    self._take(self._ways[fd])
            self._send_due()

    def _take(self, way: _Way) -> None:
        """Everything that has arrived at one end gets its time."""
        arrive, heap = way.fate.arrive, self._heap
        now, since_1970 = _clocks()
        is_empty = True
        for taken, data in way.source.frames():
            is_empty = False
            at = taken - since_1970
            if not now - _OLDEST_NS < at <= now:
                at = now
            for due, flip in arrive(at, len(data)):
                self._number += 1
                sent = data if flip is None else _flipped(data, flip)
                heapq.heappush(heap, (due, self._number, way, sent))
        if is_empty:
            # The interface went down or away: a pending error would wake this loop for ever.
            way.source.take_error()

    def _send_due(self) -> None:
        heap = self._heap
        while heap:
            due = heap[0][0]
            now = time.monotonic_ns()
            if due > now:
                if due != self._armed_ns:
                    self._timer.set_ns(due)
                    self._armed_ns = due
                return
            _, _, way, data = heapq.heappop(heap)
            way.fate.leave()
            try:
                way.target.socket.send(data)
            except OSError:
                # The other side is down, gone or full: a frame is lost there, as on any cable.
                way.missed += 1
                continue
            way.carried += 1
            if now - due > LATE_NS:
                way.late += 1

    def _obey(self) -> None:
        try:
            packet = self._control.recv(messages.MAX_PACKET_BYTES)
        except ConnectionError:
            packet = b""
        if not packet:
            self._runs = False
            return
        try:
            answer = self._do(messages.decode_command(packet))
        except (msgspec.DecodeError, OSError, KeyError) as error:
            answer = Answer(error=str(error))
        try:
            self._control.send(messages.encode(answer))
        except ConnectionError:
            self._runs = False

    def _do(self, command: messages.Command) -> Answer:
        match command:
            case Put():
                cable = self._cables.get(command.name)
                # What came before the change has the fate of before, whichever is told first.
                for way in () if cable is None else cable.ways():
                    self._take(way)
                if cable is None or not cable.changes_to(command):
                    self._drop(command.name)
                    self._put(command)
            case Drop():
                self._drop(command.name)
            case Stat():
                ways = self._cables[command.name].ways()
                return Answer(sending=ways[0].counts(), receiving=ways[1].counts())
        return Answer()

    def _put(self, put: Put) -> None:
        cable = self._cables[put.name] = _Cable(put)
        for way in cable.ways():
            self._ways[way.source.socket.fileno()] = way
            self._epoll.register(way.source.socket, select.EPOLLIN)

    def _drop(self, name: str) -> None:
        cable = self._cables.pop(name, None)
        if cable is None:
            return
        ways = cable.ways()
        for way in ways:
            del self._ways[way.source.socket.fileno()]
        self._heap = [entry for entry in self._heap if entry[2] not in ways]
        heapq.heapify(self._heap)
        cable.close()


def _clocks() -> tuple[int, int]:
    """(now, what to take off a time since 1970 to compare it with now).

    The two clocks are read one after the other: again if the process did not run in between.
    """
    for _ in range(CLOCK_READS):
        before, since_1970, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        if after - before < CLOCK_READ_NS:
            break
    return after, since_1970 - before


def _flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
