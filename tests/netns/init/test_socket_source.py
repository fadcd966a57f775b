"""The source of sockets on the real kernel: who connects starts a job, and nobody is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hostlab.init.sources.listener import SO_TIMESTAMPNS, Listener
from hostlab.jobs import facts
from hostlab.linux import accept_queue
from hostlab.spec.job import Job, Match
from hostlab.spec.sockets import parse
from hostlab.spec.upstart import load_conf
from tests.netns.init.engine_site import as_nobody
from tests.netns.init.socket_site import (
    DEADLINE_S,
    EXAMPLES,
    Listening,
    ask,
    free_port,
    in_own_network,
    listening,
    run,
)

pytestmark = pytest.mark.netns
PYTHON = sys.executable
ECHO = f"exec {PYTHON} {EXAMPLES}/test-service.py"


def inet(port: int, more: str = "") -> str:
    return f"start on socket PROTO=inet PORT={port} ADDR=127.0.0.1 {more}\n"


def at(port: int) -> tuple[str, int]:
    return ("127.0.0.1", port)


def last(place: Listening, job: str) -> str:
    """Why a job has failed; nothing when it has not."""
    found = place.jobs.engine.classes[job].last
    return found.trouble if found is not None and found.failed else ""


def test_the_python_service_unchanged_once_a_connection(tmp_path: Path) -> None:
    port = free_port()

    async def test(place: Listening) -> None:
        place.conf("echo", inet(port) + ECHO)
        for _ in range(3):
            assert await ask(at(port), b"Hello") == b"I got your message: Hello"
        answers = await asyncio.gather(*(ask(at(port), b"%d" % n) for n in range(5)))
        assert answers == [b"I got your message: %d" % n for n in range(5)]
        assert not place.said

    run(tmp_path, test)


def test_the_c_service_unchanged(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("here: no C compiler")
    program = tmp_path / "test-service"
    source = EXAMPLES / "test-service.c"
    subprocess.run([compiler, "-w", "-o", program, source], check=True, timeout=DEADLINE_S)
    port = free_port()

    async def test(place: Listening) -> None:
        place.conf("echo", inet(port) + f"exec {program}")
        for _ in range(2):
            assert await ask(at(port), b"Hello!") == b"I got your message: Hello!"

    run(tmp_path, test)


def test_the_script_that_never_accepts_runs_once_a_connection(tmp_path: Path) -> None:
    """Each client is sent away when the script has run for it, and the script does not storm."""
    port, runs = free_port(), tmp_path / "runs"

    async def test(place: Listening) -> None:
        text = inet(port) + f"env OUTFILE={tmp_path}/out\nexec {EXAMPLES}/test-script\n"
        place.conf("trigger", text + f"post-stop exec echo ran >> {runs}")
        assert await ask(at(port)) == b""
        assert await ask(at(port)) == b""
        # Who comes together has a run each.
        assert await asyncio.gather(*(ask(at(port)) for _ in range(3))) == [b""] * 3
        await place.gone("trigger")
        assert runs.read_text() == "ran\n" * 5
        said = (tmp_path / "out").read_text()
        assert "UPSTART_FDS=3\n" in said
        assert "UPSTART_EVENTS=socket\n" in said

    run(tmp_path, test)


SHOW = """
import os, socket, sys
names = [n for n in os.environ if n.startswith(("LISTEN", "UPSTART_F", "REMOTE", "PORT"))]
text = " ".join(f"{n}={os.environ[n]}" for n in sorted(names)).replace(
    "LISTEN_PID=%d" % os.getpid(), "LISTEN_PID=own")
fds = sorted(int(n) for n in os.listdir("/proc/self/fd") if int(n) > 2)
kinds = [socket.socket(fileno=os.dup(fd)).getsockname()[1] for fd in fds if fd < 3 + COUNT]
listener = socket.socket(fileno=os.dup(WHICH))
connection = listener.accept()[0] if ACCEPTS else listener
connection.sendall(f"{text} {kinds}".encode())
"""


def show(directory: Path, *, count: int, which: int = 3, accepts: bool = True) -> str:
    """A service that says what it was given."""
    path = directory / f"show{count}{which}{accepts}.py"
    text = SHOW.replace("COUNT", str(count)).replace("WHICH", str(which))
    path.write_text(text.replace("ACCEPTS", str(accepts)))
    return f"exec {PYTHON} {path}"


def test_both_protocols_at_once_and_several_sockets(tmp_path: Path) -> None:
    """All sockets of the job in its order, whichever it was that somebody connected to."""
    one, two = free_port(), free_port()

    async def test(place: Listening) -> None:
        text = (
            f"start on socket PROTO=inet PORT={one} ADDR=127.0.0.1 FDNAME=web\n"
            f"  or socket NAME=admin PROTO=inet PORT={two} ADDR=127.0.0.1\n"
        )
        joined = text.replace("\n  or", " or")
        place.conf("show", joined + show(tmp_path, count=2, which=4))
        expected = (
            f"LISTEN_FDNAMES=web:admin LISTEN_FDS=2 LISTEN_PID=own PORT={two} "
            f"UPSTART_FDS=3 4 [{one}, {two}]"
        )
        assert (await ask(at(two))).decode() == expected

    run(tmp_path, test)


def test_a_job_that_was_started_by_hand_has_its_sockets(tmp_path: Path) -> None:
    port = free_port()

    async def test(place: Listening) -> None:
        place.conf("echo", inet(port) + ECHO)
        place.jobs.tell(facts.Start(job="echo"))
        pid = await place.runs("echo")
        assert await ask(at(port), b"x") == b"I got your message: x"
        await place.gone("echo")
        assert pid > 0

    run(tmp_path, test)


def test_a_socket_of_a_job_that_listens(tmp_path: Path) -> None:
    """A unit's `.socket`: open while it runs, and its service is given all of it."""
    one, two = free_port(), free_port()
    operands = tuple(
        Match("socket", ("NAME=x.socket", "PROTO=inet", f"PORT={port}", "ADDR=127.0.0.1",
                         f"ORDER={order}", "FDNAME=x.socket"))
        for order, port in ((1, one), (0, two))
    )  # fmt: skip

    async def test(place: Listening) -> None:
        text = f"start on socket NAME=x.socket\n{show(tmp_path, count=2, which=4)}"
        service = load_conf(text, file="x.conf", name="x.service")
        place.load(Job(name="x.socket", listens=operands), service)
        with pytest.raises(ConnectionRefusedError):
            await ask(at(one))
        place.jobs.tell(facts.Start(job="x.socket"))
        answer = (await ask(at(one))).decode()
        assert answer.endswith(f"[{two}, {one}]")
        assert "LISTEN_FDNAMES=x.socket:x.socket" in answer
        await place.gone("x.service")
        place.jobs.tell(facts.Stop(job="x.socket"))
        with pytest.raises(ConnectionRefusedError):
            await ask(at(one))

    run(tmp_path, test)


def test_a_port_in_use_fails_the_job_and_says_why(tmp_path: Path) -> None:
    async def test(place: Listening) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            words = ("NAME=x.socket", "PROTO=inet", f"PORT={port}", "ADDR=127.0.0.1")
            place.load(Job(name="x.socket", listens=(Match("socket", words),)))
            place.jobs.tell(facts.Start(job="x.socket"))
            await place.gone("x.socket")
            place.conf("echo", inet(port) + ECHO)
            for name in ("x.socket", "echo"):
                assert "Address already in use (`ss -lntup` tells" in last(place, name)
            place.jobs.tell(facts.Start(job="echo"))
            await place.gone("echo")
            assert "open socket PROTO=inet" in last(place, "echo")
        # The port is free now: who asks for the job gets it.
        place.jobs.tell(facts.Start(job="echo"))
        await place.runs("echo")
        assert await ask(at(port), b"x") == b"I got your message: x"

    run(tmp_path, test)


def test_a_wrong_operand_costs_its_own_socket_only(tmp_path: Path) -> None:
    port = free_port()

    async def test(place: Listening) -> None:
        place.conf("wrong", inet(port, "BACKLOK=5") + ECHO)
        place.conf("echo", inet(port) + ECHO)
        assert await ask(at(port), b"x") == b"I got your message: x"
        assert last(place, "wrong").endswith("(did you mean `BACKLOG`?)")
        assert len(place.said) == 1

    run(tmp_path, test)


def test_a_storm_is_stopped_by_the_limit_and_the_clients_are_told(tmp_path: Path) -> None:
    port, runs = free_port(), tmp_path / "runs"

    async def test(place: Listening) -> None:
        place.conf(
            "bad", inet(port, "LIMIT=4/1m") + f"script\necho ran >> {runs}\nexit 3\nend script"
        )
        # It fails each time without taking anybody: the fifth start is refused.
        assert await ask(at(port)) == b""
        assert runs.read_text() == "ran\n" * 4
        assert "has started a job 4 times within 60 s and is closed" in last(place, "bad")
        with pytest.raises(ConnectionRefusedError):
            await ask(at(port))
        # Who starts it opens its socket again.
        place.jobs.tell(facts.Start(job="bad"))
        await place.gone("bad")
        assert runs.read_text() == "ran\n" * 5

    run(tmp_path, test)


def test_a_client_that_never_sends_holds_nobody_else(tmp_path: Path) -> None:
    """With an instance a connection; a job that accepts for itself has this in its own hands."""
    port = free_port()

    async def test(place: Listening) -> None:
        text = inet(port, "ACCEPT=inetd") + "instance $CONNECTION\nexec sh -c 'read x; echo $x'"
        place.conf("inetd", text)
        with socket.create_connection(at(port)):
            await place.runs("inetd")
            assert await ask(at(port), b"second\n") == b"second\n"

    run(tmp_path, test)


def test_an_instance_a_connection_both_ways(tmp_path: Path) -> None:
    """systemd's way and inetd's; the connection's end is an event that knows whose it was."""
    one, two = free_port(), free_port()

    async def test(place: Listening) -> None:
        place.conf("fd", inet(one, "ACCEPT=1") + "instance $CONNECTION\n"
                   + show(tmp_path, count=1, accepts=False))  # fmt: skip
        said = "instance $CONNECTION\nexec sh -c 'echo $REMOTE_ADDR $LISTEN_FDS; cat'"
        place.conf("std", inet(two, "ACCEPT=inetd") + said)
        text = "start on socket-closed JOB=fd REMOTE_ADDR=127.0.0.1\nexec sleep 1000"
        place.conf("seen", text)
        found = (await ask(at(one))).decode()
        assert "LISTEN_FDNAMES=connection LISTEN_FDS=1 LISTEN_PID=own" in found
        assert "REMOTE_ADDR=127.0.0.1 REMOTE_PORT=" in found
        await place.runs("seen")
        loop = asyncio.get_running_loop()
        with socket.create_connection(at(two)) as client:
            client.setblocking(False)
            await loop.sock_sendall(client, b"words")
            client.shutdown(socket.SHUT_WR)
            answer = b""
            async with asyncio.timeout(DEADLINE_S):
                while more := await loop.sock_recv(client, 100):
                    answer += more
            assert answer == b"127.0.0.1\nwords"
        await place.gone("std")
        assert len([each for each in place.jobs.logs.pipes() if "fd" in each]) <= 1

    run(tmp_path, test)


def test_no_more_connections_at_once_than_it_may_have(tmp_path: Path) -> None:
    """The one too many waits; of one address too many are sent away."""
    port, other = free_port(), free_port()

    async def test(place: Listening) -> None:
        held = "instance $CONNECTION\nexec sh -c 'echo here; read x'"
        place.conf("few", inet(port, "ACCEPT=inetd MAXCONN=2") + held)
        place.conf("each", inet(other, "ACCEPT=inetd PERSOURCE=1") + held)
        clients = [socket.create_connection(at(port)) for _ in range(3)]
        classes = place.jobs.engine.classes
        await place.until(lambda: len(classes["few"].instances) == 2, "two run")
        with _watched(place) as listener:
            assert accept_queue.count(listener) == 1
        clients[0].close()
        loop = asyncio.get_running_loop()
        clients[2].setblocking(False)
        async with asyncio.timeout(DEADLINE_S):
            assert await loop.sock_recv(clients[2], 100) == b"here\n"
        with socket.create_connection(at(other)):
            await place.runs("each")
            assert await ask(at(other)) == b""
        for client in clients:
            client.close()

    run(tmp_path, test)


@contextlib.contextmanager
def _watched(place: Listening):  # type: ignore[no-untyped-def]  # A generator of one socket.
    listener = next(iter(place.source._listeners.values()))
    made = socket.socket(fileno=os.dup(listener.fd or 0))
    yield made
    made.close()


DATAGRAM = """
import os, socket
listener = socket.socket(fileno=3)
data, who = listener.recvfrom(100)
listener.sendto(b"got " + data, who)
"""


@pytest.mark.parametrize("kind", ["dgram", "seqpacket", "stream"])
def test_unix_sockets_with_their_files(tmp_path: Path, kind: str) -> None:
    """Mode, directories, symlink; a file that nobody listens on is replaced."""
    path = tmp_path / "new" / "socket"
    link = Path(f"{path}.link")
    reply = "connection = listener.accept()[0]; connection.send(b'got ' + connection.recv(100))"
    program = tmp_path / "service.py"
    program.write_text(
        DATAGRAM
        if kind == "dgram"
        else f"import socket; listener = socket.socket(fileno=3)\n{reply}"
    )
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))

    async def test(place: Listening) -> None:
        text = f"start on socket PROTO=unix TYPE={kind} PATH={path} MODE=0640 SYMLINKS={link}"
        place.conf("unix", f"{text} REMOVE=1\nexec {PYTHON} {program}")
        assert path.stat().st_mode & 0o777 == 0o640
        made = getattr(socket, f"SOCK_{kind.upper()}")
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX, made) as client:
            client.setblocking(False)
            if kind == "dgram":
                client.bind(str(tmp_path / "client"))
            client.connect(str(link))
            client.send(b"words")
            async with asyncio.timeout(DEADLINE_S):
                assert await loop.sock_recv(client, 100) == b"got words"
        await place.gone("unix")
        place.jobs.tell(facts.Unload(name="unix"))
        await place.until(lambda: True, "now")
        place.sources.look()
        assert not path.exists()

    run(tmp_path, test)
    assert not link.is_symlink()


def test_who_waits_is_sent_away_when_the_job_ends_if_that_is_said(tmp_path: Path) -> None:
    port, go, runs = free_port(), tmp_path / "go", tmp_path / "runs"
    os.mkfifo(go)

    async def test(place: Listening) -> None:
        script = f"script\necho ran >> {runs}\nread x < {go}\nend script\n"
        place.conf("deaf", inet(port, "FLUSH=1") + script)
        clients = [socket.create_connection(at(port)) for _ in range(3)]
        await place.runs("deaf")
        with go.open("w") as pipe:
            pipe.write("on\n")
        loop = asyncio.get_running_loop()
        for client in clients:
            client.setblocking(False)
            async with asyncio.timeout(DEADLINE_S):
                assert await loop.sock_recv(client, 100) == b""
            client.close()
        await place.gone("deaf")
        assert runs.read_text() == "ran\n"

    run(tmp_path, test)


def test_owner_group_and_a_shared_port(tmp_path: Path) -> None:
    path, port = tmp_path / "socket", free_port()
    who = "nobody" if os.geteuid() == 0 else str(os.geteuid())

    async def test(place: Listening) -> None:
        place.conf("unix", f"start on socket PROTO=unix PATH={path} OWNER={who}\nexec true")
        place.conf("wrong", f"start on socket PROTO=unix PATH={path}2 OWNER=nobody-has-it\nexec x")
        assert "there is no user nobody-has-it" in last(place, "wrong")
        place.conf("one", inet(port, "REUSEPORT=1") + ECHO)
        place.conf("two", inet(port, "REUSEPORT=1 BACKLOG=9") + ECHO)
        assert not last(place, "two")
        assert await ask(at(port), b"x") == b"I got your message: x"

    run(tmp_path, test)
    assert not path.exists() or path.owner() == "nobody" or os.geteuid()


def test_datagrams_fifos_netlink_vsock(tmp_path: Path) -> None:
    port, fifo, out = free_port(), tmp_path / "fifo", tmp_path / "out"
    program = tmp_path / "service.py"
    program.write_text(DATAGRAM)

    async def test(place: Listening) -> None:
        place.conf("udp", f"start on socket PROTO=inet TYPE=dgram PORT={port} ADDR=127.0.0.1\n"
                          f"exec {PYTHON} {program}")  # fmt: skip
        place.conf("fifo", f"start on socket PROTO=fifo PATH={fifo}\n"
                           f"exec sh -c 'read x <&3; echo $x >> {out}'")  # fmt: skip
        place.conf("drop", "start on socket PROTO=netlink FAMILY=route GROUPS=1\nexec true")
        place.conf("far", f"start on socket PROTO=vsock PORT={port}\nexec true")
        place.conf("wire", "start on socket PROTO=packet DEVICE=lo\nmanual\nexec true")
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect(at(port))
            for _ in range(2):
                client.send(b"x")
                async with asyncio.timeout(DEADLINE_S):
                    assert await loop.sock_recv(client, 100) == b"got x"
                await place.gone("udp")
        with fifo.open("w") as writer:
            writer.write("line\n")
        await place.until(out.exists, "what was written is read")
        await place.gone("fifo")
        assert out.read_text() == "line\n"
        assert [each for each in place.said if "vsock" not in each] == []

    run(tmp_path, test)


def test_two_datagrams_that_are_alike_are_two(tmp_path: Path) -> None:
    """One that comes just when the job ends is not taken for the one that it has read."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        listener = Listener(Match("socket"), parse(["PROTO=inet", "TYPE=dgram", "PORT=1"]))
        listener.fd = server.fileno()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"x", server.getsockname())
            listener.note_waiting()
            assert listener.has_taken_nothing()
            assert server.recv(10) == b"x"
            client.sendto(b"x", server.getsockname())
            assert not listener.has_taken_nothing()
        assert server.getsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS) == 0


def test_a_job_that_only_hears_of_datagrams_runs_once_for_each(tmp_path: Path) -> None:
    port, runs = free_port(), tmp_path / "runs"

    async def test(place: Listening) -> None:
        place.conf("udp", f"start on socket PROTO=inet TYPE=dgram PORT={port} ADDR=127.0.0.1\n"
                          f"exec sh -c 'echo ran >> {runs}'")  # fmt: skip
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            for word in (b"one", b"two"):
                client.sendto(word, at(port))
        await place.until(
            lambda: runs.exists() and runs.read_text() == "ran\n" * 2, "both are heard"
        )
        await place.gone("udp")
        assert runs.read_text() == "ran\n" * 2

    run(tmp_path, test)


def test_the_next_supervisor_listens_on(tmp_path: Path) -> None:
    """Who connects while there is none waits; a job that runs goes on with its socket."""
    port, other = free_port(), free_port()

    async def test(place: Listening) -> None:
        place.conf("echo", inet(port) + ECHO)
        place.conf("steady", inet(other) + "exec sleep 1000")
        with socket.create_connection(at(other)):
            pid = await place.runs("steady")
            place.die()
            with socket.create_connection(at(port)) as early:
                early.sendall(b"early")
                place.begin()
                assert await place.runs("steady") == pid
                early.setblocking(False)
                async with asyncio.timeout(DEADLINE_S):
                    loop = asyncio.get_running_loop()
                    assert await loop.sock_recv(early, 100) == b"I got your message: early"
            assert len(place.jobs.engine.classes["steady"].instances) == 1
        assert not place.said

    run(tmp_path, test)


def test_what_is_kept_and_nobody_wants_is_closed(tmp_path: Path) -> None:
    port = free_port()

    async def test(place: Listening) -> None:
        place.conf("echo", inet(port) + ECHO)
        assert [name for name in place.place.keeper.kept if name.startswith("socket:")]
        place.jobs.tell(facts.Unload(name="echo"))
        place.sources.look()
        assert not [name for name in place.place.keeper.kept if name.startswith("socket:")]
        with pytest.raises(ConnectionRefusedError):
            await ask(at(port))

    run(tmp_path, test)


def test_a_changed_option_refuses_nobody(tmp_path: Path) -> None:
    """The same address goes on with the socket that it has, and with who waits there."""
    port = free_port()

    async def test(place: Listening) -> None:
        place.conf("echo", inet(port).replace("start on ", "start on never and ") + ECHO)
        with socket.create_connection(at(port)) as client:
            client.sendall(b"x")
            client.setblocking(False)
            place.conf("echo", inet(port, "BACKLOG=9") + ECHO)
            async with asyncio.timeout(DEADLINE_S):
                loop = asyncio.get_running_loop()
                assert await loop.sock_recv(client, 100) == b"I got your message: x"

    run(tmp_path, test)


def test_who_is_stopped_before_it_accepts_sends_nobody_away(tmp_path: Path) -> None:
    """A stop is no sign that a job does not accept: who waits is served by the next start."""
    port = free_port()

    async def test(place: Listening) -> None:
        ready, done = tmp_path / "ready", tmp_path / "done"
        os.mkfifo(ready)
        wait = f"trap 'exit 0' TERM; echo > {ready}; while :; do sleep 0.05; done"
        first = f"[ -e {done} ] || {{ touch {done}; {wait}; }}"
        place.conf("echo", inet(port) + f"script\n{first}\n{ECHO}\nend script\n")
        with socket.create_connection(at(port)) as client:
            client.sendall(b"x")
            client.setblocking(False)
            await place.runs("echo")
            async with asyncio.timeout(DEADLINE_S):
                with os.fdopen(os.open(ready, os.O_RDWR | os.O_NONBLOCK), "rb") as pipe:
                    readable = asyncio.Event()
                    loop = asyncio.get_running_loop()
                    loop.add_reader(pipe, readable.set)
                    await readable.wait()
                    loop.remove_reader(pipe)
                place.jobs.tell(facts.Stop(job="echo"))
                loop = asyncio.get_running_loop()
                assert await loop.sock_recv(client, 100) == b"I got your message: x"

    run(tmp_path, test)


def test_an_address_that_comes_later_and_one_that_need_not() -> None:
    """Bound as soon as the kernel says that it is there; FREEBIND does not wait."""

    def alone() -> None:
        directory = Path(os.environ["TMPDIR_OF_TEST"])

        async def test(place: Listening) -> None:
            place.conf("late", "start on socket PROTO=inet PORT=80 ADDR=192.0.2.1\n" + ECHO)
            free = "start on socket PROTO=inet PORT=81 ADDR=192.0.2.1 FREEBIND=1\n"
            place.conf("free", free + ECHO)
            assert [each for each in place.said if "it is waited for" in each] == place.said
            assert len(place.said) == 1
            command = ("ip", "address", "add", "192.0.2.1/32", "dev", "lo")
            await (await asyncio.create_subprocess_exec(*command)).wait()
            async with asyncio.timeout(DEADLINE_S):
                listener = next(
                    each for each in place.source._listeners.values() if each.said.port == 80
                )
                while listener.fd is None:  # noqa: ASYNC110 - nobody else is told
                    await asyncio.sleep(0)
            for port in (80, 81):
                answer = await ask(("192.0.2.1", port), b"x")
                assert answer == b"I got your message: x"

        run(directory, test)

    assert in_own_network(alone) == ""


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR_OF_TEST", str(tmp_path))


def test_it_sleeps_while_nobody_connects_and_while_the_job_serves(tmp_path: Path) -> None:
    """No polling: a hundred sockets cost nothing, and clients of a running job do not wake it."""
    port = free_port()
    serve = (
        "import socket\nlistener = socket.socket(fileno=3)\n"
        "while True: listener.accept()[0].close()\n"
    )
    (tmp_path / "serve.py").write_text(serve)

    async def test(place: Listening) -> None:
        place.conf("serve", inet(port) + f"exec {PYTHON} {tmp_path}/serve.py")
        for number in range(100):
            place.conf(
                f"s{number}", f"start on socket PROTO=unix PATH=@{tmp_path}/{number}\nexec x"
            )
        assert await ask(at(port)) == b""
        woken = []
        epoll = place.source._epoll
        place.source._ready = lambda: woken.append(epoll.poll(0))  # type: ignore[method-assign]  # looked at in between
        asyncio.get_running_loop().add_reader(epoll.fileno(), place.source._ready)
        for _ in range(50):
            assert await ask(at(port)) == b""
        assert not woken

    run(tmp_path, test)


def test_a_privileged_port_as_a_user_says_what_is_missing(open_path: Path) -> None:
    if Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text().strip() == "0":
        pytest.skip("here: every port is anybody's")
    os.chmod(open_path, 0o777)

    async def test() -> None:
        async with listening(open_path) as place:
            place.conf("web", inet(81) + "exec true")
            assert "it needs NET_BIND_SERVICE" in last(place, "web")

    if os.geteuid():
        asyncio.run(test())
        return
    assert as_nobody(test) == ""
