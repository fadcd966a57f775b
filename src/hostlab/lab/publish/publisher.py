"""The publisher: one process of the lab that relays the machine's published ports to the nodes.

A job of the hub, in the lab's user namespace. It owns the sockets that the command line made
outside, obeys what `messages` says on one socket, and ends when that socket's other end is
closed; everything it had ends with it.
"""

from __future__ import annotations

import os
import resource
import select
import socket
import sys

import msgspec

from hostlab.lab.publish import hairpin, messages
from hostlab.lab.publish.hairpin import Hairpins
from hostlab.lab.publish.loop import Loop
from hostlab.lab.publish.messages import Answer, Command, Protocol, Published
from hostlab.lab.publish.places import Place, Places
from hostlab.lab.publish.port import Port
from hostlab.lab.publish.tcp import DESCRIPTORS, TcpRelay
from hostlab.lab.publish.udp import UdpRelay
from hostlab.linux.scm_rights import receive

MAX_CONNECTIONS = 8192
"""TCP connections at once, if the descriptor limit allows; more wait in the kernel's backlog."""

MAX_CLIENTS = 4096
"""UDP clients remembered at once; the one that was silent longest makes room."""

MAX_WARNINGS = 100
"""Given in one answer; the rest are counted."""

SPARE_DESCRIPTORS = 512
"""Kept for nodes, spare pipes and the control socket when connections are bounded."""


def serve(control: socket.socket, *, max_inside: int = hairpin.MAX_LISTENERS) -> None:
    """Relay until the other end of `control` (SOCK_SEQPACKET) is closed.

    `max_inside` bounds the sockets listening inside nodes. Needs CAP_SYS_ADMIN over the nodes'
    network namespaces and its own. OSError when there is no epoll instance or `/proc` to be had.
    """
    publisher = Publisher(control, max_inside)
    try:
        publisher.loop.run()
    finally:
        publisher.close()


class Bounds(msgspec.Struct, frozen=True):
    """How many of each this process may have at once, by its limit of descriptors."""

    inside: int
    clients: int
    connections: int

    @classmethod
    def within(cls, descriptors: int, max_inside: int) -> Bounds:
        """Shares of a limit: two fifths listen inside nodes, an eighth is for UDP's clients."""
        inside = min(max_inside, descriptors * 2 // 5)
        clients = max(1, min(MAX_CLIENTS, descriptors // 8))
        left = (descriptors - inside - clients - SPARE_DESCRIPTORS) // DESCRIPTORS
        return cls(inside, clients, max(1, min(MAX_CONNECTIONS, left)))


def _raise_descriptors() -> int:
    """Raise the limit of descriptors (RLIMIT_NOFILE) as far as it goes; the limit."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else sys.maxsize


class Publisher:
    """All ports, all nodes, and the socket that says what to do with them."""

    def __init__(self, control: socket.socket, max_inside: int) -> None:
        self.loop = Loop()
        self._control = control
        self._ports: dict[str, Port] = {}
        self._places = Places(self.loop, self._on_gone)
        bounds = Bounds.within(_raise_descriptors(), max_inside)
        self._tcp = TcpRelay(self.loop, self._places, bounds.connections)
        self._udp = UdpRelay(self.loop, self._places, bounds.clients)
        self._hairpins = Hairpins(
            self.loop, self._places, self._ports, self._listen, self._unlisten, bounds.inside
        )
        control.settimeout(None)
        self.loop.watch(control, select.EPOLLIN, lambda _events: self._obey())

    def close(self) -> None:
        """Let go of everything."""
        for port_id in tuple(self._ports):
            self._remove(port_id)
        self._places.close()
        self._tcp.close()
        self.loop.discard(self._control)
        self.loop.close()

    def _obey(self) -> None:
        fds: list[int] = []
        try:
            packet, fds = self._receive()
        except ConnectionError:
            packet = b""
        if not packet:
            return self.loop.stop()
        try:
            answer = self._do(messages.decode_command(packet), fds)
        except (msgspec.DecodeError, ValueError, OSError) as error:
            answer = Answer(error=str(error))
        finally:
            for fd in fds:
                os.close(fd)
        try:
            self._control.send(messages.encode(answer))
        except ConnectionError:
            self.loop.stop()
        return None

    def _receive(self) -> tuple[bytes, list[int]]:
        """One packet and its descriptors; ValueError never, a cut one does not decode."""
        return receive(self._control, messages.MAX_PACKET_BYTES, most=messages.MAX_FDS)

    def _do(self, command: Command, fds: list[int]) -> Answer:
        """Carry out one command; takes those of `fds` that it keeps out of the list."""
        match command:
            case messages.Nodes(nodes):
                if len(fds) != len(nodes):
                    raise ValueError(f"{len(nodes)} nodes came with {len(fds)} descriptors")
                for target in nodes:
                    placed = self._places.put(target, fds.pop(0))
                    if placed is not None:
                        self._hairpins.review(placed)
            case messages.Change(nodes):
                for target in nodes:
                    place = self._places.get(target.name)
                    if place is None:
                        raise ValueError(f"there is no node {target.name}")
                    place.change(target)
                    self._hairpins.review(place)
            case messages.Gone(names):
                for name in names:
                    self._places.drop(name)
            case messages.Add(publishes, counts):
                self._add_all(publishes, counts, fds)
            case messages.Remove(ids):
                for port_id in ids:
                    self._remove(port_id)
            case messages.Machine(addresses):
                self._hairpins.machine(addresses)
            case messages.Stat(start):
                return self._stat(start)
        return Answer()

    def _add_all(
        self, publishes: tuple[Published, ...], counts: tuple[int, ...], fds: list[int]
    ) -> None:
        if len(counts) != len(publishes) or sum(counts) != len(fds):
            raise ValueError(f"{len(publishes)} ports came with {len(fds)} descriptors")
        for publish, count in zip(publishes, counts, strict=True):
            self._remove(publish.id)
            outside = tuple(socket.socket(fileno=fds.pop(0)) for _ in range(count))
            port = self._ports[publish.id] = Port(publish, outside)
            for sock in outside:
                sock.settimeout(0)
                self._listen(port, sock)
        self._hairpins.review_all()

    def _remove(self, port_id: str) -> None:
        port = self._ports.pop(port_id, None)
        if port is None:
            return
        self._hairpins.removed(port)
        for sock in port.outside:
            self._unlisten(port, sock)
        port.abort()

    def _listen(self, port: Port, sock: socket.socket) -> None:
        match port.publish.protocol:
            case Protocol.TCP:
                self._tcp.listen(port, sock)
            case Protocol.UDP:
                self._udp.listen(port, sock)

    def _unlisten(self, port: Port, sock: socket.socket) -> None:
        match port.publish.protocol:
            case Protocol.TCP:
                self._tcp.unlisten(sock)
            case Protocol.UDP:
                self._udp.unlisten(sock)

    def _on_gone(self, place: Place) -> None:
        self._hairpins.gone(place)
        for port in self._ports.values():
            port.abort(place.name)

    def _stat(self, start: int) -> Answer:
        ports = tuple(self._ports.values())
        warnings = self._hairpins.warnings()
        if len(warnings) > MAX_WARNINGS:
            more = f"and {len(warnings) - MAX_WARNINGS} more of the same kind"
            warnings = (*warnings[:MAX_WARNINGS], more)
        return Answer(
            publishes=tuple(port.stat() for port in ports[start : start + messages.BATCH]),
            total=len(ports),
            settled=self._hairpins.settled,
            warnings=warnings,
        )
