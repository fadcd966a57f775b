"""The short way to a process that accepts a connection: parent and child meet once on the way.

The child runs a list of system calls in its parent's memory (`linux.vfork`), and can write no text.
So it accepts, says so, and waits; the parent reads whose connection it is where the kernel has put
that, writes it into the variables that the program will get, and lets the child go on. A parent
that is killed meanwhile is an end of file to the child, which goes on without these variables: the
connection is not lost.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from hostlab.init.spawning.given import FIRST, Accepting

if TYPE_CHECKING:
    from hostlab.init.spawning.direct import Plan
    from hostlab.init.spawning.process import ProcessSetup

ACCEPT: Final = "accept a connection"
ADDRESS_BYTES: Final = 128
"""sizeof(struct sockaddr_storage)."""
TEXT_BYTES: Final = 64
"""Of an address or a port, with its variable's name."""
_GO: Final = b"g"


class Meeting:
    """One such process, until its program runs."""

    def __init__(self, accepting: Accepting) -> None:
        """OSError without descriptors."""
        self.accepting = accepting
        self.ours, self.theirs = socket.socketpair()
        self.address = ctypes.create_string_buffer(ADDRESS_BYTES)
        self.size = ctypes.c_uint(ADDRESS_BYTES)
        self.byte = ctypes.create_string_buffer(_GO)
        self.variables = (
            ctypes.create_string_buffer(b"REMOTE_ADDR=", TEXT_BYTES),
            ctypes.create_string_buffer(b"REMOTE_PORT=", TEXT_BYTES),
        )
        self.peer: str | None = None
        self.refused = ""
        """Whose connection it was that may not have another one."""
        self._row = 0
        self._expected = -1

    def add(self, made: Plan, setup: ProcessSetup) -> ProcessSetup:
        """Put its calls into a plan; the set-up with the connection's descriptor.

        Its number is the lowest that is free, for a child has a copy of the parent's table
        (clone(2)) and the kernel gives the lowest (accept(2)).
        """
        free = os.dup(self.theirs.fileno())
        os.close(free)
        fd = self._expected = min(free, self.ours.fileno())
        made.add("close its parent's end", "close", self.ours.fileno(), must=False)
        self._row = len(made.rows)
        made.add(ACCEPT, "accept4", self.accepting.listener, ctypes.addressof(self.address),
                 ctypes.addressof(self.size), socket.SOCK_CLOEXEC)  # fmt: skip
        if self.accepting.no_delay:
            one = ctypes.c_int(1)
            made.alive.append(one)
            made.add("set TCP_NODELAY", "setsockopt", fd, socket.IPPROTO_TCP, socket.TCP_NODELAY,
                     ctypes.addressof(one), 4, must=False)  # fmt: skip
        there, byte = self.theirs.fileno(), ctypes.addressof(self.byte)
        made.add(ACCEPT, "sendto", there, byte, 1, socket.MSG_NOSIGNAL, 0, 0, must=False)
        made.add(ACCEPT, "recvfrom", there, byte, 1, 0, 0, 0, must=False)
        made.alive.append(self)
        if self.accepting.is_inetd:
            return replace(setup, accepting=None, descriptors=(fd, fd, *setup.descriptors[2:]))
        return replace(setup, accepting=None, further={FIRST: fd, **setup.further})

    def meet(self, pidfd: int, result: Callable[[int], int | None]) -> None:
        """The parent's part; it returns when the program runs, or the child is gone."""
        self.theirs.close()
        with self.ours:
            if not self.ours.recv(1):
                return
            peer = _peer(self.address.raw)
            if result(self._row) != self._expected:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                self.refused = "?"
            elif peer and peer[0] in self.accepting.refused:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                self.refused = peer[0]
            else:
                self._tell(peer)
            self.ours.recv(1)

    def _tell(self, peer: tuple[str, int] | None) -> None:
        self.peer = "" if peer is None else f"{peer[0]} {peer[1]}"
        for buffer, value in zip(self.variables, peer or (), strict=False):
            buffer.value += str(value).encode()
        self.ours.send(_GO)

    def close(self) -> None:
        """It came to nothing."""
        self.ours.close()
        self.theirs.close()


def _peer(raw: bytes) -> tuple[str, int] | None:
    """Address and port of a sockaddr; None of one without."""
    (family,) = struct.unpack_from("=H", raw)
    (port,) = struct.unpack_from("!H", raw, 2)
    if family == socket.AF_INET:
        return socket.inet_ntop(family, raw[4:8]), port
    if family == socket.AF_INET6:
        return socket.inet_ntop(family, raw[8:24]).removeprefix("::ffff:"), port
    return None
