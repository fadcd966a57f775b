"""Connections while the service restarts and supervisors are killed: none refused, none lost.

`HOSTLAB_CONNECTIONS` is their number; two hundred of them have a restart, and five
hundred a kill.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hostlab.errors import Problem
from tests.netns.activation.activation_site import SOURCE, free_port
from tests.netns.init.init_site import children
from tests.netns.init.job_site import wait_until
from tests.netns.init.standalone_site import Alone, standing

pytestmark = pytest.mark.netns
SHORT = 1200
CLIENTS = 12
DEADLINE_S = 60.0
SEED = 5

SERVICE = """
import os, select, signal, socket
from hostlab import activation
listener = activation.listener(("127.0.0.1", 0))
leaves, told = os.pipe()
signal.signal(signal.SIGTERM, lambda *_: os.write(told, b"x"))
while leaves not in select.select([listener, leaves], [], [])[0]:
    connection = listener.accept()[0]
    with connection:
        connection.sendall(connection.recv(100).upper())
"""
report = print


async def one(port: int, number: int) -> None:
    """A client that must be served."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setblocking(False)
        async with asyncio.timeout(DEADLINE_S):
            await loop.sock_connect(client, ("127.0.0.1", port))
            await loop.sock_sendall(client, b"client %d" % number)
            answer = b""
            while more := await loop.sock_recv(client, 100):
                answer += more
    assert answer == b"CLIENT %d" % number


def act(alone: Alone, action: str) -> bool:
    """Restart or stop the service; False when there is nothing to stop, or nobody to do it."""
    try:
        with alone.client.control() as control:
            control.call("job", name="upper", action=action)
    except (Problem, OSError):
        return False
    return True


def kill_supervisor(alone: Alone) -> bool:
    try:
        with alone.client.control() as control:
            pid = int(control.call("ping")["pid"])
    except (Problem, OSError):
        return False
    assert pid in children(alone.holder)
    os.kill(pid, signal.SIGKILL)
    return True


@dataclass
class Served:
    """How many clients have been."""

    total: int
    count: int = 0
    bound: int = 0
    """So many may have been until the next disturbance is over: it is to come among them."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self) -> None:
        self.count += 1
        self.changed.set()

    def allow(self, bound: int) -> None:
        self.bound = bound
        self.changed.set()

    async def may_go(self) -> None:
        while self.count >= self.bound:
            self.changed.clear()
            await self.changed.wait()

    async def until(self, count: int) -> None:
        while self.count < count:
            self.changed.clear()
            await self.changed.wait()


async def killed(alone: Alone) -> None:
    """Kill a supervisor, as soon as one answers."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            if await asyncio.to_thread(kill_supervisor, alone):
                return
            await asyncio.sleep(0.002)


async def disturb(alone: Alone, restarts: int, kills: int, served: Served) -> None:
    """So many of both, spread over the connections."""
    pause = random.Random(int(os.environ.get("HOSTLAB_SEED", SEED)))
    acts = ["restart"] * (restarts - restarts // 3) + ["stop"] * (restarts // 3) + ["kill"] * kills
    pause.shuffle(acts)
    step = served.total // (len(acts) + 1)
    for number, action in enumerate(acts):
        served.allow(step * (number + 1) + step // 2)
        await served.until(step * number + step // 2)
        deadline = time.monotonic() + DEADLINE_S
        while True:
            does = kill_supervisor if action == "kill" else lambda a, do=action: act(a, do)
            if await asyncio.to_thread(does, alone):
                break
            assert time.monotonic() < deadline, f"no {action} in {DEADLINE_S} s"
            await asyncio.sleep(0.002)
        assert served.count < served.total
    served.allow(served.total + 1)


async def campaign(alone: Alone, port: int, total: int) -> None:
    served = Served(total)
    left = iter(range(total))

    async def client() -> None:
        for number in left:
            await served.may_go()
            await one(port, number)
            served.add()

    async with asyncio.TaskGroup() as group:
        group.create_task(disturb(alone, max(total // 200, 1), max(total // 500, 1), served))
        for _ in range(CLIENTS):
            group.create_task(client())
    assert served.count == total


def test_none_is_refused_and_none_is_lost(tmp_path: Path) -> None:
    total = int(os.environ.get("HOSTLAB_CONNECTIONS", SHORT))
    port = free_port()
    program = tmp_path / "upper.py"
    program.write_text(SERVICE)
    job = (
        f"start on socket PROTO=inet PORT={port} ADDR=127.0.0.1 LIMIT=0/2s\n"
        f"env PYTHONPATH={SOURCE}\nexec {sys.executable} {program}\n"
    )
    with standing(tmp_path, {"upper": job}) as alone:
        started = time.monotonic()
        asyncio.run(campaign(alone, port, total))
        took_s = time.monotonic() - started
        report(f"{total} connections in {took_s:.1f} s: none refused, none lost")
        assert "socket PROTO" not in alone.own_log, "a socket had trouble"


LINE = """
import sys
sys.stdout.write(sys.stdin.readline().upper())
"""


async def of_instance(port: int, number: int) -> None:
    """A client whose service reads a line."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setblocking(False)
        async with asyncio.timeout(DEADLINE_S):
            await loop.sock_connect(client, ("127.0.0.1", port))
            await loop.sock_sendall(client, b"client %d\n" % number)
            answer = b""
            while more := await loop.sock_recv(client, 100):
                answer += more
    assert answer == b"CLIENT %d\n" % number, f"client {number} got {answer!r}"


def test_no_connection_of_an_instance_is_lost_with_its_supervisor(tmp_path: Path) -> None:
    """Each has one process, whenever the supervisor that starts it is killed."""
    total, kills = int(os.environ.get("HOSTLAB_CONNECTIONS", SHORT)) // 6, 8
    port = free_port()
    program, closed = tmp_path / "line.py", tmp_path / "closed"
    program.write_text(LINE)
    jobs = {
        "line": (
            f"start on socket PROTO=inet PORT={port} ADDR=127.0.0.1 ACCEPT=inetd LIMIT=0/1s\n"
            f"instance $CONNECTION\nexec {sys.executable} -S {program}\n"
        ),
        "closed": (
            "start on socket-closed JOB=line\ninstance $CONNECTION\ntask\n"
            f"exec echo $CONNECTION >> {closed}\n"
        ),
    }

    async def campaign() -> None:
        left = iter(range(total))
        served = Served(total)

        async def client() -> None:
            for number in left:
                await of_instance(port, number)
                served.add()

        async def killer() -> None:
            for number in range(kills):
                await served.until(total * (number + 1) // (kills + 2))
                await killed(alone)

        async with asyncio.TaskGroup() as group:
            group.create_task(killer())
            for _ in range(6):
                group.create_task(client())
        assert served.count == total

    with standing(tmp_path, jobs) as alone:
        asyncio.run(campaign())
        wait_until(
            lambda: closed.exists() and len(closed.read_text().split()) >= total,
            "the end of each is told",
        )
        assert len(set(closed.read_text().split())) == len(closed.read_text().split()) == total


def job_of(tmp_path: Path, port: int, more: str = "") -> str:
    program = tmp_path / "upper.py"
    program.write_text(SERVICE)
    return (
        f"start on socket PROTO=inet PORT={port} ADDR=127.0.0.1\n{more}"
        f"env PYTHONPATH={SOURCE}\nexec {sys.executable} {program}\n"
    )


def test_the_installed_program_goes_on_with_the_sockets(tmp_path: Path) -> None:
    """`reexec` keeps them as a killed supervisor's successor does."""
    port = free_port()
    with standing(tmp_path, {"upper": job_of(tmp_path, port)}) as alone:
        asyncio.run(one(port, 1))
        pid = alone.pid("upper")
        status, _, err = alone("job", "reexec", "--init")
        assert status == 0, err
        asyncio.run(one(port, 2))
        assert alone.pid("upper") == pid
        assert act(alone, "stop")
        asyncio.run(one(port, 3))
        assert alone.pid("upper") != pid


def test_nobody_starts_a_job_of_an_init_that_is_leaving(tmp_path: Path) -> None:
    """Who connects when it has been stopped is not served any more."""
    port = free_port()
    stopped, starts, gate = tmp_path / "stopped", tmp_path / "starts", tmp_path / "gate"
    os.mkfifo(stopped)
    os.mkfifo(gate)
    more = f"pre-start exec echo started >> {starts}\npost-stop exec echo > {stopped}\n"
    slow = f"start on startup\nexec sleep 1000\npre-stop exec cat {gate}\n"
    with standing(tmp_path, {"upper": job_of(tmp_path, port, more), "slow": slow}) as alone:
        asyncio.run(one(port, 1))
        os.kill(alone.holder, signal.SIGTERM)
        with stopped.open() as pipe:
            pipe.read()
        with socket.create_connection(("127.0.0.1", port)) as late:
            late.sendall(b"x")
            gate.write_text("")
            assert alone.ended() == 0
    assert starts.read_text() == "started\n"
