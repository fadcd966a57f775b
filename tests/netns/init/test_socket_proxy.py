"""A daemon nobody patched behind a socket: started, waited for, stopped when it is idle."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from pathlib import Path

import pytest

from hostlab.init.socket_programs import socket_programs
from hostlab.jobs import facts
from tests.netns.init.socket_site import DEADLINE_S, Listening, ask, free_port, run

pytestmark = pytest.mark.netns
PROXY = socket_programs()["socket-proxy"]
ACCEPTOR = socket_programs()["socket-acceptor"]

DAEMON = """
import socket, socketserver, sys, time
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line.upper())
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 100
Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def jobs(place: Listening, directory: Path, port: int, inner: int, idle_s: float = 0.3) -> None:
    """As `sockets: {listen: …, proxy: …, idle: …}` makes them, but for readiness by a file."""
    program = directory / "daemon.py"
    program.write_text(DAEMON)
    place.conf(
        "web-proxy",
        f"start on socket PROTO=inet PORT={port} ADDR=127.0.0.1\nkill timeout 60\n"
        f"script\n{PROXY} --idle {idle_s} 127.0.0.1:{inner}\nend script\n",
    )
    place.conf(
        "web",
        "start on starting web-proxy\nstop on stopped web-proxy\n"
        f"exec {sys.executable} {program} {inner}\n"
        f"post-start script\nuntil {sys.executable} -c 'import socket; "
        f'socket.create_connection(("127.0.0.1", {inner}))\' 2>/dev/null; do :; done\nend script',
    )


def test_it_is_started_waited_for_and_stopped_when_idle(tmp_path: Path) -> None:
    port, inner = free_port(), free_port()

    async def test(place: Listening) -> None:
        jobs(place, tmp_path, port, inner)
        assert "web" in place.jobs.engine.classes
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.setblocking(False)
                client.sendall(b"words\n")
                async with asyncio.timeout(DEADLINE_S):
                    loop = asyncio.get_running_loop()
                    assert await loop.sock_recv(client, 100) == b"WORDS\n"
            await place.gone("web-proxy")
            await place.gone("web")
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", inner))

    run(tmp_path, test)


def test_no_client_is_lost_at_the_edge_of_idleness(tmp_path: Path) -> None:
    """Clients come just when it ends, again and again."""
    port, inner = free_port(), free_port()
    big = b"x" * 300_000 + b"\n"

    async def test(place: Listening) -> None:
        jobs(place, tmp_path, port, inner, idle_s=0.05)

        async def client(number: int) -> None:
            await asyncio.sleep(0.06 * (number % 7))
            loop = asyncio.get_running_loop()
            with socket.create_connection(("127.0.0.1", port)) as made:
                made.setblocking(False)
                sending = asyncio.ensure_future(loop.sock_sendall(made, big))
                got = b""
                async with asyncio.timeout(DEADLINE_S):
                    while len(got) < len(big):
                        more = await loop.sock_recv(made, 65536)
                        assert more, f"client {number} was cut off after {len(got)} bytes"
                        got += more
                    await sending
            assert got == big.upper()

        for round_ in range(4):
            await asyncio.gather(*(client(n + round_) for n in range(5)))
        await place.gone("web-proxy")
        await place.gone("web")

    run(tmp_path, test)


def test_a_daemon_that_is_not_there(tmp_path: Path) -> None:
    """The client is told, the proxy fails, and the limit ends it."""
    port, inner = free_port(), free_port()

    async def test(place: Listening) -> None:
        place.conf(
            "proxy",
            f"start on socket PROTO=inet PORT={port} ADDR=127.0.0.1\n"
            f"script\n{PROXY} 127.0.0.1:{inner}\nend script\n",
        )
        assert await ask(("127.0.0.1", port), b"x") == b""
        await place.gone("proxy")
        last = place.jobs.engine.classes["proxy"].last
        assert last is not None
        assert (last.failed, last.exit_status) == (True, 1)

    run(tmp_path, test)


def test_it_lets_its_last_client_finish(tmp_path: Path) -> None:
    port, inner = free_port(), free_port()

    async def test(place: Listening) -> None:
        jobs(place, tmp_path, port, inner, idle_s=60)
        loop = asyncio.get_running_loop()
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.setblocking(False)
            client.sendall(b"one\n")
            async with asyncio.timeout(DEADLINE_S):
                assert await loop.sock_recv(client, 100) == b"ONE\n"
                place.jobs.tell(facts.Stop(job="web-proxy"))
                client.sendall(b"two\n")
                assert await loop.sock_recv(client, 100) == b"TWO\n"
        await place.gone("web-proxy")
        with contextlib.suppress(ConnectionRefusedError):
            await place.gone("web")

    run(tmp_path, test)


def test_one_process_accepts_for_many_programs(tmp_path: Path) -> None:
    """inetd's way outside of the engine: a process a connection, bounds, and an end when idle."""
    port = free_port()

    async def test(place: Listening) -> None:
        program = "sh -c 'read word; echo \"$word $REMOTE_ADDR\"'"
        place.conf(
            "line",
            f"start on socket PROTO=inet PORT={port} ADDR=127.0.0.1\n"
            f"script\n{ACCEPTOR} --max 3 --idle 0.3 {program}\nend script\n",
        )
        address = ("127.0.0.1", port)
        answers = await asyncio.gather(*(ask(address, b"w%d\n" % n) for n in range(20)))
        assert answers == [b"w%d 127.0.0.1\n" % n for n in range(20)]
        await place.gone("line")
        last = place.jobs.engine.classes["line"].last
        assert last is not None
        assert not last.failed
        assert await ask(address, b"again\n") == b"again 127.0.0.1\n"

    run(tmp_path, test)


def test_of_one_address_no_more_than_it_may(tmp_path: Path) -> None:
    port = free_port()

    async def test(place: Listening) -> None:
        place.conf(
            "line",
            f"start on socket PROTO=inet PORT={port} ADDR=127.0.0.1\n"
            f"script\n{ACCEPTOR} --per-source 1 cat\nend script\n",
        )
        loop = asyncio.get_running_loop()
        with socket.create_connection(("127.0.0.1", port)) as first:
            first.setblocking(False)
            first.sendall(b"word")
            async with asyncio.timeout(DEADLINE_S):
                assert await loop.sock_recv(first, 100) == b"word"
            assert await ask(("127.0.0.1", port)) == b""

    run(tmp_path, test)
