"""Run by Mininet's own Python, in private namespaces: the bare network of a drawing; wait; end.

A segment of two is a veth pair without anything between, which is what Mininet is fastest with.
Prints one JSON object when all is started. Imports nothing of hostlab.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from mininet.log import setLogLevel
from mininet.net import Mininet
from mininet.nodelib import LinuxBridge


def main(drawing: dict[str, Any]) -> None:
    """See the module."""
    setLogLevel("error")
    # Its set-up only raises the machine's sysctls, which are not ours to change.
    Mininet.inited = True
    begin = time.perf_counter()
    net = Mininet(controller=None, switch=LinuxBridge)
    on: dict[str, list[tuple[Any, dict[str, str]]]] = {name: [] for name in drawing["segments"]}
    for host in drawing["hosts"]:
        made = net.addHost(host["name"])
        for port in host["ports"]:
            on[port["segment"]].append((made, {"ip": port["addresses"][0]}))
    for segment, ends in on.items():
        if len(ends) == 2:
            (one, here), (other, there) = ends
            net.addLink(one, other, params1=here, params2=there)
        else:
            switch = net.addSwitch(segment)
            for host, params in ends:
                net.addLink(host, switch, params1=params)
    net.start()
    staged_s = time.perf_counter() - begin
    networks = {host.name: f"/proc/{host.pid}/ns/net" for host in net.hosts}
    print(json.dumps({"staged_s": staged_s, "networks": networks}), flush=True)
    sys.stdin.readline()
    # The namespaces are ours alone, and end with us.
    os._exit(0)


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        main(json.load(file))
