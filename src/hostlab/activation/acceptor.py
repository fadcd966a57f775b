"""inetd's way in one process: accepts on the sockets that were passed, a program a connection.

    socket-acceptor [--max N] [--per-source N] [--idle SECONDS] PROGRAM [ARGUMENT …]

The program has the connection as standard input and output, and REMOTE_ADDR and REMOTE_PORT in its
environment. One more than `--max` waits; one more of an address than `--per-source` is sent away.
Told to end (SIGTERM) it lets in nobody more, and ends with its last program.

An init's own way (`ACCEPT`) makes each connection an instance of the job, with all that it has;
this is for those who need thousands of them a second.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import socket
import sys
from collections import Counter
from typing import Final

from hostlab.activation.inherited import ActivationError, given

DEFAULT_MAX: Final = 1000
ACCEPTS_AT_ONCE: Final = 64
PLAIN_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)


class Acceptor:
    """The loop."""

    def __init__(
        self,
        listeners: list[socket.socket],
        argv: list[str],
        *,
        most: int,
        per_source: int,
        idle_s: float | None,
    ) -> None:
        self.listeners = {each.fileno(): each for each in listeners}
        self.argv = argv
        self.most, self.per_source, self.idle_s = most, per_source, idle_s
        self.running: dict[int, str] = {}
        """Process -> whose connection it has."""
        self.sources: Counter[str] = Counter()
        self.leaves = False
        self.listens = False
        self.environment = dict(os.environb)
        self.poll = select.poll()
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writer)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        self.wakeup = reader
        self.poll.register(reader, select.POLLIN)

    def run(self) -> None:
        """Serve until it is idle, or told to end."""
        while not (self.leaves and not self.running):
            self._listen(wanted=not self.leaves and len(self.running) < self.most)
            is_idle = not self.running and self.idle_s is not None
            ready = self.poll.poll(self.idle_s * 1000 if is_idle and self.idle_s else None)
            if not ready and is_idle:
                return
            for fd, _ in ready:
                if fd == self.wakeup:
                    self._signalled()
                else:
                    self._accept_all(self.listeners[fd])

    def _listen(self, *, wanted: bool) -> None:
        if wanted == self.listens:
            return
        self.listens = wanted
        for fd in self.listeners:
            if wanted:
                self.poll.register(fd, select.POLLIN)
            else:
                self.poll.unregister(fd)

    def _signalled(self) -> None:
        self.leaves |= signal.SIGTERM in os.read(self.wakeup, 4096)
        while self.running:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self.sources[self.running.pop(pid)] -= 1

    def _accept_all(self, listener: socket.socket) -> None:
        """Those that wait, before it is looked at what else there is to do."""
        for _ in range(ACCEPTS_AT_ONCE):
            self._accept(listener)
            if len(self.running) >= self.most or not select.select([listener], [], [], 0)[0]:
                return

    def _accept(self, listener: socket.socket) -> None:
        """Nobody else accepts here, and somebody waits."""
        connection, peer = listener.accept()
        with connection:
            source = str(peer[0]).removeprefix("::ffff:") if isinstance(peer, tuple) else ""
            if self.per_source and source and self.sources[source] >= self.per_source:
                return
            environment = self.environment
            if source:
                environment = {
                    **environment,
                    b"REMOTE_ADDR": source.encode(),
                    b"REMOTE_PORT": b"%d" % peer[1],
                }
            fd = connection.fileno()
            actions = [(os.POSIX_SPAWN_DUP2, fd, 0), (os.POSIX_SPAWN_DUP2, fd, 1)]
            try:
                pid = os.posix_spawnp(
                    self.argv[0],
                    self.argv,
                    environment,
                    file_actions=actions,
                    setsigdef=(signal.SIGTERM, signal.SIGCHLD),
                )
            except OSError as error:
                sys.stderr.write(f"{self.argv[0]}: {error.strerror}\n")
                return
            self.running[pid] = source
            self.sources[source] += 1


def main() -> int:
    """As a program; exit status 0 when it was idle or told to end."""
    parser = argparse.ArgumentParser(prog="socket-acceptor", description=__doc__)
    parser.add_argument("--max", type=int, default=DEFAULT_MAX, metavar="N", help="at once")
    parser.add_argument("--per-source", type=int, default=0, metavar="N", help="of one address")
    parser.add_argument("--idle", type=float, metavar="SECONDS", help="end after so long")
    parser.add_argument("program", nargs=argparse.REMAINDER, metavar="PROGRAM")
    chosen = parser.parse_args()
    if not chosen.program:
        parser.error("it says no program")
    try:
        listeners = [each.socket for each in given() if not each.is_connection]
    except ActivationError as error:
        parser.error(str(error))
    if not listeners:
        parser.error("it was started without a socket; an init starts it on a connection")
    for each in listeners:
        each.setblocking(True)  # noqa: FBT003 - that is its signature
    with contextlib.suppress(KeyboardInterrupt):
        Acceptor(
            listeners,
            chosen.program,
            most=max(chosen.max, 1),
            per_source=chosen.per_source,
            idle_s=chosen.idle,
        ).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
