"""Run by munet's own Python, in private namespaces: the network of a drawing; wait; end.

Every segment is one of munet's networks, which is a bridge, as hostlab's is; the daemons are each
node's `cmd`, and so are IPv6 addresses (munet 0.17.3 asserts that one beside IPv4 is none). Prints
one JSON object when munet says that all runs. Imports nothing of hostlab.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shlex
import sys
import tempfile
import time
from ipaddress import ip_interface
from typing import Any

from munet.parser import async_build_topology

from bench.peers.by_hand_program import daemons, place
from bench.peers.munet_program import make_pgrep_patient


def topology(drawing: dict[str, Any], directory: str) -> dict[str, Any]:
    """The drawing in munet's words."""
    return {
        "networks-autonumber": False,
        "ipv6-enable": True,
        "networks": [{"name": segment} for segment in drawing["segments"]],
        "nodes": [_node(host, f"{directory}/{host['name']}") for host in drawing["hosts"]],
    }


def _node(host: dict[str, Any], own: str) -> dict[str, Any]:
    os.mkdir(own)
    place(host, own)
    settings = [f"{key}={value}" for key, value in host["sysctls"]]
    lines = [shlex.join(("sysctl", "-qw", *settings))]
    lines += [f"ip address add {address} dev lo" for address in host["loopbacks"]]
    lines += [
        f"ip address add {address} dev {port['name']} nodad"
        for port in host["ports"]
        for address in port["addresses"]
        if ip_interface(address).version == 6
    ]
    return {
        "name": host["name"],
        "connections": [_connection(port) for port in host["ports"]],
        "cmd": "\n".join(("#!/bin/sh", *lines, daemons(host, own))),
    }


def _connection(port: dict[str, Any]) -> dict[str, Any]:
    (address,) = (each for each in port["addresses"] if ip_interface(each).version == 4)
    return {"to": port["segment"], "name": port["name"], "ip": address}


async def main(drawing: dict[str, Any], directory: str) -> None:
    """See the module."""
    logging.disable(logging.CRITICAL)
    config = {
        "config_pathname": f"{directory}/munet.yaml",
        "topology": topology(drawing, directory),
    }
    quiet = logging.getLogger("quiet")
    quiet.setLevel(logging.CRITICAL)
    begin = time.perf_counter()
    net = await async_build_topology(config, logger=quiet, rundir=f"{directory}/run")
    await net.run()
    staged_s = time.perf_counter() - begin
    networks = {name: f"/proc/{host.pid}/ns/net" for name, host in net.hosts.items()}
    print(json.dumps({"staged_s": staged_s, "networks": networks}), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    # The namespaces are ours alone, and end with us.
    os._exit(0)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="hostlab-bench-munet-") as scratch:
        os.chmod(scratch, 0o755)
        make_pgrep_patient(scratch)
        with open(sys.argv[1], encoding="utf-8") as file:
            wanted = json.load(file)
        asyncio.run(main(wanted, scratch))
