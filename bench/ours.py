"""The seam to hostlab: the only module that knows its library and its command line.

A lab is staged as `hostlab up` stages it, by `hostlab.lab.driver`; commands are run by
the synchronous `hostlab.api`.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench import generate, reach

API = "hostlab.api"
DRIVER = "hostlab.lab.driver"
SPEC = "hostlab.spec"
CLI = "hostlab.cli.main"
RUN_VARIABLE = "HOSTLAB_RUN"
IMPORTTIME_SHOWN = 8
HUB_END_DEADLINE_S = 10.0


def volatile_run_directory() -> None:
    """Keep labs on a tmpfs where this machine's /run is none, as it is on an installed system.

    Measured on ext4: 0.9 ms more a node, for inodes that were deleted within the last five seconds
    are passed over one by one (fs/ext4/ialloc.c, recently_deleted).
    """
    if os.geteuid() == 0 and os.stat("/run").st_dev == os.stat("/").st_dev:
        os.environ.setdefault(RUN_VARIABLE, f"/dev/shm/hostlab-bench-{os.getpid()}")


def lab_missing() -> str | None:
    """Why labs cannot be measured; None when they can."""
    return _module_missing(DRIVER)


def exec_missing() -> str | None:
    """Why commands in a node cannot be measured; None when they can."""
    return _module_missing(API)


def cli_missing() -> str | None:
    """Why the command line cannot be measured; None when it can."""
    return _module_missing(CLI)


def _module_missing(name: str) -> str | None:
    try:
        importlib.import_module(name)
    except ImportError as error:
        return f"cannot import {name}: {error}"
    return None


class Staged:
    """A lab that is up, by its name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._driver = importlib.import_module(DRIVER)

    @property
    def holders(self) -> Mapping[str, int]:
        """Node -> pid of its PID 1, as the machine counts."""
        return {node["name"]: node["pid"] for node in self._status()["nodes"]}

    @property
    def hub_pids(self) -> tuple[int, ...]:
        """The processes of the hub: its supervisor, and the holder that is its parent."""
        supervisor: int = self._status()["pid"]
        stat = Path(f"/proc/{supervisor}/stat").read_text(encoding="ascii")
        return (int(stat.rpartition(")")[2].split()[1]), supervisor)

    def _status(self) -> Any:
        with self._driver.running(self.name) as control:
            return control.call("status")


class Running(Staged):
    """A lab that is up from a file."""

    def __init__(self, path: Path, nodes: tuple[generate.Expected, ...]) -> None:
        self.nodes = nodes
        self.ended = False
        self._path = path
        begin = time.perf_counter()
        description = importlib.import_module(SPEC).load(path.read_text("utf-8"), file=str(path))
        super().__init__(description.name)
        self._driver.stage(description)
        self.up_s = time.perf_counter() - begin

    def down(self) -> float:
        """Take it down; how many seconds that took."""
        self.ended = True
        begin = time.perf_counter()
        self._driver.unstage(self.name)
        return time.perf_counter() - begin

    @property
    def members(self) -> tuple[reach.Member, ...]:
        """The nodes as `reach.verify` wants them."""
        holders = self.holders
        return tuple(
            reach.Member(node.name, holders[node.name], node.segment, node.address)
            for node in self.nodes
        )

    def exec_true(self) -> Callable[[], object]:
        """What runs `true` in the first node and waits for it."""
        node = importlib.import_module(API).Lab(self._path)[self.nodes[0].name]
        return lambda: _must_succeed(node.execute(["/bin/true"]))


def _must_succeed(done: Any) -> None:
    if done.status:
        raise RuntimeError(f"true ended with {done.status}: {done.stderr.decode()}")


def cycle(
    nodes: int,
    segments: int,
    during: Callable[[Running], Mapping[str, float]] | None = None,
    *,
    job: str | None = None,
) -> dict[str, float]:
    """Up, `during`, down: start_ms and stop_ms a node, and what `during` measured."""
    with staged(nodes, segments, job=job) as running:
        metrics = dict(during(running)) if during else {}
        down_s = running.down()
    share = {"start_ms": running.up_s / nodes * 1e3, "stop_ms": down_s / nodes * 1e3}
    return share | metrics


@contextmanager
def staged(nodes: int, segments: int, *, job: str | None = None) -> Iterator[Running]:
    """A lab, up from a file; taken down at the end unless it is down already.

    The time it takes is from the file to everything up, the hub's own start included.
    """
    with tempfile.TemporaryDirectory(prefix="hostlab-bench-") as directory:
        name = f"bench-{os.getpid()}"
        path = generate.write(Path(directory), name, nodes, segments, job=job)
        running = Running(path, generate.expected(nodes, segments))
        try:
            yield running
        finally:
            if not running.ended:
                running.down()


def end_hub(running: Running) -> None:
    """Kill the hub and wait until it is gone, as a crash would; its nodes stay."""
    pids = running.hub_pids
    with ExitStack() as stack:
        watched = []
        for pid in pids:
            fd = os.pidfd_open(pid)
            stack.callback(os.close, fd)
            watched.append(fd)
        for fd in watched:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        for fd in watched:
            # A pidfd is readable once its process has ended (pidfd_open(2)).
            if not select.select([fd], [], [], HUB_END_DEADLINE_S)[0]:
                raise TimeoutError(f"the hub {pids} did not end within {HUB_END_DEADLINE_S} s")


def descendants(pids: Iterable[int]) -> frozenset[int]:
    """These processes and everything below them, as /proc tells it now."""
    found: set[int] = set()
    left = list(pids)
    while left:
        pid = left.pop()
        found.add(pid)
        # One may end meanwhile; what was below it is somebody else's by then.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
            left += [int(child) for child in children.split()]
    return frozenset(found)


def command(*arguments: str) -> tuple[str, ...]:
    """The command line of hostlab as a user of this environment runs it."""
    script = Path(sys.executable).with_name("hostlab")
    if script.exists():
        return (str(script), *arguments)
    found = shutil.which("hostlab")
    return (found, *arguments) if found else (sys.executable, "-m", CLI, *arguments)


def run_ms(argv: tuple[str, ...]) -> float:
    """Milliseconds of a command, from its start to its end; RuntimeError when it fails."""
    begin = time.perf_counter()
    done = subprocess.run(argv, capture_output=True, check=False)
    took_ms = (time.perf_counter() - begin) * 1e3
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.decode(errors='replace')[-500:]}")
    return took_ms


def slowest_imports() -> str:
    """What `hostlab --version` imports, the dearest first (python -X importtime)."""
    if cli_missing() is not None:
        return ""
    program = "import sys; sys.argv = ['hostlab', '--version']; from {0} import main; main()"
    argv = (sys.executable, "-X", "importtime", "-c", program.format(CLI))
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    rows = []
    for line in done.stderr.splitlines():
        own, _, rest = line.removeprefix("import time:").partition("|")
        if own.strip().isdigit():
            rows.append((int(own), rest.partition("|")[2].strip()))
    rows.sort(reverse=True)
    lines = [f"{own_us / 1e3:6.1f} ms  {name}" for own_us, name in rows[:IMPORTTIME_SHOWN]]
    total_ms = sum(own_us for own_us, _ in rows) / 1e3
    return "\n".join((f"imports of hostlab --version, {total_ms:.0f} ms in all:", *lines))
