"""Run in private namespaces: the network of a drawing by hand, with ip(8) and sh(1); wait; end.

`ip netns` for each node, a bridge for each segment in a namespace of their own, and in each node
one shell that sets it up and starts its daemons. Every list of links and addresses is one
`ip -batch`. With `direct`, a segment of two is a veth pair without a bridge. Imports nothing of
hostlab. Prints one JSON object when all is started: seconds, and where each node's network is.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

NETNS = "/run/netns"


def main(drawing: dict[str, Any], directory: str, *, direct: bool) -> None:
    """See the module."""
    _run("mount", "--make-rprivate", "/")
    Path(NETNS).mkdir(exist_ok=True)
    _run("mount", "-t", "tmpfs", "tmpfs", NETNS)
    for table in ("iptables", "ip6tables", "arptables"):
        path = Path(f"/proc/sys/net/bridge/bridge-nf-call-{table}")
        if path.exists():
            path.write_text("0", encoding="ascii")
    begin = time.perf_counter()
    _batch(f"netns add {host['name']}" for host in drawing["hosts"])
    _batch(_links(drawing, direct=direct))
    for host in drawing["hosts"]:
        own = f"{directory}/{host['name']}"
        os.mkdir(own)
        _run("ip", "netns", "exec", host["name"], "sh", "-ec", script(host, own))
    staged_s = time.perf_counter() - begin
    networks = {host["name"]: f"{NETNS}/{host['name']}" for host in drawing["hosts"]}
    print(json.dumps({"staged_s": staged_s, "networks": networks}), flush=True)
    sys.stdin.readline()


def script(host: dict[str, Any], own: str) -> str:
    """What a shell in a node does."""
    place(host, own)
    settings = [f"{key}={value}" for key, value in host["sysctls"]]
    settings += [f"net.ipv6.conf.{port['name']}.accept_dad=0" for port in host["ports"]]
    lines = ["link set lo up"]
    lines += [f"address add {address} dev lo" for address in host["loopbacks"]]
    for port in host["ports"]:
        lines += [f"address add {each} dev {port['name']} nodad" for each in port["addresses"]]
        lines.append(f"link set {port['name']} up")
    lines += [f"route add {route}" for route in host["routes"]]
    Path(own, "batch").write_text("\n".join(lines) + "\n", encoding="ascii")
    commands = [shlex.join(("sysctl", "-qw", *settings)), f"ip -batch {own}/batch"]
    return "\n".join((*commands, daemons(host, own)))


def place(host: dict[str, Any], own: str) -> None:
    """Write what a node's daemons read; theirs is the directory."""
    for name, content in host["files"].items():
        Path(own, name).write_text(content, encoding="utf-8")
    if any(command[0].startswith("/usr/lib/frr/") for command in host["commands"]):
        _run("chown", "-R", "frr:frr", own)


def daemons(host: dict[str, Any], own: str) -> str:
    """The lines of a shell that start them."""
    commands = [[word.replace("@", own) for word in command] for command in host["commands"]]
    return "\n".join(shlex.join(command) for command in commands)


def _links(drawing: dict[str, Any], *, direct: bool) -> list[str]:
    on: dict[str, list[tuple[str, str]]] = {name: [] for name in drawing["segments"]}
    for host in drawing["hosts"]:
        for port in host["ports"]:
            on[port["segment"]].append((host["name"], port["name"]))
    lines = []
    for segment, ends in on.items():
        if direct and len(ends) == 2:
            (one, here), (other, there) = ends
            peer = f"peer name {there} netns {other}"
            lines.append(f"link add name {here} netns {one} type veth {peer}")
            continue
        lines.append(f"link add name {segment} type bridge")
        for number, (node, name) in enumerate(ends):
            end = f"{segment}.{number}"
            lines += [
                f"link add name {end} type veth peer name {name} netns {node}",
                f"link set {end} master {segment} up",
            ]
        lines.append(f"link set {segment} up")
    return lines


def _batch(lines: Any) -> None:
    subprocess.run(
        ("ip", "-batch", "-"), input="".join(f"{line}\n" for line in lines), text=True, check=True
    )


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="hostlab-bench-hand-") as scratch:
        os.chmod(scratch, 0o755)
        with open(sys.argv[1], encoding="utf-8") as file:
            wanted = json.load(file)
        main(wanted, scratch, direct="direct" in sys.argv[2:])
