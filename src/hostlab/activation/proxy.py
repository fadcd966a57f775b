"""Stands between a socket that was passed and a daemon that knows nothing of that.

    socket-proxy [--idle SECONDS] [--tell] HOST:PORT | /path

It accepts on every socket that it was started with, connects each client to the daemon, and has the
kernel move the bytes (splice(2)). When there has been no client for so long it ends: the init goes
on listening, and starts it again for the next one. Told to end (SIGTERM) it lets in nobody more,
and ends with its last client; so it does, with status 1, when the daemon is not there.

With `--tell` it tells the init of each connection that has ended: `socket-closed REMOTE_ADDR=…`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import select
import signal
import socket
import subprocess
import sys
from collections import deque
from typing import Final

from hostlab.activation.inherited import ActivationError, given

PIPE_BYTES: Final = 1 << 16
FDS_OF_ONE: Final = 6
"""Of a connection: its two sockets, and a pipe for each direction."""
SPARE_FDS: Final = 64
MAX_UNTOLD: Final = 1000
"""Ends of connections that init has not been told of yet; of more it is told the number."""
SPLICE_F_NONBLOCK: Final = 2
_IN, _OUT = select.EPOLLIN, select.EPOLLOUT


class _Way:
    """One direction: from a socket through a pipe to the other socket."""

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self.source, self.target = source, target
        self.reader, self.writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.held = 0
        self.is_over = False
        """The source has said its last word."""
        self.is_done = False

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)

    def move(self) -> None:
        """Move what can be moved now; OSError when an end is gone."""
        while True:
            moved = False
            if not self.is_over and self.held < PIPE_BYTES:
                with contextlib.suppress(BlockingIOError):
                    size = os.splice(self.source.fileno(), self.writer, PIPE_BYTES - self.held,
                                     flags=SPLICE_F_NONBLOCK)  # fmt: skip
                    self.held += size
                    self.is_over = size == 0
                    moved = size > 0
            if self.held:
                with contextlib.suppress(BlockingIOError):
                    size = os.splice(self.reader, self.target.fileno(), self.held,
                                     flags=SPLICE_F_NONBLOCK)  # fmt: skip
                    self.held -= size
                    moved = moved or size > 0
            if not moved:
                break
        if self.is_over and not self.held and not self.is_done:
            self.is_done = True
            with contextlib.suppress(OSError):
                self.target.shutdown(socket.SHUT_WR)


class _Connection:
    """A client and its daemon."""

    def __init__(self, client: socket.socket, daemon: socket.socket, peer: object) -> None:
        self.client, self.daemon, self.peer = client, daemon, peer
        self.is_connected = False
        self.ways = (_Way(client, daemon), _Way(daemon, client))

    def interest(self, which: socket.socket) -> int:
        """What is waited for at one of its ends."""
        if not self.is_connected:
            return _OUT if which is self.daemon else 0
        events = 0
        for way in self.ways:
            if way.source is which and not way.is_over and way.held < PIPE_BYTES:
                events |= _IN
            if way.target is which and way.held:
                events |= _OUT
        return events

    @property
    def is_done(self) -> bool:
        return all(way.is_done for way in self.ways)

    def close(self) -> None:
        for way in self.ways:
            way.close()
        self.client.close()
        self.daemon.close()


class Proxy:
    """The loop."""

    def __init__(
        self, listeners: list[socket.socket], target: str, *, idle_s: float | None, tells: bool
    ) -> None:
        self.listeners = {each.fileno(): each for each in listeners}
        self.target = target
        self.idle_s = idle_s
        self.tells = tells
        self.ends: dict[int, _Connection] = {}
        self.epoll = select.epoll()
        self.leaves = False
        self.listens = False
        self.status = 0
        self.untold: deque[object] = deque()
        self.lost = 0
        self.telling: subprocess.Popen[bytes] | None = None
        self.limit = _raise_limit()
        self.wakeup = _wakeup_pipe()

    def run(self) -> int:
        """Serve until it is idle, or told to end; the exit status."""
        self.epoll.register(self.wakeup, _IN)
        while True:
            self._listen(wanted=not self.leaves and len(self.ends) // 2 < self.limit)
            if self.leaves and not self.ends:
                break
            idle_s = self.idle_s if not self.ends else None
            ready = self.epoll.poll(-1 if idle_s is None else idle_s)
            if not ready and not self.ends:
                break
            for fd, _ in ready:
                if fd == self.wakeup:
                    self._signalled()
                elif fd in self.listeners:
                    self._accept(self.listeners[fd])
                elif fd in self.ends:
                    self._move(self.ends[fd])
        self._finish_telling()
        return self.status

    def _listen(self, *, wanted: bool) -> None:
        if wanted == self.listens:
            return
        self.listens = wanted
        for fd in self.listeners:
            if wanted:
                self.epoll.register(fd, _IN)
            else:
                self.epoll.unregister(fd)

    def _signalled(self) -> None:
        for number in os.read(self.wakeup, 4096):
            if number == signal.SIGTERM:
                self.leaves = True
        if self.telling is not None and self.telling.poll() is not None:
            self.telling = None
            self._tell_next()

    def _accept(self, listener: socket.socket) -> None:
        """One of those that wait; nobody else accepts here, so this does not wait."""
        try:
            client, peer = listener.accept()
        except OSError as error:
            sys.stderr.write(f"cannot accept: {error}\n")
            return
        try:
            daemon = _socket_to(self.target)
        except OSError as error:
            sys.stderr.write(f"{self.target}: {error}\n")
            client.close()
            return
        client.setblocking(False)  # noqa: FBT003 - that is its signature
        connection = _Connection(client, daemon, peer)
        for end in (client, daemon):
            self.ends[end.fileno()] = connection
            self.epoll.register(end.fileno(), connection.interest(end))

    def _move(self, connection: _Connection) -> None:
        try:
            if not connection.is_connected:
                number = connection.daemon.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if number:
                    raise OSError(number, f"{self.target}: {os.strerror(number)}")
                connection.is_connected = True
            for way in connection.ways:
                way.move()
        except OSError as error:
            if not connection.is_connected:
                # Whoever waits now waits for the next start of both.
                sys.stderr.write(f"{error}\n")
                self.leaves, self.status = True, 1
            self._end(connection)
            return
        if connection.is_done:
            self._end(connection)
            return
        for end in (connection.client, connection.daemon):
            self.epoll.modify(end.fileno(), connection.interest(end))

    def _end(self, connection: _Connection) -> None:
        for end in (connection.client, connection.daemon):
            del self.ends[end.fileno()]
            self.epoll.unregister(end.fileno())
        connection.close()
        if not self.tells:
            return
        if len(self.untold) < MAX_UNTOLD:
            self.untold.append(connection.peer)
        else:
            self.lost += 1
        self._tell_next()

    def _tell_next(self) -> None:
        """By one `initctl` at a time: its end wakes the loop."""
        if self.telling is not None or not self.untold:
            return
        words = ["initctl", "emit", "--no-wait", "socket-closed"]
        peer = self.untold.popleft()
        if isinstance(peer, tuple):
            words += [f"REMOTE_ADDR={peer[0]}", f"REMOTE_PORT={peer[1]}"]
        words.append(f"JOB={os.environ.get('UPSTART_JOB', '')}")
        if self.lost:
            words.append(f"LOST={self.lost}")
            self.lost = 0
        try:
            self.telling = subprocess.Popen(words, stdin=subprocess.DEVNULL)
        except OSError as error:
            sys.stderr.write(f"initctl: {error}\n")
            self.untold.clear()

    def _finish_telling(self) -> None:
        while self.telling is not None:
            self.telling.wait()
            self.telling = None
            self._tell_next()


def _raise_limit() -> int:
    """As many descriptors as it may have; the connections that they are enough for."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, (soft - SPARE_FDS) // FDS_OF_ONE)


def _wakeup_pipe() -> int:
    """Readable when a signal has come: SIGTERM, or SIGCHLD of an `initctl`."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    return reader


def _socket_to(target: str) -> socket.socket:
    """A socket that is being connected."""
    if target.startswith(("/", "@")):
        made = socket.socket(socket.AF_UNIX)
        address: object = target.replace("@", "\0", 1) if target[0] == "@" else target
    else:
        host, _, port = target.rpartition(":")
        made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        address = (host.strip("[]") or "127.0.0.1", int(port))
    made.setblocking(False)  # noqa: FBT003 - that is its signature
    try:
        made.connect(address)  # type: ignore[arg-type]  # Of either family.
    except BlockingIOError:
        pass
    except OSError:
        made.close()
        raise
    return made


def main() -> int:
    """As a program; exit status 0 when it was idle or told to end."""
    parser = argparse.ArgumentParser(prog="socket-proxy", description=__doc__)
    parser.add_argument("--idle", type=float, metavar="SECONDS", help="end after so long")
    parser.add_argument("--tell", action="store_true", help="tell init of each connection's end")
    parser.add_argument("target", metavar="HOST:PORT|PATH")
    chosen = parser.parse_args()
    if not chosen.target.startswith(("/", "@")) and not chosen.target.rpartition(":")[2].isdigit():
        parser.error(f"{chosen.target} is neither HOST:PORT nor a path")
    try:
        listeners = [each.socket for each in given() if not each.is_connection]
    except ActivationError as error:
        parser.error(str(error))
    if not listeners:
        parser.error("it was started without a socket; an init starts it on a connection")
    for each in listeners:
        each.setblocking(True)  # noqa: FBT003 - that is its signature
    return Proxy(listeners, chosen.target, idle_s=chosen.idle, tells=chosen.tell).run()


if __name__ == "__main__":
    sys.exit(main())
