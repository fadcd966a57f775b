"""A job that is stopped when nobody is connected, and loses nobody who comes just then."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import pytest

from hostlab.init.sources import idleness
from hostlab.init.sources.idleness import shut_door
from hostlab.init.sources.listener import Listener
from tests.netns.init.socket_site import DEADLINE_S, Listening, ask, free_port, run

pytestmark = pytest.mark.netns

SERVE = """
import socket
listener = socket.socket(fileno=3)
while True:
    connection = listener.accept()[0]
    with connection:
        while words := connection.recv(1000):
            connection.sendall(words.upper())
"""


def serve(place: Listening, directory: Path, port: int, idle: str) -> None:
    program = directory / "serve.py"
    program.write_text(SERVE)
    place.conf(
        "serve",
        f"start on socket PROTO=inet PORT={port} ADDR=127.0.0.1 IDLE={idle} LIMIT=0/2s\n"
        f"exec {sys.executable} {program}\n",
    )


async def talk(port: int, words: bytes) -> bytes:
    """A client that connects while others do."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setblocking(False)
        async with asyncio.timeout(DEADLINE_S):
            await loop.sock_connect(client, ("127.0.0.1", port))
            await loop.sock_sendall(client, words)
            return await loop.sock_recv(client, 1000)


def test_it_is_stopped_when_the_last_client_has_gone_and_started_by_the_next(
    tmp_path: Path,
) -> None:
    port = free_port()

    async def test(place: Listening) -> None:
        serve(place, tmp_path, port, "200ms")
        loop = asyncio.get_running_loop()
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.setblocking(False)
            pid = await place.runs("serve")
            # Somebody who says nothing is somebody.
            await asyncio.sleep(0.5)
            assert await place.runs("serve") == pid
            await loop.sock_sendall(client, b"one")
            async with asyncio.timeout(DEADLINE_S):
                assert await loop.sock_recv(client, 100) == b"ONE"
        await place.gone("serve")
        assert await talk(port, b"two") == b"TWO"
        await place.gone("serve")

    run(tmp_path, test)


def test_nobody_is_lost_at_the_edge_of_idleness(tmp_path: Path) -> None:
    port = free_port()

    async def test(place: Listening) -> None:
        serve(place, tmp_path, port, "20ms")

        async def client(number: int) -> None:
            for turn in range(8):
                words = b"client %d, turn %d" % (number, turn)
                assert await talk(port, words) == words.upper()
                await asyncio.sleep(0.02 + 0.003 * number)

        await asyncio.gather(*(client(number) for number in range(4)))
        await place.gone("serve")

    run(tmp_path, test)


def test_who_comes_between_the_last_look_and_the_end_waits_for_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The door is shut: the client's first word is not answered, its second one is."""
    port = free_port()
    late: list[socket.socket] = []

    async def test(place: Listening) -> None:
        serve(place, tmp_path, port, "100ms")
        looked = idleness._connections
        shut: list[Listener] = []

        def shut_and_note(listener: Listener) -> None:
            shut_door(listener)
            shut.append(listener)

        def look(listener: Listener) -> int:
            found = looked(listener)
            if shut and not late:
                client = socket.socket()
                client.setblocking(False)
                client.connect_ex(("127.0.0.1", port))
                late.append(client)
            return found

        monkeypatch.setattr(idleness, "_connections", look)
        monkeypatch.setattr(idleness, "shut_door", shut_and_note)
        assert await talk(port, b"one") == b"ONE"
        await place.gone("serve")
        assert len(late) == 1
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(DEADLINE_S):
            await loop.sock_sendall(late[0], b"two")
            assert await loop.sock_recv(late[0], 100) == b"TWO"
        late[0].close()

    run(tmp_path, test)


def test_a_supervisor_that_died_with_the_door_shut(tmp_path: Path) -> None:
    port = free_port()

    async def test(place: Listening) -> None:
        serve(place, tmp_path, port, "1m")
        assert await talk(port, b"one") == b"ONE"
        for listener in place.source._listeners.values():
            shut_door(listener)
        place.die()
        place.begin()
        assert await talk(port, b"two") == b"TWO"

    run(tmp_path, test)


def test_of_what_cannot_be_seen_it_says_so(tmp_path: Path) -> None:
    async def test(place: Listening) -> None:
        name = f"@{os.getpid()}"
        place.conf("x", f"start on socket PROTO=unix PATH={name} IDLE=1s\nexec true")
        assert "idleness is seen of TCP only" in place.said[0]
        with pytest.raises(ConnectionRefusedError):
            await ask(f"\0{name[1:]}", family=socket.AF_UNIX)

    run(tmp_path, test)
