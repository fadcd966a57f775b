"""Run by Mininet's own Python, in private namespaces: start N hosts on a bridge, measure, stop.

Prints one JSON object as its last line. Imports nothing of hostlab.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from mininet.log import setLogLevel
from mininet.net import Mininet
from mininet.nodelib import LinuxBridge


def pss_bytes(pid: str) -> int:
    """Proportional set size of one process."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    line = next(line for line in rollup.splitlines() if line.startswith("Pss:"))
    return int(line.split()[1]) * 1024


def main(nodes: int, execs: int) -> None:
    """See the module."""
    setLogLevel("error")
    # Its set-up only raises the machine's sysctls, which are not ours to change.
    Mininet.inited = True
    begin = time.perf_counter()
    net = Mininet(controller=None, switch=LinuxBridge)
    switch = net.addSwitch("s1")
    for number in range(nodes):
        net.addLink(net.addHost(f"h{number}"), switch)
    net.start()
    start_s = time.perf_counter() - begin

    own = pss_bytes("self")
    hosts = sum(pss_bytes(str(host.pid)) for host in net.hosts)
    begin = time.perf_counter()
    for _ in range(execs):
        # By its path: without it, it is a builtin of the shell, and nothing is executed.
        net.hosts[0].cmd("/bin/true")
    exec_s = time.perf_counter() - begin

    begin = time.perf_counter()
    net.stop()
    stop_s = time.perf_counter() - begin
    result = {
        "start_ms": start_s / nodes * 1e3,
        "stop_ms": stop_s / nodes * 1e3,
        "exec_ms": exec_s / execs * 1e3,
        "pss_mb": hosts / nodes / 1e6,
        "pss_all_mb": (hosts + own) / nodes / 1e6,
    }
    print(json.dumps(result), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
