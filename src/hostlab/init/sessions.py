"""Commands that clients run inside a node.

A command gets its caller's own descriptors, so nothing of ours stands between a program and the
terminal, pipe or file it is used with. Only an interactive one has a terminal made for it, inside
the node, whose master end goes back to the caller.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
import termios
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from hostlab.errors import UsageError
from hostlab.init.connection import Connection
from hostlab.init.spawning.child import EXECUTE
from hostlab.init.spawning.process import ProcessSetup, SpawnFailed, exit_of, signal_group, spawn
from hostlab.init.supervisor import Request

TIOCSPTLCK: Final = 0x40045431
TIOCGPTN: Final = 0x80045430
"""include/uapi/asm-generic/ioctls.h; Python's termios lacks them."""
KEY: Final = "exec"
"""How the holder names the processes of clients."""


class Surroundings(Protocol):
    """What sessions need of their supervisor."""

    channel: socket.socket

    def wait_for_room(self) -> None:
        """Wait until the holder takes what a new process says first."""
        ...

    def setup(
        self, argv: tuple[str, ...], extra: Mapping[str, str], **changes: Any
    ) -> ProcessSetup:
        """A process with everything that the node prescribes, and these changes."""
        ...

    def ended(self, pid: int) -> Awaitable[int]:
        """The wait status of a process, when it has ended."""
        ...


class Sessions:
    """The commands of every client."""

    def __init__(self, around: Surroundings) -> None:
        self.around = around
        self._pids: dict[Connection, set[int]] = {}

    @property
    def handlers(self) -> dict[str, Callable[[Request], Awaitable[Any]]]:
        """Operation -> what serves it."""
        return {"exec": self.exec, "signal": self.signal}

    def disconnected(self, connection: Connection) -> None:
        """A client that goes away hangs up on what it started, as a terminal does."""
        for pid in self._pids.pop(connection, ()):
            signal_group(pid, signal.SIGHUP)

    async def exec(self, request: Request) -> dict[str, Any]:
        """Run a program for a client with the client's descriptors, or on a terminal."""
        pid = request.carried.get("pid")
        if pid is None:
            pid = self._start(request)
        ended = self.around.ended(pid)
        sessions = self._pids.setdefault(request.connection, set())
        sessions.add(pid)
        if not request.connection.is_open:
            self.disconnected(request.connection)
        status = await ended
        sessions.discard(pid)
        return exit_of(status)

    def _start(self, request: Request) -> int:
        message = request.message
        tty = message.get("tty")
        fds = [] if tty else request.take(3)
        master = -1
        try:
            argv = tuple(map(str, message["argv"]))
            if not argv:
                raise UsageError("no-command", "nothing to run")
            if tty:
                master, terminal = _open_terminal(int(tty["rows"]), int(tty["columns"]))
                fds = [terminal, terminal, terminal]
            setup = self.around.setup(
                argv,
                {str(k): str(v) for k, v in message.get("environment", {}).items()},
                user=message.get("user"),
                directory=message.get("directory", "/"),
                descriptors=tuple(fds),
                controlling_tty=bool(tty),
            )
            pid, pidfd = self._spawn_command(setup)
            os.close(pidfd)
            request.carried["pid"] = pid
            request.reply({"pid": pid}, more=True, fds=(master,) if tty else ())
        finally:
            for fd in {*fds, master} - {-1}:
                os.close(fd)
        return pid

    def _spawn_command(self, setup: ProcessSetup) -> tuple[int, int]:
        self.around.wait_for_room()
        try:
            return spawn(setup, key=KEY, channel=self.around.channel)
        except SpawnFailed as failed:
            failed.code = "not-found" if failed.step == EXECUTE else "spawn"
            raise

    async def signal(self, request: Request) -> None:
        """Send a signal to a command that this client started."""
        pid, number = int(request.message["pid"]), int(request.message["signal"])
        if pid in self._pids.get(request.connection, ()):
            signal_group(pid, number)


def _open_terminal(rows: int, columns: int) -> tuple[int, int]:
    """A new terminal of this mount namespace: (master, slave)."""
    master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    fcntl.ioctl(master, TIOCSPTLCK, struct.pack("i", 0))
    number = struct.unpack("I", fcntl.ioctl(master, TIOCGPTN, bytes(4)))[0]
    slave = os.open(f"/dev/pts/{number}", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    return master, slave
