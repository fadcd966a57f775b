"""UDP: each client gets a connected socket of its own inside the node, for as long as it talks.

Answers leave from the very address that the client had asked (IP_PKTINFO), or a client with a
connected socket would not take them from a machine with several. What a node refuses (an ICMP
error) goes to its next address, once round; then it is dropped, as a network may.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from collections import OrderedDict
from typing import Any

from hostlab.lab.publish.loop import Loop
from hostlab.lab.publish.places import Place, Places
from hostlab.lab.publish.port import Port

IDLE_TIMEOUT_S = 60.0
"""Without a datagram in either direction a client is forgotten."""

DATAGRAMS = 64
"""Taken from one socket before others have their turn."""

MAX_DATAGRAM_BYTES = 65535

IP_PKTINFO = 8
"""include/uapi/linux/in.h; the socket module of Python 3.11 lacks it."""

_ANCILLARY_BYTES = socket.CMSG_SPACE(20)
_PKTINFO4 = struct.Struct("=i4s4s")
_PKTINFO6 = struct.Struct("=16si")

Address = tuple[Any, ...]
Ancillary = list[tuple[int, int, bytes]]


def _answer_from(ancillary: Ancillary) -> Ancillary:
    """The control message that makes an answer leave from where the question went to."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO) and len(data) >= _PKTINFO4.size:
            _index, local, _destination = _PKTINFO4.unpack_from(data)
            return [(level, kind, _PKTINFO4.pack(0, local, bytes(4)))]
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            multicast = data[:1] == b"\xff"
            link_local = data[:1] == b"\xfe" and len(data) > 1 and data[1] & 0xC0 == 0x80
            index = _PKTINFO6.unpack_from(data)[1] if link_local else 0
            return [] if multicast else [(level, kind, _PKTINFO6.pack(data[:16], index))]
    return []


class UdpRelay:
    """All clients of all published UDP ports."""

    def __init__(self, loop: Loop, places: Places, max_clients: int) -> None:
        self.loop = loop
        self.places = places
        self._max_clients = max_clients
        self.buffer = bytearray(MAX_DATAGRAM_BYTES)
        self._clients: OrderedDict[object, Client] = OrderedDict()
        loop.each_turn(self._expire)

    def listen(self, port: Port, listener: socket.socket) -> None:
        """Serve what arrives on a bound socket; owns it until `unlisten`."""
        if listener.family == socket.AF_INET:
            listener.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        else:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        self.loop.watch(listener, select.EPOLLIN, lambda _events: self._receive(port, listener))

    def unlisten(self, listener: socket.socket) -> None:
        """Serve it no more, forget its clients and close it."""
        for client in tuple(self._clients.values()):
            if client.listener is listener:
                client.abort()
        self.loop.discard(listener)

    def touch(self, client: Client) -> None:
        """A client talks: it is idle last of all."""
        client.idle_due = self.loop.now + IDLE_TIMEOUT_S
        self._clients.move_to_end(client.key)

    def forget(self, client: Client) -> None:
        """It has ended."""
        self._clients.pop(client.key, None)

    def _receive(self, port: Port, listener: socket.socket) -> None:
        for _ in range(DATAGRAMS):
            try:
                count, ancillary, _flags, address = listener.recvmsg_into(
                    [self.buffer], _ANCILLARY_BYTES
                )
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error about an earlier answer; it tells nothing of use
            answer_from = _answer_from(ancillary)
            key = (listener.fileno(), address, answer_from[0][2] if answer_from else b"")
            client = self._clients.get(key)
            if client is None:
                client = self._make_client(port, listener, key, address, answer_from)
            self.touch(client)
            client.send(bytes(memoryview(self.buffer)[:count]))

    def _make_client(
        self,
        port: Port,
        listener: socket.socket,
        key: object,
        address: Address,
        answer_from: Ancillary,
    ) -> Client:
        if len(self._clients) >= self._max_clients:
            next(iter(self._clients.values())).abort()
        client = Client(self, port, listener, key, address, answer_from)
        self._clients[key] = client
        return client

    def _expire(self, now: float) -> float | None:
        while self._clients:
            client = next(iter(self._clients.values()))
            if client.idle_due > now:
                return client.idle_due
            client.abort()
        return None


class Client:
    """One client's address and port, and the socket that stands for it inside the node."""

    def __init__(
        self,
        relay: UdpRelay,
        port: Port,
        listener: socket.socket,
        key: object,
        address: Address,
        answer_from: Ancillary,
    ) -> None:
        self.key = key
        self.listener = listener
        self.node = port.publish.node
        self.idle_due = 0.0
        self._relay = relay
        self._port = port
        self._address = address
        self._answer_from = answer_from
        self._server: socket.socket | None = None
        self._unanswered = b""
        """The last datagram, kept until the node has answered from this address of its own."""
        self._place = relay.places.get(self.node)
        self._left: list[tuple[str, int]] = []
        self._start_over()
        port.connections += 1
        port.conversations.add(self)

    def abort(self) -> None:
        """Forget the client."""
        self._hang_up()
        self._port.conversations.discard(self)
        self._relay.forget(self)

    def send(self, datagram: bytes) -> None:
        """Hand a datagram to the node; when nothing there takes it, it is dropped."""
        self._port.bytes_in += len(datagram)
        self._unanswered = datagram
        if self._server is None:
            self._start_over()
            self._next_address()
        else:
            self._send_or_go_on()

    def _start_over(self) -> None:
        self._left = list(self._place.candidates(self.listener.family)) if self._place else []

    def _next_address(self) -> None:
        self._hang_up()
        while self._left and self._place is not None:
            address, family = self._left.pop(0)
            if self._connect(self._place, address, family):
                return self._send_or_go_on()
        self._port.refused += 1
        return None

    def _connect(self, place: Place, address: str, family: int) -> bool:
        try:
            server = self._relay.places.socket(place, family, socket.SOCK_DGRAM)
        except OSError:
            return False  # no such family in there, no descriptor left, or the node is gone
        try:
            server.connect((address, self._port.publish.inner))
        except OSError:
            server.close()
            return False  # no route
        self._server = server
        self._relay.loop.watch(server, select.EPOLLIN, self._on_event)
        return True

    def _send_or_go_on(self) -> None:
        assert self._server is not None
        try:
            self._server.send(self._unanswered)
        except BlockingIOError:
            pass  # the node's buffers are full: a network drops too
        except OSError:
            self._next_address()

    def _on_event(self, _events: int) -> None:
        for _ in range(DATAGRAMS):
            if self._server is None:
                return
            try:
                count = self._server.recv_into(self._relay.buffer)
            except BlockingIOError:
                return
            except OSError:
                return self._next_address()
            self._unanswered = b""
            self._port.bytes_out += count
            self._relay.touch(self)
            view = memoryview(self._relay.buffer)[:count]
            # A full buffer or a client that is gone: dropped, as a network does.
            with contextlib.suppress(OSError):
                self.listener.sendmsg([view], self._answer_from, 0, self._address)

    def _hang_up(self) -> None:
        if self._server is not None:
            self._relay.loop.discard(self._server)
            self._server = None
