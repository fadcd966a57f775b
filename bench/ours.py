"""The seam to hostlab: the only module that knows its library and its command line.

The library's names are `hostlab.lab.api.Lab(path)` with `up()`, `down()` and `exec(node, argv)`;
`holders()` (node -> pid of its PID 1, as the machine counts) and `hub_pids()` are asked for where
memory is added up and neighbours are tried.
"""

from __future__ import annotations

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import generate, reach

API = "hostlab.lab.api"
CLI = "hostlab.cli.main"
IMPORTTIME_SHOWN = 8
HUB_END_DEADLINE_S = 10.0


def lab_missing() -> str | None:
    """Why labs cannot be measured; None when they can."""
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


@dataclass(slots=True)
class Running:
    """A lab that is up."""

    lab: Any
    nodes: tuple[generate.Expected, ...]
    up_s: float
    ended: bool = False

    def down(self) -> float:
        """Take it down; how many seconds that took, audit included."""
        self.ended = True
        begin = time.perf_counter()
        self.lab.down()
        return time.perf_counter() - begin

    @property
    def holders(self) -> Mapping[str, int]:
        """Node -> pid of its PID 1, as the machine counts."""
        found: Mapping[str, int] = self.lab.holders()
        return found

    @property
    def hub_pids(self) -> tuple[int, ...]:
        """The processes of the hub: its holder and its supervisor."""
        return tuple(self.lab.hub_pids())

    @property
    def members(self) -> tuple[reach.Member, ...]:
        """The nodes as `reach.verify` wants them."""
        holders = self.holders
        return tuple(
            reach.Member(node.name, holders[node.name], node.segment, node.address)
            for node in self.nodes
        )

    def exec_true(self) -> None:
        """Run `true` in the first node and wait for it."""
        self.lab.exec(self.nodes[0].name, ["/bin/true"])


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
    """A lab, up from a file; taken down at the end unless it is down already."""
    api = importlib.import_module(API)
    with tempfile.TemporaryDirectory(prefix="hostlab-bench-") as directory:
        path = generate.write(Path(directory), f"bench{nodes}", nodes, segments, job=job)
        lab = api.Lab(path)
        begin = time.perf_counter()
        lab.up()
        up_s = time.perf_counter() - begin
        running = Running(lab, generate.expected(nodes, segments), up_s)
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
