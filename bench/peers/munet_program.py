"""Run by munet's own Python, in private namespaces: start N nodes on a network, measure, stop.

Prints one JSON object as its last line. Imports nothing of hostlab.

munet starts `nsenter` and asks `pgrep` for its child at once; about one time in a hundred there is
none yet, and the whole start fails. A `pgrep` that asks again is put in front of the real one; it
costs a node a shell's start, 1 ms of more than 200.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from munet.parser import async_build_topology


def pss_bytes(pid: str) -> int:
    """Proportional set size of one process."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    line = next(line for line in rollup.splitlines() if line.startswith("Pss:"))
    return int(line.split()[1]) * 1024


PATIENT_PGREP = """#!/bin/sh
for attempt in 1 2 3 4 5 6 7 8 9; do
    {pgrep} "$@" && exit 0
done
exit 1
"""


def make_pgrep_patient(directory: str) -> None:
    """See the module."""
    pgrep = shutil.which("pgrep")
    script = Path(directory, "pgrep")
    script.write_text(PATIENT_PGREP.format(pgrep=pgrep), encoding="ascii")
    script.chmod(0o755)
    os.environ["PATH"] = f"{directory}:{os.environ['PATH']}"


async def main(nodes: int, execs: int, directory: str) -> None:
    """See the module."""
    logging.disable(logging.CRITICAL)
    config = {
        "config_pathname": f"{directory}/munet.yaml",
        "topology": {
            "networks": [{"name": "net0", "ip": "10.0.0.0/16"}],
            "nodes": [
                {"name": f"n{number}", "connections": [{"to": "net0"}]} for number in range(nodes)
            ],
        },
    }
    quiet = logging.getLogger("quiet")
    quiet.setLevel(logging.CRITICAL)
    begin = time.perf_counter()
    net = await async_build_topology(config, logger=quiet, rundir=f"{directory}/run")
    await net.run()
    start_s = time.perf_counter() - begin

    # The namespace is ours alone: every process in it but this one belongs to munet.
    me = str(os.getpid())
    others = [entry for entry in os.listdir("/proc") if entry.isdigit() and entry != me]
    own = pss_bytes("self")
    hosts = sum(pss_bytes(pid) for pid in others)
    host = next(iter(net.hosts.values()))
    begin = time.perf_counter()
    for _ in range(execs):
        host.cmd_status(["/bin/true"])
    exec_s = time.perf_counter() - begin

    begin = time.perf_counter()
    await net.async_delete()
    stop_s = time.perf_counter() - begin
    result = {
        "start_ms": start_s / nodes * 1e3,
        "stop_ms": stop_s / nodes * 1e3,
        "exec_ms": exec_s / execs * 1e3,
        "pss_mb": hosts / nodes / 1e6,
        "pss_all_mb": (hosts + own) / nodes / 1e6,
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="hostlab-bench-munet-") as scratch:
        make_pgrep_patient(scratch)
        asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), scratch))
