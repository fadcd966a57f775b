"""The seam to hostlab's init: a lab of one node with jobs, or an init without a lab.

Who starts nothing but jobs is measured from the first process on, the hub's start included.
"""

from __future__ import annotations

import importlib
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import ours

NODE = "n0"
DEADLINE_S = 60.0
LOOK_S = 0.002
PROGRAM = "sleep"


def job_name(number: int) -> str:
    """The name of one of many jobs."""
    return f"job{number}"


def sleepers(count: int, more: str = "") -> str:
    """So many jobs that sleep, as lines of a description."""
    return "".join(
        f"      {job_name(at)}: {{exec: {PROGRAM} infinity{more}}}\n" for at in range(count)
    )


class Node:
    """The one node of a lab that is up."""

    def __init__(self, running: ours.Running, name: str) -> None:
        access = importlib.import_module("hostlab.lab.access")
        self.up_s = running.up_s
        self.holder = running.holders[NODE]
        self.hub_pids = running.hub_pids
        self.client = access.NodeConnection(name, NODE, self.holder)

    def control(self) -> Any:
        """A connection to its init, which stays open."""
        return self.client.control()

    def supervisor(self) -> int:
        """The pid of its supervisor, as the machine counts."""
        with self.control() as control:
            inside = control.call("ping")["pid"]
        return next(pid for pid in children(self.holder) if _pid_inside(pid) == inside)

    def wait_running(self, count: int) -> float:
        """Wait until so many jobs execute their programs and it says so; the time then."""
        wait_executing(self.holder, count)
        table = self.client.wait_settled(within_s=DEADLINE_S)
        settled = time.perf_counter()
        must_run(table, count)
        return settled


@contextmanager
def node_with(jobs: str) -> Iterator[Node]:
    """A lab of one node with these jobs, lines of a description; taken down at the end."""
    name = f"bench-{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="hostlab-bench-") as directory:
        path = Path(directory, "lab.yaml")
        text = f"name: {name}\nnodes:\n  {NODE}:\n    jobs:\n{jobs}"
        path.write_text(text, encoding="utf-8")
        running = ours.Running(path, ())
        try:
            yield Node(running, name)
        finally:
            running.down()


class Alone:
    """`hostlab init` with so many jobs that sleep, beside the machine's own; a context manager."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._scratch = tempfile.TemporaryDirectory(prefix="hostlab-bench-", dir=_volatile())
        self._process: subprocess.Popen[bytes] | None = None
        self.running_s = 0.0

    def __enter__(self) -> Alone:
        jobs = Path(self._scratch.name, "jobs")
        jobs.mkdir()
        for at in range(self.count):
            text = f"start on startup\nexec {PROGRAM} infinity\n"
            Path(jobs, f"{job_name(at)}.conf").write_text(text, encoding="ascii")
        argv = ours.command("init", "--confdir", str(jobs), "--logdir", f"{self._scratch.name}/log")
        environment = {**os.environ, ours.RUN_VARIABLE: f"{self._scratch.name}/run"}
        begin = time.perf_counter()
        self._process = subprocess.Popen(argv, env=environment)
        try:
            wait_executing(self._process.pid, self.count)
            client = self._client()
            must_run(client.wait_settled(within_s=DEADLINE_S), self.count)
            self.running_s = time.perf_counter() - begin
        except BaseException:
            self._end()
            raise
        return self

    def pids(self) -> tuple[int, ...]:
        """The holder and its supervisor."""
        assert self._process is not None
        with self._client().control() as control:
            return (self._process.pid, control.call("ping")["pid"])

    def _client(self) -> Any:
        module = importlib.import_module("hostlab.init.client")
        return module.LocalInit(f"{self._scratch.name}/run/{self._directory()}")

    def _directory(self) -> str:
        run = Path(self._scratch.name, "run")
        return next(str(path.parent.relative_to(run)) for path in run.rglob("control.sock"))

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        assert self._process is not None
        below = ours.descendants((self._process.pid,)) - {self._process.pid}
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(DEADLINE_S)
        finally:
            self._process.kill()
            self._process.wait()
            end_all(below)
            self._scratch.cleanup()


def _volatile() -> str | None:
    """A tmpfs for what labs have in theirs."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def end_all(pids: Iterable[int]) -> None:
    """Kill what is left of these processes."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def children(pid: int) -> tuple[int, ...]:
    """A process' children, as the machine counts; OSError when it is gone."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return tuple(int(word) for word in text.split())


def wait_executing(parent: int, count: int) -> None:
    """Wait until so many children of a process execute the jobs' program; TimeoutError."""
    deadline = time.monotonic() + DEADLINE_S
    left: set[int] = set()
    while True:
        found = children(parent)
        if len(found) >= count:
            left = {pid for pid in found if not _executes(pid)}
            if len(found) - len(left) >= count:
                return
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(found)} of {count} run, {len(left)} something else")
        pause()


def pause() -> None:
    """Between two looks at what tells nobody when it changes."""
    select.select([], [], [], LOOK_S)


def _executes(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="ascii").strip() == PROGRAM
    except FileNotFoundError:
        return False


def _pid_inside(pid: int) -> int:
    """A process' number in the innermost pid namespace that it is in."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("NSpid:"))
    return int(line.split()[-1])


def must_run(table: Iterable[Mapping[str, Any]], count: int) -> None:
    """RuntimeError unless so many jobs run."""
    states = [row["state"] for row in table]
    if states.count("running") != count:
        others = {state: states.count(state) for state in states}
        raise RuntimeError(f"{count} jobs are to run: {others}")


def hung_up() -> type[Exception]:
    """What a client is told whose init died over its command."""
    failed: type[Exception] = importlib.import_module("hostlab.errors").Failed
    return failed


def timed_ms(action: Callable[[], object]) -> float:
    """Milliseconds that something takes, once."""
    begin = time.perf_counter()
    action()
    return (time.perf_counter() - begin) * 1e3
