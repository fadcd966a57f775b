"""Tells when a job that serves TCP has had no connection for so long, and shuts the door for it.

The kernel tells of each TCP socket that is destroyed in this network namespace (sock_diag(7),
SKNLGRP_INET_TCP_DESTROY); then the connections of the port are counted. Nothing else wakes this
but the job's own time. Open while a job is there that is to be stopped when it is idle.

Between the last look and the job's end somebody may connect. So before that look the listening
socket is given a filter that drops everything: who connects now is not answered, tries again after
a second, as TCP does, and finds the door open. Nobody is accepted by a job that is being stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hostlab.init.sources.listener import Listener, borrowed
from hostlab.linux import accept_queue
from hostlab.linux.netlink import messages
from hostlab.linux.sockdiag import NETLINK_SOCK_DIAG

DESTROYED: Final = 1 << 0 | 1 << 2
"""SKNLGRP_INET_TCP_DESTROY and SKNLGRP_INET6_TCP_DESTROY."""
SO_ATTACH_FILTER: Final = 26
SO_DETACH_FILTER: Final = 27
RECEIVE_BYTES: Final = 1 << 16
READS_AT_ONCE: Final = 64
_PORT_AT: Final = 4
"""Of the local port in an inet_diag_msg."""
_DROP_ALL: Final = struct.pack("=HBBI", 0x06, 0, 0, 0)
"""BPF: return 0, which keeps nothing of a packet (bpf(4) of classic BPF)."""


@dataclass
class _Watched:
    listener: Listener
    port: bytes
    timer: asyncio.TimerHandle | None = None


class Idleness:
    """The jobs of one init that are stopped when they are idle."""

    def __init__(self, idle: Callable[[Listener], None]) -> None:
        """`idle` is told of a socket whose job has nobody, with its door shut."""
        self._idle = idle
        self._socket: socket.socket | None = None
        self._watched: dict[tuple[str, ...], _Watched] = {}

    def begin(self, listener: Listener) -> None:
        """A job has this socket: look after it. OSError where the kernel cannot tell."""
        if listener.words in self._watched or listener.fd is None:
            return
        self._open()
        with borrowed(listener.fd) as made:
            port = int(made.getsockname()[1]).to_bytes(2, "big")
        watched = self._watched[listener.words] = _Watched(listener, port)
        self._begin_again(watched)

    def end(self, listener: Listener) -> None:
        """The job is gone: open the door again."""
        watched = self._watched.pop(listener.words, None)
        if watched is None:
            return
        if watched.timer is not None:
            watched.timer.cancel()
        open_door(listener)
        if not self._watched:
            self.close()

    def close(self) -> None:
        """Nobody is looked after any more."""
        for watched in self._watched.values():
            if watched.timer is not None:
                watched.timer.cancel()
        self._watched.clear()
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _open(self) -> None:
        if self._socket is not None:
            return
        flags = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        made = socket.socket(socket.AF_NETLINK, flags, NETLINK_SOCK_DIAG)
        try:
            made.bind((0, DESTROYED))
        except OSError:
            made.close()
            raise
        self._socket = made
        asyncio.get_running_loop().add_reader(made, self._destroyed)

    def _destroyed(self) -> None:
        """Some have ended: those of our ports begin their time anew."""
        assert self._socket is not None
        ports: set[bytes] = set()
        for _ in range(READS_AT_ONCE):
            try:
                data = self._socket.recv(RECEIVE_BYTES)
            except BlockingIOError:
                break
            except OSError:
                # ENOBUFS: which ones is not known.
                ports |= {each.port for each in self._watched.values()}
                continue
            ports |= {body[_PORT_AT : _PORT_AT + 2] for *_, body in messages(data)}
        for watched in tuple(self._watched.values()):
            if watched.port in ports:
                self._begin_again(watched)

    def _begin_again(self, watched: _Watched) -> None:
        idle_s = watched.listener.said.idle_s or 0.0
        if watched.timer is not None:
            watched.timer.cancel()
        loop = asyncio.get_running_loop()
        watched.timer = loop.call_later(idle_s, self._time_is_up, watched)

    def _time_is_up(self, watched: _Watched) -> None:
        """With somebody connected it is the end of that connection that is waited for."""
        watched.timer = None
        listener = watched.listener
        # A job with several sockets is idle when none of them has anybody.
        related = [
            each.listener
            for each in self._watched.values()
            if each.listener.takers & listener.takers
        ]
        if any(map(_connections, related)):
            return
        for each in related:
            shut_door(each)
        if any(map(_connections, related)):
            for each in related:
                open_door(each)
            return
        self._idle(listener)


def shut_door(listener: Listener) -> None:
    """Have the kernel drop what comes to the listening socket."""
    if listener.fd is None:
        return
    code = ctypes.create_string_buffer(_DROP_ALL)
    program = struct.pack("HxxxxxxP", 1, ctypes.addressof(code))
    with borrowed(listener.fd) as made:
        made.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def open_door(listener: Listener) -> None:
    """Take the filter away, if there is one."""
    if listener.fd is None:
        return
    with borrowed(listener.fd) as made, contextlib.suppress(OSError):
        made.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)


def _connections(listener: Listener) -> int:
    if listener.fd is None:
        return 0
    with borrowed(listener.fd) as made:
        return accept_queue.connections(made)
