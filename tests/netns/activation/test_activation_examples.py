"""The services of examples/activation, started in each way that they are for."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.netns.activation.activation_site import (
    DEADLINE_S,
    EXAMPLES,
    SYSTEMD,
    command,
    connect,
    environment,
    exchange,
    free_port,
    running,
    systemd,
    upstart,
)

pytestmark = pytest.mark.netns

GET = b"GET /some/path HTTP/1.0\r\n\r\n"
needs_systemd = pytest.mark.skipif(not shutil.which(SYSTEMD), reason=f"here: no {SYSTEMD}")

# Name, host, what is sent, what is to be in the answer, and whether it ends by itself.
SERVICES = [
    ("echo.py", "127.0.0.1", b"Hello", b"I got your message: Hello", True),
    ("upper.py", "127.0.0.1", b"Test String\n", b"TEST STRING", True),
    ("page.py", "127.0.0.1", GET, b"You accessed path: /some/path<br />", True),
    ("files.py", "::1", b"GET /echo.py HTTP/1.0\r\n\r\n", b"The echo service", True),
    ("application.py", "127.0.0.1", GET, b"You accessed path: /some/path\n", True),
    ("stream.py", "127.0.0.1", b"one\ntwo\n", b"ONE\nTWO\n", False),
]
services = pytest.mark.parametrize(
    ("name", "host", "sent", "expected", "ends"), SERVICES, ids=[row[0] for row in SERVICES]
)


@services
def test_by_hand(name: str, host: str, sent: bytes, expected: bytes, ends: bool) -> None:
    """It binds its own address, and goes on after the first request."""
    port = free_port(socket.AF_INET6 if ":" in host else socket.AF_INET)
    how = {"env": environment(), "cwd": EXAMPLES, "stderr": subprocess.DEVNULL}
    with running([*command(name), str(port)], **how) as process:
        for _ in range(2):
            assert expected in exchange(connect((host, port), process), sent)
        assert process.poll() is None


@services
def test_as_upstart_does(name: str, host: str, sent: bytes, expected: bytes, ends: bool) -> None:
    """Each instance is given the listening socket, under a number that is not 3."""
    with contextlib.chdir(EXAMPLES), upstart(command(name), host) as bridge:
        assert bridge.socket.fileno() != 3
        for _ in range(2 if ends else 1):
            connection = connect(bridge.address)
            process = bridge.trigger()
            try:
                assert expected in exchange(connection, sent)
                if ends:
                    assert process.wait(DEADLINE_S) == 0
            finally:
                process.kill()
                process.wait()


@needs_systemd
@services
def test_as_systemd_does(name: str, host: str, sent: bytes, expected: bytes, ends: bool) -> None:
    """One descriptor, number 3; the value of LISTEN_FDS is 1, which is standard output."""
    address = (host, free_port(socket.AF_INET6 if ":" in host else socket.AF_INET))
    with contextlib.chdir(EXAMPLES), systemd(command(name), address) as process:
        assert expected in exchange(connect(address), sent)
        if ends:
            assert process.wait(DEADLINE_S) == 0


@pytest.fixture(scope="module")
def echo_in_c(tmp_path_factory: pytest.TempPathFactory) -> str:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("here: no C compiler")
    path = tmp_path_factory.mktemp("activation") / "test-service"
    source = EXAMPLES / "test-service.c"
    subprocess.run([compiler, "-w", "-o", path, source], check=True, timeout=DEADLINE_S)
    return str(path)


def test_the_c_service_unchanged(echo_in_c: str) -> None:
    with upstart([echo_in_c]) as bridge:
        for _ in range(2):
            connection = connect(bridge.address)
            with bridge.trigger() as process:
                assert exchange(connection, b"Hello!") == b"I got your message: Hello!"
                assert process.wait(DEADLINE_S) == 0


def test_the_python_service_unchanged() -> None:
    with upstart(command("test-service.py")) as bridge:
        connection = connect(bridge.address)
        with bridge.trigger() as process:
            assert exchange(connection, b"Hello") == b"I got your message: Hello"
            assert process.wait(DEADLINE_S) == 0


def test_the_script_that_never_accepts(tmp_path: Path) -> None:
    """The port is only a trigger; who activates it must take the connection away, or it storms."""
    out = tmp_path / "outfile"
    with upstart(command("test-script"), OUTFILE=str(out)) as bridge:
        with connect(bridge.address), bridge.trigger() as process:
            assert process.wait(DEADLINE_S) == 0
        variables = dict(line.split("=", 1) for line in out.read_text().splitlines() if "=" in line)
        assert variables["UPSTART_FDS"] == str(bridge.socket.fileno())


def test_who_connects_while_it_ends_waits_for_the_next() -> None:
    """Many clients, an instance for each: none is refused, none is lost."""
    with upstart(command("page.py")) as bridge:
        waiting = [connect(bridge.address) for _ in range(5)]
        for connection in waiting:
            connection.sendall(GET)
        for connection in waiting:
            with bridge.trigger() as process:
                assert b"/some/path" in exchange(connection, b"")
                assert process.wait(DEADLINE_S) == 0


def test_a_web_server_on_a_unix_socket(tmp_path: Path) -> None:
    """Its clients have no address, which http.server wants to log."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(path)
        listener.listen()
        client.settimeout(DEADLINE_S)
        client.connect(path)
        fd = listener.fileno()
        variables = environment(UPSTART_FDS=str(fd))
        with running(command("page.py"), env=variables, pass_fds=(fd,)) as process:
            assert b"/some/path" in exchange(client, GET)
            assert process.wait(DEADLINE_S) == 0


@needs_systemd
def test_one_socket_of_several_by_its_name() -> None:
    """Two listeners with names, as a unit's FileDescriptorName= gives them."""
    program = (
        "from hostlab import activation\n"
        "listener = activation.listener(('127.0.0.1', 1), name='admin')\n"
        "print([each.name for each in activation.given()], listener.getsockname()[1])\n"
        "try: activation.listener(('127.0.0.1', 1), name='other')\n"
        "except activation.ActivationError as error: print(error)\n"
    )
    addresses = ("127.0.0.1", free_port()), ("::1", free_port(socket.AF_INET6))
    argv = [sys.executable, "-c", program]
    with systemd(argv, *addresses, options=("--fdname=web:admin",)) as process:
        connect(addresses[0]).close()
        assert process.stdout is not None
        names, error = process.stdout.read().splitlines()
    assert names == f"['web', 'admin'] {addresses[1][1]}"
    assert error.startswith("0 sockets could be meant by one of type SOCK_STREAM called other")
