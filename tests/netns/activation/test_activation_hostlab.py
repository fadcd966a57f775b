"""The services of examples/activation under hostlab: no word of them is changed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest

from hostlab.jobs import facts
from tests.netns.activation.activation_site import EXAMPLES, SOURCE, command, free_port
from tests.netns.activation.test_activation_examples import GET, services
from tests.netns.init.socket_site import DEADLINE_S, Listening, ask, run

pytestmark = pytest.mark.netns


def job(name: str, host: str, port: int) -> str:
    proto = "inet6" if ":" in host else "inet"
    return (
        f"start on socket PROTO={proto} PORT={port} ADDR={host}\n"
        f"chdir {EXAMPLES}\nenv PYTHONPATH={SOURCE}\nexec {' '.join(command(name))}\n"
    )


@services
def test_as_hostlab_does(
    name: str, host: str, sent: bytes, expected: bytes, ends: bool, tmp_path: Path
) -> None:
    """It is started by the connection, again and again if it ends; nobody waits for the second."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    port = free_port(family)

    async def test(place: Listening) -> None:
        place.conf("service", job(name, host, port))
        for _ in range(2):
            answer = await _exchange((host, port), sent, family)
            assert expected in answer
            if ends:
                await place.gone("service")
                last = place.jobs.engine.classes["service"].last
                assert last is not None
                assert not last.failed, last

    run(tmp_path, test)


async def _exchange(address: tuple[str, int], sent: bytes, family: int) -> bytes:
    """All that is answered, the writing side closed as a client of one request does."""
    loop = asyncio.get_running_loop()
    with socket.socket(family) as client:
        client.setblocking(False)
        async with asyncio.timeout(DEADLINE_S):
            await loop.sock_connect(client, address)
            await loop.sock_sendall(client, sent)
            client.shutdown(socket.SHUT_WR)
            answer = b""
            while more := await loop.sock_recv(client, 65536):
                answer += more
            return answer


def test_many_clients_of_a_service_that_handles_one(tmp_path: Path) -> None:
    """`handle_request` and exit: an instance after the other, none is refused, none is lost."""
    port = free_port()

    async def test(place: Listening) -> None:
        place.conf("page", job("page.py", "127.0.0.1", port))
        answers = await asyncio.gather(*(ask(("127.0.0.1", port), GET) for _ in range(8)))
        assert all(b"You accessed path: /some/path" in each for each in answers)
        with contextlib.suppress(Exception):
            place.jobs.tell(facts.Stop(job="page"))

    run(tmp_path, test)
