"""TCP: accept on a published port, connect inside the node, relay until both sides have ended.

The end of one direction is passed on as such (half-close). A reset is passed on as a reset. When
no address of the node takes the connection the client is reset, which is as near to a refusal as
a connection already accepted can come.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
from collections import deque
from functools import partial

from hostlab.lab.publish.flow import End, Flow, Pipes
from hostlab.lab.publish.loop import Loop
from hostlab.lab.publish.places import Place, Places
from hostlab.lab.publish.port import Port

CONNECT_TIMEOUT_S = 5.0
"""For one address of a node; a refusal is instant, only a firewall or a full backlog is silent."""

ACCEPTS = 64
"""Connections accepted from one socket before others have their turn."""

DESCRIPTORS = 4
"""Of one connection at work in one direction: two sockets and a pipe."""

_EDGES = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_RESET = struct.pack("=ii", 1, 0)
_READABLE = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_WRITABLE = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class TcpRelay:
    """All TCP connections of all published ports."""

    def __init__(self, loop: Loop, places: Places, max_connections: int) -> None:
        self.loop = loop
        self.places = places
        self.pipes = Pipes()
        self._room = max_connections
        self._listeners: dict[socket.socket, Port] = {}
        self._paused: set[socket.socket] = set()
        self._connecting: deque[tuple[float, Connection]] = deque()
        loop.each_turn(self._expire)

    def listen(self, port: Port, listener: socket.socket) -> None:
        """Serve what arrives on a listening socket; owns it until `unlisten`."""
        self._listeners[listener] = port
        self._resume(listener)

    def unlisten(self, listener: socket.socket) -> None:
        """Serve it no more and close it."""
        self._paused.discard(listener)
        del self._listeners[listener]
        self.loop.discard(listener)

    def close(self) -> None:
        """Let go of the spare pipes, once every port is gone."""
        self.pipes.close()

    def connecting(self, connection: Connection) -> None:
        """Call `next_address` unless it has connected within the time for one address."""
        self._connecting.append((self.loop.now + CONNECT_TIMEOUT_S, connection))

    def ended(self) -> None:
        """A connection has given back its descriptors."""
        self._room += 1
        for listener in tuple(self._paused):
            self._resume(listener)

    def _resume(self, listener: socket.socket) -> None:
        self._paused.discard(listener)
        self.loop.watch(listener, select.EPOLLIN, lambda _events: self._accept(listener))

    def _pause(self, listener: socket.socket) -> None:
        """Leave the rest in the kernel's backlog until a connection ends."""
        self._paused.add(listener)
        self.loop.unwatch(listener)

    def _accept(self, listener: socket.socket) -> None:
        port = self._listeners[listener]
        for _ in range(ACCEPTS):
            if self._room <= 0:
                return self._pause(listener)
            try:
                client, _address = listener.accept()
            except BlockingIOError:
                return None
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    return self._pause(listener)
                continue  # accept(2): an error of the connection, not of the socket
            client.settimeout(0)
            self._room -= 1
            Connection(self, port, client).next_address()
        return None

    def _expire(self, now: float) -> float | None:
        while self._connecting:
            due, connection = self._connecting[0]
            if connection.waits_until(due) and due > now:
                return due
            self._connecting.popleft()
            if connection.waits_until(due):
                connection.expire()
        return None


class Connection:
    """One client and the service it is connected to."""

    def __init__(self, relay: TcpRelay, port: Port, client: socket.socket) -> None:
        self._relay = relay
        self._port = port
        self._client = client
        self._server: socket.socket | None = None
        self._flows: tuple[Flow, Flow] | None = None
        self._queued = False
        self._open = True
        self._attempt_due = 0.0
        self.node = port.publish.node
        self._place = relay.places.get(self.node)
        self._left = deque(self._place.candidates(client.family) if self._place else ())
        port.connections += 1
        port.conversations.add(self)

    def waits_until(self, due: float) -> bool:
        """It is still trying the address that it was given until `due` for."""
        return self._open and self._flows is None and self._attempt_due == due

    def expire(self) -> None:
        """The time for this address is over, unless its answer came while nobody looked."""
        assert self._server is not None
        poll = select.poll()
        poll.register(self._server, select.POLLOUT)
        if poll.poll(0):
            self._on_connected(0)
        else:
            self.next_address()

    def next_address(self) -> None:
        """Try the next address of the node; without one, reset the client."""
        if self._server is not None:
            self._relay.loop.discard(self._server)
            self._server = None
        while self._left and self._place is not None:
            address, family = self._left.popleft()
            if self._connect(self._place, address, family):
                return
        self._port.refused += 1
        self.abort()

    def abort(self) -> None:
        """Reset both sides."""
        for sock in (self._client, self._server):
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._close()

    def _connect(self, place: Place, address: str, family: int) -> bool:
        """Begin to connect; False when that address is out of the question."""
        try:
            server = self._relay.places.socket(place, family, socket.SOCK_STREAM)
        except OSError:
            return False  # no such family in there, no descriptor left, or the node is gone
        number = server.connect_ex((address, self._port.publish.inner))
        if number not in (0, errno.EINPROGRESS):
            server.close()
            return False
        self._server = server
        self._attempt_due = self._relay.loop.now + CONNECT_TIMEOUT_S
        self._relay.connecting(self)
        self._relay.loop.watch(server, select.EPOLLOUT, self._on_connected)
        return True

    def _on_connected(self, _events: int) -> None:
        assert self._server is not None
        if self._server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return self.next_address()
        self._relay.loop.unwatch(self._server)
        client, server = End(self._client), End(self._server)
        try:
            for end in (client, server):
                end.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                end.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                self._relay.loop.watch(end.sock, _EDGES, partial(self._on_event, end))
        except OSError:  # epoll's own bound, fs.epoll.max_user_watches
            return self.abort()
        pipes = self._relay.pipes
        self._flows = (Flow(client, server, pipes), Flow(server, client, pipes))
        return None

    def _on_event(self, end: End, events: int) -> None:
        if events & _READABLE:
            end.readable = True
        if events & _WRITABLE:
            end.writable = True
        if events & select.EPOLLERR:
            end.failed = True
        self._pump()

    def _again(self) -> None:
        self._queued = False
        if self._open:
            self._pump()

    def _pump(self) -> None:
        flows = self._flows
        if flows is None:
            return
        try:
            more = [flow.pump() for flow in flows]
            failed = any(flow.source.failed for flow in flows)
            if failed:  # found out while writing, perhaps: then something may be left to read
                more = [flow.pump() for flow in flows]
        except OSError:
            return self.abort()
        self._count()
        if all(flow.done for flow in flows):
            return self.abort() if failed else self._close()
        if any(more):
            if not self._queued:
                self._queued = True
                self._relay.loop.soon(self._again)
        elif failed:
            # What the failed side had sent is not wanted now, and waiting for that could be
            # for ever: the other side may be waiting for us to read.
            self.abort()
        return None

    def _count(self) -> None:
        if self._flows is not None:
            inward, outward = self._flows
            self._port.bytes_in += inward.moved
            self._port.bytes_out += outward.moved
            inward.moved = outward.moved = 0

    def _close(self) -> None:
        if not self._open:
            return
        self._open = False
        self._count()
        for flow in self._flows or ():
            flow.drop()
        self._flows = None
        self._relay.loop.discard(self._client)
        if self._server is not None:
            self._relay.loop.discard(self._server)
        self._port.conversations.discard(self)
        self._relay.ended()
