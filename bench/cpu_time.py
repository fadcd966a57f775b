"""What a piece of work costs beside the time it takes: a figure that other people's load spares."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterable
from typing import Final

from bench.measure import Metrics
from hostlab.linux import procfs

_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")


def timed(name: str, work: Callable[[], object], roots: Iterable[int] = ()) -> Metrics:
    """`NAME_ms` and `NAME_cpu_ms`: user and system time of this process, of its children that have
    ended, and of everything below `roots`, which are nodes' holders.
    """
    roots = tuple(roots)
    before, begin = _cpu_s(roots), time.perf_counter()
    work()
    took_s = time.perf_counter() - begin
    return {f"{name}_ms": took_s * 1e3, f"{name}_cpu_ms": (_cpu_s(roots) - before) * 1e3}


def _cpu_s(roots: Iterable[int]) -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    below = sum(map(_tree_ticks, roots)) / _TICKS_A_SECOND
    return below + sum(each.ru_utime + each.ru_stime for each in used)


def _tree_ticks(pid: int) -> int:
    """Of a process, what it has reaped, and what it has not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(map(int, fields[11:15])) + sum(map(_tree_ticks, procfs.children(pid)))
