"""A job that writes much at once, beside one that writes as much and is not disturbed by it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from pathlib import Path

from bench import ours_init
from bench.measure import Metrics

LINE_BYTES = 100
SOURCE = "/dev/shm/flood"
WITNESS_LINES = 2000
DEADLINE_S = 60.0
JOBS = (
    f"      alone: {{exec: cat {SOURCE}, task: true, manual: true}}\n"
    f"      beside: {{exec: cat {SOURCE}, task: true, manual: true}}\n"
    f"      witness: {{exec: seq {WITNESS_LINES}, task: true, start_on: started beside}}\n"
)


def hostlab(size_bytes: int) -> Metrics:
    """A job's output to its log: the time until all of it is there.

    A second flood then has a witness beside it, whose lines must all arrive.
    """
    with ours_init.node_with(JOBS) as node, node.control() as control:
        last = _write_source(node, size_bytes)
        begin = time.perf_counter()
        control.call("job", name="alone", action="start")
        _wait_line(node, "alone", last)
        took_s = time.perf_counter() - begin
        control.call("job", name="beside", action="start")
        _wait_line(node, "beside", last)
        _wait_line(node, "witness", b"%d" % WITNESS_LINES)
        witness = Path(node.client.log_path("witness")).read_bytes().split()
        expected = [b"%d" % at for at in range(1, WITNESS_LINES + 1)]
        return {
            "flood_ms": took_s * 1e3,
            "whole_share": whole_share(_logged(node, "alone") + _logged(node, "beside")),
            "others_whole_share": float(witness == expected),
        }


def cat(size_bytes: int) -> Metrics:
    """The same program, in the same node, writing into a pipe to `cat > file`."""
    with ours_init.node_with(JOBS) as node:
        _write_source(node, size_bytes)
        command = f"/bin/cat {SOURCE} | /bin/cat > {SOURCE}.copy"
        begin = time.perf_counter()
        done = node.client.execute(["/bin/sh", "-c", command])
        took_s = time.perf_counter() - begin
        if done.status:
            raise RuntimeError(f"{command}: {done.stderr.decode(errors='replace')}")
        return {"flood_ms": took_s * 1e3}


def _write_source(node: ours_init.Node, size_bytes: int) -> bytes:
    """Numbered lines, in the node's own memory; the last of them."""
    count = size_bytes // LINE_BYTES
    lines = [b"%0*d" % (LINE_BYTES - 1, at) for at in range(count)]
    done = node.client.execute(
        ["/bin/sh", "-c", f"cat > {SOURCE}"], stdin=b"\n".join(lines) + b"\n"
    )
    if done.status:
        raise RuntimeError(f"{SOURCE}: {done.stderr.decode(errors='replace')}")
    return lines[-1]


def _wait_line(node: ours_init.Node, job: str, line: bytes) -> None:
    """Wait until a log ends in this line; TimeoutError."""
    path = Path(node.client.log_path(job))
    deadline = time.monotonic() + DEADLINE_S
    while not _ends_in(path, line):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the log of {job} does not end in its last line")
        ours_init.pause()


def _ends_in(path: Path, line: bytes) -> bool:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - len(line) - 1))
            return file.read() == line + b"\n"
    except FileNotFoundError:
        return False


def _logged(node: ours_init.Node, job: str) -> list[Sequence[bytes]]:
    """The lines of a log, from the oldest file that was kept to the newest."""
    path = Path(node.client.log_path(job))
    older = sorted(path.parent.glob(f"{path.name}.*"), key=lambda each: -int(each.suffix[1:]))
    lines: list[bytes] = []
    for each in (*older, path):
        lines += each.read_bytes().splitlines()
    return [lines]


def whole_share(logs: Sequence[Sequence[bytes]]) -> float:
    """How many lines follow the one before them; 1 when none is missing in what was kept."""
    steps = [
        int(after) == int(before) + 1 if before.isdigit() and after.isdigit() else False
        for lines in logs
        for before, after in itertools.pairwise(lines)
    ]
    return sum(steps) / len(steps)
