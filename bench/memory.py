"""Memory as the kernel shares it out: the proportional set size of processes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def pss_bytes(pids: Iterable[int]) -> int:
    """Sum of PSS: every page counted once, divided among those who map it (proc(5), smaps_rollup).

    OSError when a process is gone or may not be read.
    """
    return sum(_one_pss_bytes(pid) for pid in pids)


def _one_pss_bytes(pid: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    for line in rollup.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/{pid}/smaps_rollup has no Pss line")


def pss_mb_per_node(pids: Iterable[int], nodes: int) -> float:
    """Megabytes (10**6 bytes) a node."""
    return pss_bytes(pids) / nodes / 1e6


def private_mb(pid: int) -> float:
    """Megabytes that would come free if this process ended."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    kilobytes = sum(
        int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_")
    )
    return kilobytes * 1024 / 1e6
