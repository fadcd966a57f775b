"""Many hosts and ports at once: TCP handshakes and echoes, so many under way at a time.

A handshake inside one machine is decided while connect(2) returns, so a second one is tried at once
(connect(2), EALREADY: it is still under way), and only what is open then is left to epoll(7).
"""

from __future__ import annotations

import _socket
import errno
import resource
import select
import socket
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from hostlab.probes.reach import (
    Reach,
    echo_request,
    reach_of,
    reply_identity,
    sockaddr_of,
)

AT_ONCE: Final = 512
"""Handshakes under way, where the limit of descriptors allows."""
_SPARE_FDS: Final = 64
_ECHOES_AT_ONCE: Final = 256
"""Echoes under way: as many answers fit in a socket's buffer with room to spare."""

Target = tuple[str, int]
"""An address and a port."""


class Echo(NamedTuple):
    """What one address answered to an echo."""

    reach: Reach
    took_s: float


def tcp(targets: Iterable[Target], *, timeout_s: float, at_once: int = AT_ONCE) -> list[Reach]:
    """How each answered the handshake, in the order of the targets; each has `timeout_s`.

    OSError for what says nothing about the target.
    """
    waiting = list(targets)
    found: list[Reach] = [Reach.SILENT] * len(waiting)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    sweep = _TcpSweep(found, timeout_s)
    room = max(1, min(at_once, limit - _SPARE_FDS))
    try:
        for index, (address, port) in enumerate(waiting):
            while len(sweep.pending) >= room:
                sweep.wait()
            sweep.start(index, address, port)
        while sweep.pending:
            sweep.wait()
    finally:
        sweep.close()
    return found


class _TcpSweep:
    """Sockets whose handshakes are under way, oldest first."""

    def __init__(self, found: list[Reach], timeout_s: float) -> None:
        self.found = found
        self.timeout_s = timeout_s
        self.pending: dict[int, tuple[_socket.socket, int, float]] = {}
        self.poller = select.epoll()

    def start(self, index: int, address: str, port: int) -> None:
        v6 = ":" in address
        family = socket.AF_INET6 if v6 else socket.AF_INET
        # The C class: what Python's adds to it takes as long as the handshake.
        sock = _socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sockaddr = sockaddr_of(address, port) if v6 else (address, port)
        try:
            number = sock.connect_ex(sockaddr)
            if number == errno.EINPROGRESS:
                number = sock.connect_ex(sockaddr)
        except BaseException:
            sock.close()
            raise
        if number == errno.EALREADY:
            fd = sock.fileno()
            self.poller.register(fd, select.EPOLLOUT)
            self.pending[fd] = (sock, index, time.monotonic() + self.timeout_s)
            return
        self._decide(sock, index, number)

    def wait(self) -> None:
        """Take what is decided, and give up on what is late."""
        oldest = next(iter(self.pending.values()))
        ready = self.poller.poll(max(0.0, oldest[2] - time.monotonic()))
        for fd, _ in ready:
            sock, index, _ = self.pending.pop(fd)
            self._decide(sock, index, sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        if ready:
            return
        now = time.monotonic()
        for fd, (sock, _, until) in list(self.pending.items()):
            if until > now:
                break
            del self.pending[fd]
            sock.close()  # and it stays SILENT

    def _decide(self, sock: _socket.socket, index: int, number: int) -> None:
        # Closing takes it out of epoll, for nobody else has it.
        try:
            if number:
                self.found[index] = reach_of(number)
            elif sock.getsockname() == sock.getpeername():
                # TCP's simultaneous open with itself: see reach.tcp.
                self.found[index] = Reach.REFUSED
            else:
                self.found[index] = Reach.ANSWERED
        except OSError as error:
            self.found[index] = reach_of(error.errno or 0)
        finally:
            sock.close()

    def close(self) -> None:
        for sock, _, _ in self.pending.values():
            sock.close()
        self.poller.close()


def icmp(addresses: Sequence[str], *, timeout_s: float) -> list[Echo]:
    """How each answered an echo, in the order of the addresses; CAP_NET_RAW."""
    found = [Echo(Reach.SILENT, timeout_s)] * len(addresses)
    for v6 in (False, True):
        mine = [index for index, address in enumerate(addresses) if (":" in address) == v6]
        if mine:
            _EchoSweep(addresses, found, v6=v6).run(mine, timeout_s)
    return found


class _EchoSweep:
    """Echoes of one family by one raw socket."""

    def __init__(self, addresses: Sequence[str], found: list[Echo], *, v6: bool) -> None:
        self.addresses = addresses
        self.found = found
        self.v6 = v6
        self.waiting: dict[bytes, tuple[int, float]] = {}
        self.order: deque[tuple[float, bytes]] = deque()

    def run(self, mine: Sequence[int], timeout_s: float) -> None:
        family = socket.AF_INET6 if self.v6 else socket.AF_INET
        protocol = socket.IPPROTO_ICMPV6 if self.v6 else socket.IPPROTO_ICMP
        with socket.socket(family, socket.SOCK_RAW, protocol) as sock:
            sock.settimeout(0)
            poller = select.poll()
            poller.register(sock, select.POLLIN)
            left = deque(mine)
            while left or self.waiting:
                while left and len(self.waiting) < _ECHOES_AT_ONCE:
                    self._send(sock, left.popleft(), timeout_s)
                if not self.waiting:
                    continue
                wait_s = max(0.0, self.order[0][0] - time.monotonic())
                if poller.poll(wait_s * 1000):
                    self._hear(sock)
                self._give_up()

    def _send(self, sock: socket.socket, index: int, timeout_s: float) -> None:
        address = self.addresses[index]
        request = echo_request(address)
        sent = time.monotonic()
        try:
            sock.sendto(request, sockaddr_of(address, 0))
        except OSError as error:
            self.found[index] = Echo(reach_of(error.errno or 0), 0.0)
            return
        identity = request[4:]
        self.waiting[identity] = (index, sent)
        self.order.append((sent + timeout_s, identity))

    def _hear(self, sock: socket.socket) -> None:
        while True:
            try:
                packet = sock.recv(4096)
            except BlockingIOError:
                return
            except OSError:
                continue  # an error of some echo; which one it is about is not told here
            identity, reach = reply_identity(packet, v6=self.v6)
            if identity in self.waiting:
                index, sent = self.waiting.pop(identity)
                self.found[index] = Echo(reach, time.monotonic() - sent)
            while self.order and self.order[0][1] not in self.waiting:
                self.order.popleft()

    def _give_up(self) -> None:
        now = time.monotonic()
        while self.order and (self.order[0][1] not in self.waiting or self.order[0][0] <= now):
            self.waiting.pop(self.order.popleft()[1], None)
