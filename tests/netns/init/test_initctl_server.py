"""The server's bounds, with clients that are descriptors of the test."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from hostlab.init.initctl import server as initctl_server
from hostlab.init.initctl.server import InitctlServer
from hostlab.jobs.effects import Reply
from hostlab.jobs.facts import Fact
from tests.initctl_site import Site

pytestmark = pytest.mark.netns

TURNS = 10_000


class Defective(Site):
    """An init with a defect."""

    async def request(self, token: str, fact: Fact, *, wait: bool) -> Reply:
        raise ZeroDivisionError("a defect")


class Serving:
    """A server in this process, and clients that are files."""

    def __init__(self, site: Site, path: Path) -> None:
        self.site = site
        self.path = path
        self.logged: list[str] = []
        self.kept: dict[str, int] = {}
        self.clients: dict[str, int] = {}
        self.server = InitctlServer(
            site,
            keep=self.kept.__setitem__,
            kept={},
            holder=os.getpid(),
            directory=str(path),
            log=self.logged.append,
        )

    def ask(self, name: str, *words: str) -> None:
        self.come(name)
        self.say(name, *words)

    def come(self, name: str) -> None:
        """A client is there, and has not asked yet."""
        os.mkfifo(self.path / name, 0o600)
        self.clients[name] = os.open(self.path / name, os.O_RDWR | os.O_NONBLOCK)

    def say(self, name: str, *words: str) -> None:
        text = "".join(f"{word}\0" for word in (f"n{words[0]}", *(f"a{w}" for w in words[1:]), "."))
        (self.path / f"{name}.args").write_text(text)
        fifo = os.open(self.path / "requests", os.O_WRONLY)
        os.write(fifo, f"{name}\n".encode())
        os.close(fifo)

    async def answer(self, name: str) -> str:
        fd = self.clients[name]
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(fd, readable.set)
        try:
            await asyncio.wait_for(readable.wait(), 60)
        finally:
            loop.remove_reader(fd)
        return os.read(fd, 65536).decode()

    async def taken(self, count: int) -> None:
        """Until the engine took so many requests."""
        await turn_until(lambda: len(self.site.book.entries) >= count)


async def turn_until(condition: Callable[[], bool]) -> None:
    """Let the loop go on until something is so."""
    for _ in range(TURNS):
        if condition():
            return
        await asyncio.sleep(0)
    pytest.fail(f"not within {TURNS} turns of the event loop")


def serve(site: Site, path: Path, test: Callable[[Serving], Awaitable[None]]) -> None:
    async def run() -> None:
        serving = Serving(site, path)
        serving.server.start()
        try:
            await test(serving)
        finally:
            await serving.server.close()
            for fd in serving.clients.values():
                os.close(fd)

    asyncio.run(run())


def test_a_defect_is_told_to_the_client(tmp_path: Path) -> None:
    async def test(serving: Serving) -> None:
        serving.ask("1", "start", "foo")
        assert "a defect" in await serving.answer("1")
        assert "a defect" in serving.logged[0]
        serving.ask("2", "status", "foo")
        assert await serving.answer("2") == "o foo stop/waiting\nx 0\n"

    serve(Defective({"foo": "exec true"}), tmp_path, test)


def test_too_many_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initctl_server, "MAX_ASKERS", 2)

    async def test(serving: Serving) -> None:
        serving.ask("1", "start", "foo", "N=1")
        serving.ask("2", "start", "foo", "N=2")
        await serving.taken(2)
        serving.ask("3", "status", "foo", "N=1")
        assert await serving.answer("3") == "e initctl: more than 2 requests wait\nx 1\n"
        serving.site.runs("foo", name="1")
        assert (await serving.answer("1")).endswith("x 0\n")
        serving.ask("4", "status", "foo", "N=1")
        assert (await serving.answer("4")).endswith("x 0\n")

    serve(Site({"foo": "instance $N\nexec true"}), tmp_path, test)


def test_too_much_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initctl_server, "MAX_HELD_BYTES", 1000)

    async def test(serving: Serving) -> None:
        serving.ask("1", "start", "foo", "A=" + "x" * 900)
        await serving.taken(1)
        serving.ask("2", "status", "x" * 200)
        assert await serving.answer("2") == "e initctl: requests of 1000 bytes wait already\nx 1\n"
        serving.site.runs("foo")
        await serving.answer("1")
        serving.ask("3", "status", "x" * 200)
        assert "Unknown job" in await serving.answer("3")

    serve(Site({"foo": "exec true"}), tmp_path, test)


def test_it_looks_now_and_then_for_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(initctl_server, "SWEEP_EVERY", 2)

    async def test(serving: Serving) -> None:
        serving.ask("1", "start", "foo")
        await serving.taken(1)
        for name in ("7.out", "8.args"):
            (tmp_path / name).write_text("left")
        # One that is served keeps its name, also when nobody reads it any more.
        os.close(serving.clients.pop("1"))
        for name in ("2", "3"):
            serving.ask(name, "status", "foo")
            await serving.answer(name)
        await turn_until(lambda: not {"7.out", "8.args"} & set(os.listdir(tmp_path)))
        left = set(os.listdir(tmp_path))
        assert left == {"requests", "holder", "1", "1.args"}
        serving.site.runs("foo")
        await turn_until(lambda: not serving.site.book.entries)
        assert set(os.listdir(tmp_path)) == {"requests", "holder"}

    serve(Site({"foo": "exec true"}), tmp_path, test)


def test_who_waits_is_left_for_the_next_one(tmp_path: Path) -> None:
    site = Site({"foo": "exec true"})

    async def first(serving: Serving) -> None:
        serving.ask("1", "start", "foo")
        await serving.taken(1)

    async def test() -> None:
        one = Serving(site, tmp_path)
        one.server.start()
        await first(one)
        kept = os.dup(one.kept["initctl"])
        await one.server.close()
        other = Serving(site, tmp_path)
        other.clients = one.clients
        other.server = InitctlServer(
            site,
            keep=other.kept.__setitem__,
            kept={"initctl": kept},
            holder=1,
            directory=str(tmp_path),
        )
        other.server.start()
        site.runs("foo")
        try:
            assert await other.answer("1") == "o foo start/running, process 1234\nx 0\n"
        finally:
            await other.server.close()
            os.close(one.clients["1"])
        assert other.kept == {}

    asyncio.run(test())


def test_who_asks_while_its_empty_request_is_read_is_served(tmp_path: Path) -> None:
    """A server that takes over finds it before it has asked; it has when that is found out."""

    async def test(serving: Serving) -> None:
        serving.come("1")
        serving.server._take_over()

        def ask() -> None:
            serving.say("1", "status", "foo")
            serving.server._readable()

        # In the turn in which the file was looked for, after that.
        asyncio.get_running_loop().call_soon(ask)
        assert await serving.answer("1") == "o foo stop/waiting\nx 0\n"

    serve(Site({"foo": "exec true"}), tmp_path, test)


def test_who_waits_is_told_that_init_ends(tmp_path: Path) -> None:
    async def test(serving: Serving) -> None:
        serving.ask("1", "start", "foo")
        await serving.taken(1)
        await serving.server.end()
        assert await serving.answer("1") == "e initctl: Disconnected from Upstart\nx 1\n"
        assert os.listdir(tmp_path) == []

    serve(Site({"foo": "exec true"}), tmp_path, test)


def test_the_directory_is_the_owner_s_alone(tmp_path: Path) -> None:
    path = tmp_path / "a" / "requests"

    async def test(serving: Serving) -> None:
        assert path.stat().st_mode & 0o777 == 0o700
        assert (path / "requests").stat().st_mode & 0o777 == 0o600
        assert (path / "holder").read_text() == f"{os.getpid()}\n"

    serve(Site(), path, test)
