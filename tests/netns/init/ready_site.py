"""A holder and a supervisor that does nothing but start main processes and watch them be ready."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from hostlab.init.readiness.protocols import Readiness
from hostlab.init.readiness.watch import job_key
from hostlab.init.spawning.process import ProcessSetup, spawn
from hostlab.init.supervisor import Request, Supervisor
from hostlab.jobs import effects, facts
from hostlab.linux import cgroups
from hostlab.spec.job import Job, Process, Step
from hostlab.spec.job import Readiness as How
from tests.netns.init.init_site import DEADLINE_S, control_of, holding

TOKEN: Final = "HOSTLAB_TEST_RUN"
"""By it conftest finds what a test leaves running."""
PATH: Final = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


def until(condition: Callable[[], object], *, seconds: float = DEADLINE_S) -> None:
    """Look again until it is so; what another process does in /proc is told by nobody."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        select.select([], [], [], 0.002)


def state_of(pid: int) -> str:
    """The letter of proc_pid_stat(5) for a process."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


class Site:
    """What a test has in hand: the directory, the holder's pid, the cgroup or none."""

    def __init__(self, directory: Path, holder: int, cgroup: Path | None) -> None:
        self.directory = directory
        self.holder = holder
        self.cgroup = cgroup
        self.control = control_of(directory)
        self.next = 1

    def start(self, how: How, program: str, **more: Any) -> int:
        """Start `sh -c PROGRAM`, or another shell's, as a job; its spawn number."""
        number, self.next = self.next, self.next + 1
        job = Job(
            name=more.pop("name", "tested"),
            argv=(),
            exec="true",
            readiness=how,
            **{key: more.pop(key) for key in ("chroot", "user", "kill") if key in more},
        )
        argv = [more.pop("shell", "/bin/sh"), "-c", program]
        self.control.call("start", spawn=number, job=msgspec.to_builtins(job), argv=argv, **more)
        return number

    def wait(self, spawn: int, *kinds: str, count: int = 1) -> list[Any]:
        """Facts of a spawn once `count` of these kinds have been told; TimeoutError."""
        told = self.control.call("wait", spawn=spawn, kinds=list(kinds), count=count)
        return list(told)

    def facts(self, spawn: int) -> list[str]:
        """The kinds of what has been told of a spawn, in order."""
        return [fact["type"] for fact in self.control.call("facts", spawn=spawn)]

    def call(self, op: str, **message: Any) -> Any:
        return self.control.call(op, **message)

    def members(self, spawn: int) -> list[int]:
        """The processes in a spawn's cgroup."""
        assert self.cgroup is not None
        return [int(pid) for pid in (self.cgroup / str(spawn) / "cgroup.procs").read_text().split()]

    def kept(self) -> list[str]:
        """What the holder keeps."""
        return list(self.control.call("kept"))

    def kill_supervisor(self) -> None:
        """kill -9; the next call is answered by the next one."""
        os.kill(self.control.call("ping")["pid"], signal.SIGKILL)
        self.reconnect()

    def reconnect(self) -> None:
        """Wait for the end of the supervisor that is connected, connect to the next."""
        assert self.control.socket.recv(1) == b""
        self.control.close()
        self.control = control_of(self.directory)

    def close(self) -> None:
        self.control.close()


class Tested(Supervisor):
    """Starts what it is told, writes down what it tells."""

    directory: Path
    cgroup: Path | None

    async def started(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.warnings: list[str] = []
        self.changed = asyncio.Condition()
        self.names = set(self.kept)
        self.last_fact: str | None = None
        self.ends_when_adopted: Path | None = None
        self.is_reaped_then = False
        self.handlers |= {
            "start": self.start,
            "wait": self.wait,
            "facts": self.facts,
            "warnings": self.list_warnings,
            "notes": self.notes,
            "forget": self.forget,
            "again": self.again,
            "stopping": self.is_stopping,
            "die_after": self.die_after,
            "end_when_adopted": self.end_when_adopted,
            "inotifies": self.inotifies,
            "strangers": self.strangers,
            "release": self.release,
            "kept": self.list_kept,
        }
        self.readiness = Readiness(
            tell=self.tell,
            keep=self.keep_it,
            drop=self.drop_it,
            adopt=self.adopt,
            members=self.members,
            warn=self.warn,
            directory=str(self.directory / "notify"),
        )
        self.running: dict[int, tuple[Job, int]] = {}
        self.early: list[Callable[[], None]] = getattr(self, "early", [])
        for line in self._lines():
            fact = json.loads(line)
            self.told.append(fact)
            if fact["type"] == "Started":
                self.running[fact["spawn"]] = (msgspec.convert(fact["job"], Job), fact["pid"])
            elif fact.get("pid") and fact["spawn"] in self.running:
                self.running[fact["spawn"]] = (self.running[fact["spawn"]][0], fact["pid"])
            elif fact["type"] == "Ended":
                self.running.pop(fact["spawn"], None)
        ready = {fact["spawn"] for fact in self.told if fact["type"] in ("Ready", "Stopped")}
        self.readiness.restore(
            dict(self.kept),
            [(number, job, Step.MAIN, pid) for number, (job, pid) in self.running.items()],
            awaited=set(self.running) - ready,
        )
        early, self.early = self.early, []
        self.is_restored = True
        for call in early:
            call()

    def _lines(self) -> list[str]:
        path = self.directory / "journal"
        return path.read_text().splitlines() if path.exists() else []

    def write(self, entry: dict[str, Any]) -> None:
        fd = os.open(self.directory / "journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(fd, (json.dumps(entry) + "\n").encode())
        os.close(fd)
        self.told.append(entry)
        self.spawn_task(self._notify())

    async def _notify(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    def tell(self, fact: facts.Fact) -> None:
        self.write(msgspec.to_builtins(fact))
        if self.last_fact == type(fact).__name__:
            os.kill(os.getpid(), signal.SIGKILL)
        if isinstance(fact, facts.Stopped) and self.count(fact.spawn, "Stopped") == 1:
            # As the engine does, which is told twice and acts once.
            os.kill(self.running[fact.spawn][1], signal.SIGCONT)
        elif isinstance(fact, facts.Ready | facts.MainPid) and fact.pid is not None:
            self.running[fact.spawn] = (self.running[fact.spawn][0], fact.pid)

    def count(self, spawn: int, kind: str) -> int:
        return sum(fact["spawn"] == spawn and fact["type"] == kind for fact in self.told)

    def keep_it(self, name: str, fd: int) -> None:
        self.names.add(name)
        self.keep(name, fd)

    def drop_it(self, name: str) -> None:
        self.names.discard(name)
        self.drop(name)

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def members(self, number: int) -> tuple[int, ...]:
        if self.cgroup is None:
            return ()
        with contextlib.suppress(OSError):
            return tuple(map(int, (self.cgroup / str(number) / "cgroup.procs").read_text().split()))
        return ()

    def found_ended(self, key: str, pid: int, status: int) -> None:
        if not key.startswith("job:"):
            return
        if not getattr(self, "is_restored", False):
            self.early = [*getattr(self, "early", []), lambda: self.found_ended(key, pid, status)]
            return
        number = int(key[4:])
        if not self.readiness.ended(number, pid, status):
            self.running.pop(number, None)
            left = self.members(number)
            end = {"type": "Ended", "spawn": number, "pid": pid, "status": status, "left": left}
            self.write(end)
            self.readiness.forget(number)

    def found_stopped(self, key: str, pid: int) -> None:
        if not getattr(self, "is_restored", False):
            self.early = [*getattr(self, "early", []), lambda: self.found_stopped(key, pid)]
            return
        self.write({"type": "~", "spawn": int(key[4:])})
        self.readiness.stopped(int(key[4:]))

    async def start(self, request: Request) -> dict[str, Any]:
        message = request.message
        number = int(message["spawn"])
        job = msgspec.convert(message["job"], Job)
        effect = effects.Spawn(
            spawn=number,
            job=job,
            instance=message.get("instance", ""),
            step=Step.MAIN,
            process=Process(exec="true"),
            environment=(),
        )
        prepared = self.readiness.prepare(effect)
        out = os.open(self.directory / f"out.{number}", os.O_RDWR | os.O_CREAT, 0o666)
        group = None
        try:
            if self.cgroup is not None:
                (self.cgroup / str(number)).mkdir()
                group = os.open(self.cgroup / str(number), os.O_RDONLY)
            highest = max(prepared.descriptors, default=2)
            argv = tuple(message["argv"])
            if "LISTEN_FDS" in prepared.environment:
                argv = ("/bin/sh", "-c", 'export LISTEN_PID=$$; exec "$@"', "sh", *argv)
            setup = ProcessSetup(
                argv,
                {
                    "PATH": PATH,
                    "DIR": str(self.directory),
                    TOKEN: os.environ[TOKEN],
                    **prepared.environment,
                },
                descriptors=tuple(prepared.descriptors.get(n, out) for n in range(highest + 1)),
                cgroup=group,
                user=job.user,
                directory=message.get("directory", "/"),
            )
            pid, pidfd = spawn(setup, key=job_key(number), channel=self.channel)
        finally:
            prepared.close()
            os.close(out)
            if group is not None:
                os.close(group)
        os.close(pidfd)
        self.running[number] = (job, pid)
        self.write({"type": "Started", "spawn": number, "pid": pid, "job": message["job"]})
        self.readiness.started(effect, pid)
        return {"pid": pid, "environment": dict(prepared.environment)}

    async def wait(self, request: Request) -> list[Any]:
        message = request.message

        def found() -> list[Any]:
            return [
                fact
                for fact in self.told
                if fact.get("spawn") == message["spawn"] and fact["type"] in message["kinds"]
            ]

        async with self.changed, asyncio.timeout(DEADLINE_S / 2):
            await self.changed.wait_for(lambda: len(found()) >= message["count"])
        return found()

    async def facts(self, request: Request) -> list[Any]:
        return [fact for fact in self.told if fact.get("spawn") == request.message["spawn"]]

    async def list_warnings(self, request: Request) -> list[str]:
        return self.warnings

    async def notes(self, request: Request) -> Any:
        return msgspec.to_builtins(self.readiness.notes(request.message["spawn"]))

    async def forget(self, request: Request) -> None:
        self.readiness.forget(request.message["spawn"])

    async def is_stopping(self, request: Request) -> None:
        self.readiness.stopping(request.message["spawn"])

    async def strangers(self, request: Request) -> list[int]:
        """The main processes that are watched by a pidfd, as they are not the holder's."""
        watches = self.readiness._watches.values()
        return [watch.pid for watch in watches if watch.pidfd is not None]

    async def release(self, request: Request) -> None:
        self.readiness.release(request.message["job"], request.message["instance"])

    async def list_kept(self, request: Request) -> list[str]:
        return sorted(self.names)

    async def die_after(self, request: Request) -> None:
        self.last_fact = request.message["kind"]

    async def end_when_adopted(self, request: Request) -> None:
        """The next one that is chosen reads this fifo's end, and ends, before it is adopted."""
        self.ends_when_adopted = Path(request.message["fifo"])
        self.is_reaped_then = bool(request.message["reaped"])

    def adopt(self, pid: int, key: str) -> None:
        fifo, self.ends_when_adopted = self.ends_when_adopted, None
        if fifo is None:
            super().adopt(pid, key)
        elif self.is_reaped_then:
            fifo.write_bytes(b"")
            until(lambda: not Path(f"/proc/{pid}").exists())
            super().adopt(pid, key)
        else:
            holder = os.getppid()
            os.kill(holder, signal.SIGSTOP)
            until(lambda: state_of(holder) == "T")
            fifo.write_bytes(b"")
            until(lambda: state_of(pid) == "Z")
            super().adopt(pid, key)
            os.kill(holder, signal.SIGCONT)

    async def inotifies(self, request: Request) -> int:
        links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
        count = 0
        for link in links:
            with contextlib.suppress(FileNotFoundError):  # The one that listed them.
                count += "inotify" in os.readlink(link)
        return count

    async def again(self, request: Request) -> None:
        self.channel.send(b"?")


@contextmanager
def ready_site(directory: Path, *, has_cgroup: bool = True) -> Iterator[Site]:
    """A holder with such a supervisor; everything that it started is ended at the end."""
    top = _cgroup_of_test() if has_cgroup else None

    def make(inheritance: Any) -> Tested:
        supervisor = Tested(inheritance)
        supervisor.directory, supervisor.cgroup = directory, top
        return supervisor

    try:
        with holding(directory, make) as holder:
            site = Site(directory, holder, top)
            try:
                yield site
            finally:
                site.close()
                if top is not None:
                    _empty(top)
    finally:
        if top is not None:
            cgroups.remove(str(top))
            with contextlib.suppress(OSError):
                top.parent.rmdir()


def _cgroup_of_test() -> Path | None:
    unified = cgroups.find().unified
    if unified is None:
        return None
    top = Path(unified) / cgroups.TREE / f"ready-{os.getpid()}"
    cgroups.make(str(top))
    return top


def _empty(top: Path) -> None:
    (top / "cgroup.kill").write_text("1")
    fd = os.open(top, os.O_RDONLY)
    try:
        assert cgroups.wait_empty(fd, timeout_s=DEADLINE_S)
    finally:
        os.close(fd)
