"""Jobs that start on sockets, in a test's own process: a source with hands, and who reaps."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from hostlab.init.sources import Sources, Surroundings, operands
from hostlab.init.sources.given import SourcedSockets
from hostlab.init.sources.socket import SocketSource
from hostlab.init.spawning.launch import Launched
from hostlab.jobs import facts
from hostlab.jobs.effects import Spawn
from hostlab.linux.clone import CLONE_NEWNET, CLONE_NEWUSER
from hostlab.linux.libc import unshare
from hostlab.spec.job import Job
from hostlab.spec.upstart import load_conf
from tests.netns.activation.activation_site import EXAMPLES, free_port
from tests.netns.init.engine_site import World, world

DEADLINE_S = 60.0
__all__ = ["DEADLINE_S", "EXAMPLES", "Listening", "free_port", "in_own_network", "listening", "run"]


class Listening:
    """One supervisor after the other, with jobs that sockets start."""

    def __init__(self, place: World) -> None:
        self.place = place
        self.running: dict[int, int] = {}
        """What the holder would say: spawn -> pid."""
        self.begin()

    @property
    def said(self) -> list[str]:
        """The warnings."""
        return self.place.said

    def begin(self) -> None:
        """A supervisor begins, with what the last one's holder has kept."""
        place = self.place
        kept = {name: os.dup(fd) for name, fd in place.keeper.kept.items()}
        self.kept = kept
        jobs = self.jobs = place.jobs(self.running)
        launch = jobs.launcher.launch

        def launched(effect: Spawn, **named: Any) -> Launched:
            done = launch(effect, **named)
            self._watch(effect.spawn, done)
            return done

        jobs.launcher.launch = launched  # type: ignore[method-assign]  # There is no holder.
        surroundings = Surroundings(
            tell=jobs.tell,
            warn=place.said.append,
            keep=place.keeper.keep,
            drop=self._drop,
            kept=kept,
            jobs=jobs,
        )
        self.sources = Sources(surroundings, lambda: operands(jobs.engine.classes.values()))
        jobs.sockets = SourcedSockets(self.sources)
        jobs.on_descriptions = self.sources.changed
        jobs.on_listening = self.sources.look
        self.sources.look()

    def _watch(self, spawn: int, launched: Launched) -> None:
        loop = asyncio.get_running_loop()
        pidfd = os.dup(launched.pidfd)
        self.running[spawn] = launched.pid

        def ended() -> None:
            loop.remove_reader(pidfd)
            os.close(pidfd)
            _, status = os.waitpid(launched.pid, 0)
            del self.running[spawn]
            self.jobs.ended(spawn, launched.pid, status)

        loop.add_reader(pidfd, ended)

    def _drop(self, name: str) -> None:
        self.place.keeper.drop(name)
        fd = self.kept.pop(name, None)
        if fd is not None:
            os.close(fd)

    @property
    def source(self) -> SocketSource:
        found = self.sources.get("socket")
        assert isinstance(found, SocketSource)
        return found

    def load(self, *jobs: Job) -> None:
        for job in jobs:
            self.jobs.tell(facts.Load(job=job))
        self.sources.look()

    def conf(self, name: str, text: str) -> None:
        self.load(load_conf(text, file=f"{name}.conf", name=name))

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until something that the engine is told of holds."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not condition():
                    self.jobs.changed.clear()
                    await self.jobs.changed.wait()
        except TimeoutError:
            raise AssertionError(f"not in {DEADLINE_S} s: {what}; {self.said}") from None

    async def gone(self, job: str) -> None:
        """Until no instance of a job is there."""
        await self.until(lambda: not self.jobs.engine.classes[job].instances, f"{job} is gone")

    async def runs(self, job: str) -> int:
        """Until its main process is there: the pid."""

        def pids() -> list[int]:
            found = self.jobs.engine.classes[job].instances.values()
            return [each.main.pid for each in found if each.main and each.main.pid]

        await self.until(lambda: bool(pids()), f"{job} runs")
        return pids()[0]

    def die(self) -> None:
        """The supervisor is gone, and with it what only it had."""
        source = self.source
        asyncio.get_running_loop().remove_reader(source._epoll.fileno())
        source._epoll.close()
        source._idleness.close()
        source._addresses.close()
        for listener in source._listeners.values():
            listener.close()
        self._close_kept()
        self.jobs.close()
        self.place.begun.remove(self.jobs)

    def _close_kept(self) -> None:
        for fd in self.kept.values():
            os.close(fd)
        self.kept.clear()

    def end(self) -> None:
        self.sources.close()
        self._close_kept()


@contextlib.asynccontextmanager
async def listening(directory: Path) -> AsyncIterator[Listening]:
    async with world(directory) as place:
        found = Listening(place)
        try:
            yield found
            for name in tuple(found.jobs.engine.classes):
                for instance in tuple(found.jobs.engine.classes[name].instances):
                    with contextlib.suppress(Exception):
                        found.jobs.tell(facts.Stop(job=name, instance=instance))
                await found.gone(name)
        finally:
            found.end()


def run(directory: Path, test: Callable[[Listening], Awaitable[None]]) -> None:
    """Run a test with a supervisor's worth of sockets."""

    async def main() -> None:
        async with asyncio.timeout(100), listening(directory) as place:
            await test(place)

    asyncio.run(main())


async def ask(address: Any, sent: bytes = b"", family: int = socket.AF_INET) -> bytes:
    """Connect, send, and read to the end; what came is all, also when it was cut off."""
    loop = asyncio.get_running_loop()
    with socket.socket(family) as client:
        client.setblocking(False)
        async with asyncio.timeout(DEADLINE_S):
            await loop.sock_connect(client, address)
            if sent:
                await loop.sock_sendall(client, sent)
            answer = b""
            with contextlib.suppress(ConnectionResetError):
                while more := await loop.sock_recv(client, 65536):
                    answer += more
            return answer


def in_own_network(test: Callable[[], None]) -> str:
    """What came of a test in a network namespace of its own, whose `lo` is up; nothing is well."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            unshare(CLONE_NEWNET | (CLONE_NEWUSER if os.geteuid() else 0))
            os.spawnlp(os.P_WAIT, "ip", "ip", "link", "set", "lo", "up")
            test()
        except BaseException:
            os.write(writer, traceback.format_exc().encode()[-4096:])
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    with open(reader) as file:
        return file.read()
