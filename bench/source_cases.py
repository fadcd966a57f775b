"""What the sources cost (issue 5, "Speed"): armed timers, watched paths, an init that sleeps."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import statistics
import tempfile
import time
from collections import Counter
from datetime import UTC
from pathlib import Path
from typing import Final

from bench import ours, ours_init
from bench.measure import Benchmark, Contender, Metrics, Target
from hostlab.init.sources import Surroundings
from hostlab.init.sources.file import FileSource
from hostlab.jobs import facts
from hostlab.jobs.engine import Engine
from hostlab.jobs.schedules import Every, Timer
from hostlab.jobs.timers import Timers
from hostlab.spec.job import Expression, Job, Match

TIMERS: Final = 10_000
OPERANDS: Final = 1000
"""Of one job."""
PATHS: Final = 1000
CHANGES: Final = 10_000
CHANGES_AT_ONCE: Final = 10
BURST_S: Final = 0.01
WINDOW_S: Final = 10.0
IDLE_S: Final = 60.0
DEADLINE_S: Final = 60.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")


def timers_case(timers: int = TIMERS, window_s: float = WINDOW_S) -> Benchmark:
    """Many timers of a node, one of which comes each second."""
    return Benchmark(
        name="timers",
        title=f"{timers:,} armed timers in a node, one of which comes each second",
        contenders=(Contender("hostlab", lambda: _timers(timers, window_s), ours.lab_missing),),
        targets=(
            Target("cpu_percent", 1.0),
            # O(log n): in proportion it would be 100.
            Target("next_us", 3.0, "hostlab", "next_of_hundredth_us"),
        ),
        rounds=3,
    )


def files_case(paths: int = PATHS, changes: int = CHANGES) -> Benchmark:
    """Files that others change, seen by the source and by the engine with a job for each."""
    rate = round(CHANGES_AT_ONCE / BURST_S)
    return Benchmark(
        name="files",
        title=f"{changes:,} changes of {paths:,} watched paths, a job for each; {rate:,} a second",
        contenders=(Contender("hostlab", lambda: _files(paths, changes)),),
        targets=(
            Target("unseen_or_twice", 0.0),
            Target("behind_p99_ms", 5.0),
        ),
        rounds=3,
    )


def idle_case(window_s: float = IDLE_S) -> Benchmark:
    """A supervisor whose jobs wait for something of every source."""
    return Benchmark(
        name="idle",
        title="wake-ups a minute of an idle init with every source loaded",
        contenders=(Contender("hostlab", lambda: _idle(window_s), ours.lab_missing),),
        targets=(Target("wakeups_per_min", 0.0),),
        rounds=1,
    )


# Timers.


def _timers(count: int, window_s: float) -> Metrics:
    """The node's timers are operands of few jobs, since jobs are not what is measured."""
    jobs = "      second: {start_on: timer EVERY=1s}\n"
    for first in range(0, count - 1, OPERANDS):
        operands = range(first, min(first + OPERANDS, count - 1))
        hours = " or ".join(f"timer EVERY={3600 + number}s" for number in operands)
        jobs += f"      many{first}: {{start_on: {hours}, exec: /bin/true, task: true}}\n"
    with ours_init.node_with(jobs) as node:
        node.client.wait_settled(within_s=DEADLINE_S)
        assert len(node.client.timers()) == count
        pid = node.supervisor()
        _wait(1.0)
        before, switches = _cpu_s(pid), _switches(pid)
        _wait(window_s)
        used, switched = _cpu_s(pid) - before, _switches(pid) - switches
    return {
        "cpu_percent": 100 * used / window_s,
        "wakeups_per_s": switched / window_s,
        "next_us": _next_us(count),
        "next_of_hundredth_us": _next_us(count // 100),
    }


def _next_us(count: int) -> float:
    """What it takes to let one of so many come, and to find the one after it."""
    timers = Timers(UTC)
    for number in range(count - 1):
        timers.add(str(number), Timer(Every(3600.0 + number)), 0.0, 0.0)
    timers.add("second", Timer(Every(1.0)), 0.0, 0.0)
    found = []
    for second in range(1, 1000):
        begin = time.perf_counter()
        fired = timers.due(float(second), float(second))
        timers.next_monotonic()
        found.append(time.perf_counter() - begin)
        assert len(fired) == 1
    return statistics.median(found) * 1e6


# Files.


def _files(paths: int, changes: int) -> Metrics:
    with tempfile.TemporaryDirectory(prefix="hostlab-bench-") as directory:
        names = [f"{directory}/d{number % 50}/f{number}" for number in range(paths)]
        for name in names:
            os.makedirs(os.path.dirname(name), exist_ok=True)
            Path(name).touch()
        return asyncio.run(_watch(names, changes))


async def _watch(names: list[str], changes: int) -> Metrics:
    engine, seen, behind = Engine(), Counter[str](), []
    done = asyncio.Event()

    def tell(emit: facts.Emit) -> None:
        engine.handle(emit, time.monotonic())
        told = time.monotonic_ns()
        path = dict(emit.environment)["FILE"]
        with open(path, "rb", buffering=0) as file:
            behind.append((told - int(file.read())) / 1e6)
        seen[path] += 1
        if len(behind) == changes:
            done.set()

    kept: dict[str, int] = {}

    def keep(name: str, fd: int) -> None:
        drop(name)
        kept[name] = os.dup(fd)

    def drop(name: str) -> None:
        if name in kept:
            os.close(kept.pop(name))

    matches = [Match("file", (f"FILE={name}", "EVENT=modify")) for name in names]
    for number, match in enumerate(matches):
        job = Job(name=f"job{number}", start_on=Expression((match,)))
        engine.handle(facts.Load(job=job), 0.0)
    source = FileSource(Surroundings(tell=tell, warn=print, keep=keep, drop=drop, kept={}))
    source.listen(frozenset(matches))
    writer = os.fork()
    if writer == 0:
        _write(names, changes)
    try:
        async with asyncio.timeout(DEADLINE_S):
            await done.wait()
    finally:
        _end(writer)
        source.close()
    each = changes // len(names)
    behind.sort()
    return {
        "unseen_or_twice": sum(abs(seen[name] - each) for name in names),
        "behind_median_ms": statistics.median(behind),
        "behind_p99_ms": behind[int(len(behind) * 0.99)],
        "behind_most_ms": behind[-1],
    }


def _end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _write(names: list[str], changes: int) -> None:
    """Some changes at once, then a pause; each says in the file when it was."""
    try:
        begin = time.monotonic()
        for number in range(changes):
            fd = os.open(names[number % len(names)], os.O_WRONLY)
            os.write(fd, str(time.monotonic_ns()).encode())
            os.close(fd)
            if number % CHANGES_AT_ONCE == CHANGES_AT_ONCE - 1:
                _wait(begin + (number + 1) / CHANGES_AT_ONCE * BURST_S - time.monotonic())
        signal.pause()
    finally:
        os._exit(0)


# Sleep.

EVERY_SOURCE: Final = (
    "timer CALENDAR=yearly", "timer CRON='0 0 1 1 *'", "timer EVERY=300d", "timer ON=zone-change",
    "file FILE=/srv/in/", "file FILE=/srv/*.txt", "path NOT_EMPTY=/srv/spool",
    "socket PROTO=unix SOCKET_PATH=/run/bench.socket", "usb-device-added",
    "net-device-added INTERFACE=absent", "net-address-added INTERFACE=absent",
    "net-route-added TO=absent", "net-neighbour-added ADDRESS=absent",
)  # fmt: skip
"""Of those that need nothing but the kernel."""


def _idle(window_s: float) -> Metrics:
    jobs = "".join(
        f"      w{number}: {{start_on: {operand!r}, exec: /bin/true, task: true}}\n"
        for number, operand in enumerate(EVERY_SOURCE)
    )
    with ours_init.node_with(jobs) as node:
        node.client.wait_settled(within_s=DEADLINE_S)
        pids = (node.holder, node.supervisor())
        _wait(1.0)
        before = sum(map(_switches, pids))
        _wait(window_s)
        return {"wakeups_per_min": (sum(map(_switches, pids)) - before) * 60 / window_s}


def _switches(pid: int) -> int:
    """How often a process' threads have gone to sleep or were put aside (proc_pid_status(5))."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        for line in Path(f"/proc/{pid}/task/{task}/status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                total += int(line.split()[1])
    return total


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _wait(seconds: float) -> None:
    if seconds > 0:
        select.select([], [], [], seconds)
