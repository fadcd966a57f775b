"""A holder, a supervisor that serves initctl, and the programs: as in a node, in a directory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from hostlab.init.holder import Inheritance
from hostlab.init.initctl import files as initctl_files
from hostlab.init.initctl import server as initctl_server
from hostlab.init.initctl.files import Asker
from hostlab.init.initctl.install import install
from hostlab.init.initctl.server import InitctlServer
from hostlab.init.initctl.surroundings import Answer
from hostlab.init.supervisor import Supervisor
from hostlab.jobs import facts
from hostlab.jobs.effects import Reply
from hostlab.jobs.facts import Fact
from hostlab.jobs.journal import decode_entries
from tests.initctl_site import Site
from tests.netns.init.init_site import children, holding

DEADLINE_S = 60.0
LONG = 300
"""Jobs that make a list longer than a FIFO holds."""
JOBS = {
    "foo": "exec sleep 1",
    "held": "exec sleep 1",
    "tty": "instance $TTY\nexec sleep 1",
    "counts": "start on count\ninstance $N\nexec sleep 1",
    **{f"{'long-name-' * 24}{number:04}": "exec sleep 1" for number in range(LONG)},
}


class Instant(StrEnum):
    """When a supervisor dies, once."""

    BEFORE_TAKING = "before the engine took it"
    TAKEN = "after the engine took it"
    ANSWERED = "before the answer is written"
    WRITTEN = "before the client's files are taken away"
    REMOVED = "before the request is forgotten"


class MortalSite(Site):
    """Kills its process at an instant of the first request after its start."""

    instant: Instant | None = None
    died: Path

    def die(self, instant: Instant) -> None:
        if instant is self.instant and not self.died.exists():
            self.died.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    async def request(self, token: str, fact: Fact, *, wait: bool) -> Reply:
        self.die(Instant.BEFORE_TAKING)
        return await super().request(token, fact, wait=wait)

    def tell(self, fact: Fact) -> None:
        super().tell(fact)
        if getattr(fact, "request", None) is not None:
            self.die(Instant.TAKEN)

    def forget(self, token: str) -> None:
        self.die(Instant.REMOVED)
        super().forget(token)


class ServingSupervisor(Supervisor):
    """Serves initctl on an engine with a journal; SIGUSR1 lets `held` become running."""

    def __init__(self, inheritance: Inheritance, directory: Path, instant: Instant | None) -> None:
        super().__init__(inheritance)
        self.place = directory
        self.instant = instant

    async def started(self) -> None:
        journal = self.place / "journal"
        site = MortalSite(JOBS, journal=journal, obeys=True, slow=frozenset({"held"}))
        site.died = self.place / "died"
        site.instant = self.instant
        site.go_on()
        self._die_between(site)
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, site.hurry)
        self.server = InitctlServer(
            site,
            keep=self.keep,
            kept=self.kept,
            holder=os.getppid(),
            directory=str(self.place / "requests"),
            log=_log,
        )
        self.server.start()
        # Whatever is said to the holder shows it that this one does not die young.
        self.acknowledge("none", 0)

    def _die_between(self, site: MortalSite) -> None:
        """Let it die at the two instants that are within the server's own functions."""
        write, remove = initctl_files.write_answer, initctl_files.remove

        def writing(place: int, asker: Asker, answer: Answer) -> None:
            site.die(Instant.ANSWERED)
            write(place, asker, answer)

        def removing(place: int, asker: Asker) -> None:
            site.die(Instant.WRITTEN)
            remove(place, asker)

        # In this process only, which is a supervisor's.
        vars(initctl_server)["write_answer"] = writing
        vars(initctl_files)["remove"] = removing


class Place:
    """The init of a test, and its programs."""

    def __init__(self, directory: Path, holder: int) -> None:
        self.directory = directory
        self.requests = directory / "requests"
        self.bin = directory / "bin"
        self.holder = holder
        self.begun: list[subprocess.Popen[str]] = []
        self.shell: tuple[str, ...] = ()
        """What runs the programs; empty is what they say."""

    @property
    def supervisor(self) -> int:
        found: list[int] = []

        def is_there() -> bool:
            found[:] = children(self.holder)
            return bool(found)

        wait(is_there, "a supervisor")
        return found[0]

    def environment(self, **extra: str) -> dict[str, str]:
        return {**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}", **extra}

    def begin(self, program: str, *words: str, **extra: str) -> subprocess.Popen[str]:
        """Start a program."""
        process = subprocess.Popen(
            [*self.shell, str(self.bin / program), *words],
            env=self.environment(**extra),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.begun.append(process)
        return process

    def end_clients(self) -> None:
        """A test that fails leaves nobody who waits."""
        for process in self.begun:
            if process.returncode is None:
                process.kill()
                process.communicate()

    def __call__(self, program: str, *words: str, **extra: str) -> tuple[int, str, str]:
        """Run a program: its status, output and errors."""
        return ended(self.begin(program, *words, **extra))

    def kill_supervisor(self) -> None:
        """Kill it, and wait for the next one."""
        old = self.supervisor
        os.kill(old, signal.SIGKILL)
        wait(lambda: children(self.holder) not in ([old], []), "a new supervisor")

    def told(self) -> list[facts.Fact]:
        """Every fact that the engine took, of all supervisors."""
        data = (self.directory / "journal").read_bytes()
        return [entry.fact for entry in decode_entries(data)]

    def left(self) -> list[str]:
        """What is in the directory of requests, but for what belongs there."""
        return sorted(set(os.listdir(self.requests)) - {"requests", "holder"})

    def is_held(self) -> bool:
        """Whether the holder has the FIFO of requests open."""
        fifo = (self.requests / "requests").stat()
        found = set()
        for fd in os.listdir(f"/proc/{self.holder}/fd"):
            with contextlib.suppress(FileNotFoundError):
                held = os.stat(f"/proc/{self.holder}/fd/{fd}")
                found.add((held.st_dev, held.st_ino))
        return (fifo.st_dev, fifo.st_ino) in found

    def wait_clean(self) -> None:
        """Until no client's files are left: they go after the client has its answer."""
        wait(lambda: self.left() == [], f"files of clients in {self.requests}")


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=DEADLINE_S)
    return process.returncode, out, err


def wait(condition: Callable[[], bool], what: str) -> None:
    """Until something of another process is so, which nothing tells this one."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {DEADLINE_S} s"
        select.select([], [], [], 0.005)


@contextmanager
def serving(directory: Path, instant: Instant | None = None) -> Iterator[Place]:
    """An init for the length of the block, whose first supervisor dies at an instant."""
    install(str(directory / "bin"), None, requests=str(directory / "requests"))
    with holding(directory, lambda got: ServingSupervisor(got, directory, instant)) as holder:
        place = Place(directory, holder)
        wait(lambda: _holder(place) == f"{holder}\n", "the server")
        try:
            yield place
        finally:
            place.end_clients()


def _holder(place: Place) -> str:
    try:
        return (place.requests / "holder").read_text()
    except FileNotFoundError:
        return ""


def _log(text: str) -> None:
    sys.stderr.write(f"{text}\n")
