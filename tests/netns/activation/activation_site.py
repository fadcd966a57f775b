"""Three ways to start the same service: by hand, as Upstart does, by systemd-socket-activate."""

from __future__ import annotations

import contextlib
import os
import random
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import hostlab

DEADLINE_S = 60.0
EXAMPLES = Path(__file__).parents[3] / "examples" / "activation"
SOURCE = str(Path(hostlab.__file__).parents[1])
SYSTEMD = "systemd-socket-activate"
_GIVEN: set[int] = set()
KEPT = ("PYTHONPATH", "PATH", "HOSTLAB_TEST_RUN", "OUTFILE")


def environment(**more: str) -> dict[str, str]:
    """Of a service."""
    return {**{name: os.environ[name] for name in KEPT if name in os.environ},
            "PYTHONPATH": SOURCE, **more}  # fmt: skip


def command(name: str) -> list[str]:
    """What starts an example; one in Python by this Python."""
    path = EXAMPLES / name
    return [sys.executable, str(path)] if path.suffix == ".py" else [str(path)]


def free_port(family: socket.AddressFamily = socket.AF_INET) -> int:
    """A port of the loopback that nobody has, and that no client is given meanwhile.

    So it is none of those that the kernel chooses from, and never the same twice.
    """
    host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(10_000, first) if first > 20_000 else 0
        with (
            contextlib.suppress(OSError),
            socket.socket(family) as stream,
            socket.socket(family, socket.SOCK_DGRAM) as datagram,
        ):
            stream.bind((host, port))
            port = int(stream.getsockname()[1])
            datagram.bind((host, port))
            if port not in _GIVEN:
                _GIVEN.add(port)
                return port


@contextlib.contextmanager
def running(argv: list[str], **how: object) -> Iterator[subprocess.Popen[str]]:
    """A process that is ended at the end."""
    with subprocess.Popen(argv, text=True, **how) as process:  # type: ignore[call-overload]  # as its
        try:
            yield process
        finally:
            process.kill()


def connect(
    address: tuple[str, int], process: subprocess.Popen[str] | None = None
) -> socket.socket:
    """A connection, as soon as somebody listens; not to one that has ended."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            return socket.create_connection(address, timeout=DEADLINE_S)
        except ConnectionRefusedError:
            if process is None or time.monotonic() > deadline:
                raise
            with contextlib.suppress(subprocess.TimeoutExpired):
                raise AssertionError(f"it ended: {process.wait(0.02)}") from None


def exchange(connection: socket.socket, sent: bytes) -> bytes:
    """All that is answered."""
    with connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while more := connection.recv(65536):
            answer += more
        return answer


class Upstart:
    """The protocol of upstart-socket-bridge: who connects starts the service.

    The listening socket is passed under the number that it has here, in UPSTART_FDS; the service
    accepts. As long as one instance runs no other is started.
    """

    def __init__(self, argv: list[str], address: tuple[str, int], **more: str) -> None:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.socket = socket.create_server(address, family=family)
        self.argv = argv
        self.more = more

    @property
    def address(self) -> tuple[str, int]:
        host, port, *_ = self.socket.getsockname()
        return host, port

    def trigger(self) -> subprocess.Popen[str]:
        """Start the service, once somebody has connected."""
        assert select.select([self.socket], [], [], DEADLINE_S)[0], "nobody has connected"
        fd = self.socket.fileno()
        variables = environment(UPSTART_FDS=str(fd), UPSTART_EVENTS="socket", **self.more)
        return subprocess.Popen(self.argv, env=variables, pass_fds=(fd,), text=True)

    def close(self) -> None:
        self.socket.close()


@contextlib.contextmanager
def upstart(argv: list[str], host: str = "127.0.0.1", **more: str) -> Iterator[Upstart]:
    bridge = Upstart(argv, (host, 0), **more)
    try:
        yield bridge
    finally:
        bridge.close()


@contextlib.contextmanager
def systemd(
    argv: list[str], *addresses: tuple[str, int], options: Sequence[str] = ()
) -> Iterator[subprocess.Popen[str]]:
    """systemd-socket-activate, listening; it becomes the service when somebody connects."""
    words = list(options)
    for host, port in addresses:
        words += ["-l", f"[{host}]:{port}" if ":" in host else f"{host}:{port}"]
    for name in KEPT:
        words += ["-E", name]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with running([SYSTEMD, *words, *argv], env=environment(), **pipes) as process:
        assert process.stderr is not None
        for _ in addresses:
            line = process.stderr.readline()
            assert "Listening" in line, line
        yield process
