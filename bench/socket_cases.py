"""How fast a connection finds its service (issue 5, "Speed")."""

from __future__ import annotations

import contextlib
import shutil
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

from bench import ours_sockets, peers
from bench.measure import Benchmark, Contender, Metrics, Target
from bench.ours_sockets import DEADLINE_S, ECHO, LINE

CONNECTIONS = 1000
STARTS = 40
AT_ONCE = 8
SYSTEMD = "systemd-socket-activate"
ACCEPTOR = "hostlab, socket-acceptor"


def activation_case(times: int = STARTS) -> Benchmark:
    """A service that is not running, asked for one answer."""
    return Benchmark(
        name="activation",
        title="connection to first byte, the service not running: a C echo service",
        contenders=(
            Contender("hostlab", lambda: _activated(times), ours_sockets.compiler_missing),
            Contender(
                SYSTEMD,
                lambda: _activated_by_systemd(times),
                lambda: peers.command_missing(SYSTEMD, "systemd"),
            ),
        ),
        targets=(Target("first_byte_ms", 1.0, SYSTEMD),),
        rounds=5,
    )


def connections_case(connections: int = CONNECTIONS) -> Benchmark:
    """An instance of a service for each connection."""
    inetd = f"{SYSTEMD} --inetd -a"
    return Benchmark(
        name="connections",
        title=f"{connections:,} connections, {AT_ONCE} at a time, each an instance of a C service",
        contenders=(
            Contender("hostlab", lambda: _each(connections), ours_sockets.compiler_missing),
            Contender(ACCEPTOR, lambda: _each_by_one(connections), ours_sockets.compiler_missing),
            Contender(
                inetd,
                lambda: _each_by(_systemd_argv, connections),
                lambda: peers.command_missing(SYSTEMD, "systemd"),
            ),
            Contender(
                "tcpserver",
                lambda: _each_by(_tcpserver_argv, connections),
                lambda: peers.command_missing("tcpserver", "ucspi-tcp"),
            ),
        ),
        targets=(
            Target("each_ms", 1.0, inetd),
            Target("each_ms", 1.0, "tcpserver"),
            Target("each_ms", 1.0, inetd, own=ACCEPTOR),
        ),
        rounds=5,
    )


def first_byte_ms(port: int) -> float:
    """From connect(2) to the first byte of the answer, in milliseconds."""
    with socket.socket() as client:
        client.settimeout(DEADLINE_S)
        begin = time.perf_counter()
        client.connect(("127.0.0.1", port))
        client.send(b"x")
        if client.recv(1) != b"x":
            raise RuntimeError("no answer")
        took_ms = (time.perf_counter() - begin) * 1e3
        client.recv(1)
    return took_ms


def _activated(times: int) -> Metrics:
    port = ours_sockets.free_port()
    program = ours_sockets.service(ECHO)
    job = f"start on socket PROTO=inet PORT={port} ADDR=127.0.0.1 LIMIT=0/1s\nexec {program}\n"
    with ours_sockets.Init(job) as init:
        took = []
        for _ in range(times):
            init.wait_stopped()
            took.append(first_byte_ms(port))
    return {"first_byte_ms": statistics.median(took)}


def _activated_by_systemd(times: int) -> Metrics:
    """It becomes its service, so each connection has another, which listens before it begins."""
    took = []
    for _ in range(times):
        port = ours_sockets.free_port()
        argv = [SYSTEMD, "-l", f"127.0.0.1:{port}", ours_sockets.service(ECHO)]
        with subprocess.Popen(argv, stderr=subprocess.PIPE) as process:
            assert process.stderr is not None
            process.stderr.readline()
            try:
                took.append(first_byte_ms(port))
                process.wait(DEADLINE_S)
            finally:
                process.kill()
    return {"first_byte_ms": statistics.median(took)}


def _each(connections: int) -> Metrics:
    port = ours_sockets.free_port()
    words = f"PROTO=inet PORT={port} ADDR=127.0.0.1 ACCEPT=inetd LIMIT=0/1s MAXCONN=1000"
    program = ours_sockets.service(LINE)
    job = f"start on socket {words}\ninstance $CONNECTION\nexec {program}\n"
    with ours_sockets.Init(job):
        return {"each_ms": _all(port, connections)}


def _each_by_one(connections: int) -> Metrics:
    """A job that accepts for all and starts a process for each, which is no instance of a job."""
    port = ours_sockets.free_port()
    words = f"PROTO=inet PORT={port} ADDR=127.0.0.1"
    program = ours_sockets.service(LINE)
    job = f"start on socket {words}\nexec socket-acceptor {program}\n"
    with ours_sockets.Init(job):
        first_byte_ms(port)
        return {"each_ms": _all(port, connections)}


def _each_by(argv: Callable[[int, str], list[str]], connections: int) -> Metrics:
    port = ours_sockets.free_port()
    with _running(argv(port, ours_sockets.service(LINE)), port):
        return {"each_ms": _all(port, connections)}


def _systemd_argv(port: int, program: str) -> list[str]:
    return [SYSTEMD, "--inetd", "-a", "-l", f"127.0.0.1:{port}", program]


def _tcpserver_argv(port: int, program: str) -> list[str]:
    path = shutil.which("tcpserver") or "tcpserver"
    return [path, "-RHl0", "-c", "1000", "127.0.0.1", str(port), program]


@contextlib.contextmanager
def _running(argv: list[str], port: int) -> Iterator[None]:
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as process:
        try:
            ours_sockets.until(lambda: _answers(port), argv[0])
            yield
        finally:
            process.kill()


def _answers(port: int) -> bool:
    try:
        first_byte_ms(port)
    except OSError:
        return False
    return True


def _all(port: int, connections: int) -> float:
    """Milliseconds a connection, from the first to the last answer, by several clients."""
    left = iter(range(connections))
    lock = threading.Lock()
    errors: list[BaseException] = []

    def client() -> None:
        try:
            while True:
                with lock:
                    if next(left, None) is None:
                        return
                first_byte_ms(port)
        except BaseException as error:
            errors.append(error)

    clients = [threading.Thread(target=client) for _ in range(AT_ONCE)]
    begin = time.perf_counter()
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    if errors:
        raise errors[0]
    return (time.perf_counter() - begin) * 1e3 / connections


SOCKET_CASES: dict[str, Callable[[], Benchmark]] = {
    "activation": activation_case,
    "connections": connections_case,
}
