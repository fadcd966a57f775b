"""The holder: a supervisor may die at any instant, and nothing is lost."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import select
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from hostlab.errors import Failed
from hostlab.init import client, protocol
from hostlab.init.holder import MAX_KEPT, RESTART_PAUSE_MS, RESTARTS_AT_ONCE, Holder, Inheritance
from hostlab.init.protocol import connect, encode
from hostlab.init.spawning.process import ProcessSetup, spawn
from hostlab.init.supervisor import Request, Supervisor
from tests.netns.init.init_site import (
    DEADLINE_S,
    children,
    control_of,
    end_children,
    holding,
)

pytestmark = pytest.mark.netns

PAUSE_S = RESTART_PAUSE_MS / 1000

KILLS = 100
SEED = 20_260_731


def append(path: Path, line: str) -> None:
    """One line, in one write, so that a kill leaves it whole or out."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    os.write(fd, f"{line}\n".encode())
    os.close(fd)


def lines(path: Path) -> list[str]:
    return path.read_text().split("\n")[:-1] if path.exists() else []


class Busy(Supervisor):
    """Starts short jobs without a pause, and writes down what it is told of their ends."""

    directory: Path

    async def started(self) -> None:
        append(self.directory / "starts", " ".join(sorted(self.kept)) or "nothing kept")
        if "journal" not in self.kept:
            fd = os.open(self.directory / "starts", os.O_RDONLY | os.O_CLOEXEC)
            self.keep("journal", fd)
            os.close(fd)
        self.handlers["pause"] = self.pause
        self.paused = False
        self.spawn_task(self.work())

    async def work(self) -> None:
        while not self.paused:
            key = f"{os.getpid()}.{time.monotonic_ns()}"
            command = f"echo {key} $$ >> {self.directory}/ran; exit {hash_of(key)}"
            argv = ("/bin/sh", "-c", command)
            setup = ProcessSetup(argv, {}, descriptors=())
            _, pidfd = spawn(setup, key=key, channel=self.channel)
            os.close(pidfd)
            await asyncio.sleep(0)

    async def pause(self, request: Request) -> dict[str, Any]:
        self.paused = True
        return {"open": len(os.listdir("/proc/self/fd"))}

    def found_ended(self, key: str, pid: int, status: int) -> None:
        append(self.directory / "told", f"{key} {pid} {os.waitstatus_to_exitcode(status)}")


def hash_of(key: str) -> int:
    return sum(key.encode()) % 200


@pytest.mark.parametrize("pid_namespace", [False, True], ids=["subreaper", "pid 1"])
def test_killing_the_supervisor_under_load_loses_no_job_and_no_status(
    tmp_path: Path, pid_namespace: bool
) -> None:
    def make(inheritance: Any) -> Busy:
        supervisor = Busy(inheritance)
        supervisor.directory = tmp_path
        return supervisor

    def keys(name: str) -> set[str]:
        return {line.split()[0] for line in lines(tmp_path / name)}

    chance = random.Random(SEED)
    with holding(tmp_path, make, pid_namespace=pid_namespace) as holder:
        for _ in range(KILLS):
            control = control_of(tmp_path)
            inner = control.call("ping")["pid"]
            outer = supervisor_of(holder, inner)
            select.select([], [], [], chance.random() * 0.02)
            os.kill(outer, signal.SIGKILL)
            assert control.socket.recv(1) == b"", "its connections end with it"
            control.close()
        with control_of(tmp_path) as control:
            control.call("pause")
            deadline = time.monotonic() + DEADLINE_S
            while len(children(holder)) > 1 or keys("ran") != keys("told") - {"?"}:
                missing = (keys("ran") - keys("told"), children(holder))
                assert time.monotonic() < deadline, f"never told, or never reaped: {missing}"
                control.call("ping")
    ran = dict(line.split() for line in lines(tmp_path / "ran"))
    told = [line.split() for line in lines(tmp_path / "told")]
    assert len(ran) > KILLS
    # A supervisor may be killed between hearing of an end and saying so: then it is told again.
    # A job that its supervisor's end has kept from introducing itself never runs: key `?`.
    assert {status for key, _, status in told if key == "?"} <= {"127"}
    assert {(key, pid, status) for key, pid, status in told if key != "?"} == {
        (key, pid, str(hash_of(key))) for key, pid in ran.items()
    }
    kept = lines(tmp_path / "starts")
    assert kept[0] == "nothing kept"
    assert set(kept[2:]) == {"journal"}


def supervisor_of(holder: int, inner: int) -> int:
    """The holder's child that calls itself by this number in its own pid namespace.

    A list of children that is read while one of them goes may lack another: it is read again.
    """
    deadline = time.monotonic() + DEADLINE_S
    while not (found := supervisors(holder, inner)):
        assert time.monotonic() < deadline, f"the holder has no child {inner}"
    return found[0]


def supervisors(holder: int, inner: int) -> list[int]:
    found = []
    for pid in children(holder):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        numbers = next(line for line in status.splitlines() if line.startswith("NSpid:"))
        if int(numbers.split()[-1]) == inner:
            found.append(pid)
    return found


class Quiet(Supervisor):
    """Keeps one descriptor, and starts a job that lists its own."""

    directory: Path

    async def started(self) -> None:
        self.handlers["list"] = self.list
        self.handlers["keep"] = self.keep_one
        self.handlers["crash"] = self.crash

    async def keep_one(self, request: Request) -> None:
        (fd,) = request.take(1)
        self.keep("given", fd)
        os.close(fd)

    async def crash(self, request: Request) -> None:
        raise RuntimeError("a defect")

    async def list(self, request: Request) -> dict[str, Any]:
        out = os.open(self.directory / "fds", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            setup = ProcessSetup(("/bin/ls", "/proc/self/fd"), {}, descriptors=(out, out, out))
            pid, pidfd = spawn(setup, key="list", channel=self.channel)
        finally:
            os.close(out)
        os.close(pidfd)
        await self.ended(pid)
        return {"kept": sorted(self.kept)}


def quiet(directory: Path) -> Any:
    def make(inheritance: Any) -> Quiet:
        supervisor = Quiet(inheritance)
        supervisor.directory = directory
        return supervisor

    return make


def test_what_is_kept_comes_back_and_no_job_inherits_it(tmp_path: Path) -> None:
    with holding(tmp_path, quiet(tmp_path)) as holder:
        with control_of(tmp_path) as control, open("/dev/null") as given:
            control.call("keep", (given.fileno(),))
            assert control.call("list")["kept"] == []
            before = (tmp_path / "fds").read_text()
            os.kill(supervisor_of(holder, control.call("ping")["pid"]), signal.SIGKILL)
        with control_of(tmp_path) as control:
            assert control.call("list")["kept"] == ["given"]
            assert (tmp_path / "fds").read_text() == before


def test_a_defect_is_answered_and_the_supervisor_goes_on(tmp_path: Path) -> None:
    with holding(tmp_path, quiet(tmp_path)), control_of(tmp_path) as control:
        pid = control.call("ping")["pid"]
        with pytest.raises(Exception, match="a defect"):
            control.call("crash")
        assert control.call("ping")["pid"] == pid


def test_a_holder_without_work_has_no_supervisor_until_someone_connects(tmp_path: Path) -> None:
    with holding(tmp_path, quiet(tmp_path), eager=False) as holder:
        assert children(holder) == []
        with control_of(tmp_path) as control:
            control.call("ping")
            assert len(children(holder)) == 1


@pytest.mark.parametrize(
    "bytes_sent",
    [b"garbage\n", b"\n", b"[1, 2]\n", b'{"op": "ping"', b"[" * 100_000 + b"\n", b"\xff\xfe\n"],
    ids=["garbage", "empty", "list", "half", "nested", "not utf-8"],
)
def test_a_client_that_breaks_the_protocol_is_cut_off_and_no_one_else(
    tmp_path: Path, bytes_sent: bytes
) -> None:
    with holding(tmp_path, quiet(tmp_path)), control_of(tmp_path) as other:
        pid = other.call("ping")["pid"]
        with control_of(tmp_path) as broken:
            broken.socket.sendall(bytes_sent)
            broken.socket.shutdown(socket.SHUT_WR)
            answer = b""
            while data := broken.socket.recv(4096):
                answer += data
            assert (b"error" in answer) == bytes_sent.endswith(b"\n")
        assert other.call("ping")["pid"] == pid


def send_often(sock: socket.socket, data: bytes, times: int) -> None:
    for _ in range(times):
        sock.sendall(data)


def test_a_line_without_end_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MAX_LINE_BYTES", 1 << 20)
    with holding(tmp_path, quiet(tmp_path)), control_of(tmp_path) as client:
        with pytest.raises(OSError, match=r"(?i)pipe|reset"):
            send_often(client.socket, bytes(1 << 20), 1 << 10)
        with control_of(tmp_path) as other:
            other.call("ping")


def test_a_client_that_never_reads_is_cut_off(tmp_path: Path) -> None:
    with holding(tmp_path, quiet(tmp_path)), control_of(tmp_path) as client:
        question = encode({"op": "x" * 60_000}) * 10
        with pytest.raises(OSError, match=r"(?i)pipe|reset"):
            send_often(client.socket, question, 1000)
        with control_of(tmp_path) as other:
            other.call("ping")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_client_of_another_user_is_refused(open_path: Path) -> None:
    with holding(open_path, quiet(open_path)):
        (open_path / "control.sock").chmod(0o666)
        pid = os.fork()
        if pid == 0:
            os.setresuid(65534, 65534, 65534)
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(str(open_path / "control.sock"))
            try:
                sock.sendall(b'{"op": "ping"}\n')
                told = sock.recv(100)
            except ConnectionError:
                told = b""
            os._exit(1 if told else 0)
        assert os.waitpid(pid, 0)[1] == 0
        assert (open_path / "log").read_text() == "refused: a client of user 65534\n"


@pytest.mark.parametrize("speaks", [False, True])
def test_a_supervisor_that_dies_at_its_start_is_not_started_without_a_pause(
    tmp_path: Path, speaks: bool
) -> None:
    """Also when it had something kept before; what it died of is in the log."""
    starts = tmp_path / "starts"

    def make(inheritance: Inheritance) -> Any:
        with starts.open("a") as file:
            file.write(f"{time.monotonic()}\n")
        if speaks:
            socket.send_fds(inheritance.channel, [b"< it"], [2])
        raise RuntimeError("a defect")

    with holding(tmp_path, make, eager=False), connect(str(tmp_path), "control.sock"):
        deadline = time.monotonic() + DEADLINE_S
        while len(lines(starts)) <= RESTARTS_AT_ONCE:
            assert time.monotonic() < deadline, "the next one was never started"
            select.select([], [], [], 0.02)
        times = [float(line) for line in lines(starts)]
        assert times[RESTARTS_AT_ONCE] - times[RESTARTS_AT_ONCE - 1] > 0.9 * PAUSE_S
    assert "RuntimeError: a defect" in (tmp_path / "log").read_text()


def test_a_client_of_a_supervisor_that_never_answers_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ANSWER_S", 0.2)

    def make(inheritance: Inheritance) -> Any:
        raise RuntimeError("a defect")

    with (
        holding(tmp_path, make, eager=False),
        client.Control(connect(str(tmp_path), "control.sock")) as control,
        pytest.raises(Failed, match="has not answered in time") as found,
    ):
        control.ask("jobs")
    assert found.value.code == client.SILENT


NOBODY = 65534


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_holder_that_may_not_fork_lives_on_and_tries_again(tmp_path: Path) -> None:
    """At its node's bound of processes; a holder that ended would take the node with it."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    place = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    control = protocol.listen(place, "control.sock")
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    holder = os.fork()
    if holder == 0:

        def supervise(_: object) -> None:
            os.write(writer, b"here")

        resource.setrlimit(resource.RLIMIT_NPROC, (1, hard))
        os.setresuid(NOBODY, NOBODY, NOBODY)
        try:
            Holder(control, supervise, eager=True).hold()
        finally:
            os._exit(1)
    pidfd = os.pidfd_open(holder)
    try:
        ended, _, _ = select.select([pidfd], [], [], PAUSE_S / 2)
        assert not ended, "it ended because it could not start a supervisor"
        helper = os.fork()
        if helper == 0:
            os.setresuid(NOBODY, NOBODY, NOBODY)
            resource.prlimit(holder, resource.RLIMIT_NPROC, (hard, hard))
            os._exit(0)
        assert os.waitpid(helper, 0)[1] == 0
        assert select.select([reader], [], [], DEADLINE_S)[0], "no supervisor was started"
    finally:
        for fd in (pidfd, reader, writer, place):
            os.close(fd)
        control.close()
        # The supervisors end at once, and the next one may be there already.
        end_children(holder)
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)


class Hoarder(Supervisor):
    """Has the holder keep as much as it will, and then one of them anew."""

    async def started(self) -> None:
        self.handlers |= {"hoard": self.hoard, "first": self.first}

    async def hoard(self, request: Request) -> None:
        for number in range(MAX_KEPT):
            self.keep(f"state{number}", 0)
        (fd,) = request.take(1)
        self.keep("state0", fd)
        os.close(fd)

    async def first(self, request: Request) -> str:
        return os.readlink(f"/proc/self/fd/{self.kept['state0']}")


def test_a_holder_that_keeps_no_more_still_takes_the_new_for_the_old(tmp_path: Path) -> None:
    """Else the state would be one that its supervisor has left long ago."""
    new = tmp_path / "new"
    new.touch()
    with holding(tmp_path, Hoarder) as holder:
        with control_of(tmp_path) as control, new.open() as given:
            control.call("hoard", (given.fileno(),))
            os.kill(supervisor_of(holder, control.call("ping")["pid"]), signal.SIGKILL)
        with control_of(tmp_path) as control:
            assert control.call("first") == str(new)


AT_ONCE = 300
"""More words than the channel has room for: some 280, by net.core.wmem_default."""


class Hasty(Supervisor):
    """Starts processes as a launcher does, without hearing meanwhile of those that have ended."""

    async def started(self) -> None:
        self.handlers["start"] = self.start
        self.ends = 0
        self.all_ended = asyncio.Event()

    async def start(self, request: Request) -> int:
        for _ in range(2):
            begun = [self.begin() for _ in range(AT_ONCE)]
            for pidfd in begun:
                select.select([pidfd], [], [], PAUSE_S)
                os.close(pidfd)
        await asyncio.wait_for(self.all_ended.wait(), DEADLINE_S / 2)
        return self.ends

    def begin(self) -> int:
        self.wait_for_room()
        setup = ProcessSetup(("/bin/true",), {}, descriptors=())
        return spawn(setup, key="short", channel=self.channel)[1]

    def found_ended(self, key: str, pid: int, status: int) -> None:
        self.ends += 1
        if self.ends == 2 * AT_ONCE:
            self.all_ended.set()


def test_a_full_channel_in_both_directions_is_no_deadlock(tmp_path: Path) -> None:
    """The holder waits to tell of ends, a new process to introduce itself, we for the process."""
    with holding(tmp_path, Hasty), control_of(tmp_path) as control:
        assert control.call("start") == 2 * AT_ONCE


class Full(Supervisor):
    """Has no descriptor left when it is told so."""

    async def started(self) -> None:
        self.handlers |= {"fill": self.fill, "empty": self.empty, "used": self.used}

    async def fill(self, request: Request) -> None:
        self.limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, self.limits[1]))

    async def empty(self, request: Request) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, self.limits)

    async def used(self, request: Request) -> float:
        return time.process_time()


def test_without_a_descriptor_for_a_client_nothing_spins(tmp_path: Path) -> None:
    with holding(tmp_path, Full), control_of(tmp_path) as control:
        control.call("fill")
        with control_of(tmp_path) as another:
            before = control.call("used")
            assert not select.select([another.socket], [], [], PAUSE_S / 2)[0]
            assert control.call("used") - before < PAUSE_S / 4
            control.call("empty")
            another.call("ping")
