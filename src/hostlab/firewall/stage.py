"""Where a ruleset is tried: a lab of its own, whose nodes have the target's interfaces.

A node is confined as any node is, so a script can be run in it. Each interface is alone on a
segment; its other end, the port in the hub's switch namespace, is the world that packets come from.
The interfaces need no neighbours (`NOARP`): whatever has a route leaves.
"""

from __future__ import annotations

import itertools
import os
import re
import socket
from collections.abc import Sequence
from types import TracebackType
from typing import Final

import msgspec

from hostlab import spec
from hostlab.firewall import kernel
from hostlab.firewall.here import run_in_network, tables_in_network
from hostlab.firewall.ruleset import Ruleset
from hostlab.firewall.target import Target
from hostlab.lab import driver
from hostlab.lab.access import Completed, NodeConnection
from hostlab.lab.paths import labs
from hostlab.linux import procfs, rtnetlink
from hostlab.linux.entering import from_inside
from hostlab.linux.netlink import Netlink

INSIDE_BYTES: Final = 1 << 14
"""So much of rules makes no message that is too long for a node's root."""
_OWNER: Final = b"-owner"
"""A match that only the root of the network's own user namespace may load (xt_owner.c)."""
_NAME: Final = re.compile(r"firewall-(\d+)-(\d+)-\d+")
_numbers: Final = itertools.count(1)


def take_down_abandoned() -> tuple[str, ...]:
    """Take down the stages whose makers were killed; their names.

    A stage is called after its maker's pid and start time, so from its run directory's first
    moment on it is known whose it is.
    """
    gone = []
    for name in labs():
        if (found := _NAME.fullmatch(name)) and not _is_alive(int(found[1]), found[2]):
            driver.unstage(name)
            gone.append(name)
    return tuple(gone)


def _is_alive(pid: int, started: str) -> bool:
    found = procfs.stat(pid)
    return found is not None and found.started == started and not found.has_ended


class StageNode(NodeConnection):
    """A node that plays the target."""

    def load(self, ruleset: Ruleset) -> None:
        """Put a ruleset into this node beside what it holds; Failed with the tool's own words."""
        kernel.load(self.tool, ruleset)

    def read(self) -> Ruleset:
        """What the kernel holds for this node."""
        return kernel.read(self.tool, lambda: tables_in_network(self.pid))

    def tool(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float | None = None
    ) -> Completed:
        """Run a tool that only reads data, in this node's network (kernel.Run).

        From outside where much is to be loaded at once, as far as that is allowed; see `here.py`.
        """
        if len(stdin) <= INSIDE_BYTES or _OWNER in stdin:
            done = self.execute_unheard(argv, stdin=stdin, timeout_s=timeout_s)
            if done.status == 0 or len(stdin) <= INSIDE_BYTES:
                return done
        try:
            return run_in_network(self.pid, argv, stdin=stdin, timeout_s=timeout_s)
        except PermissionError:
            return self.execute_unheard(argv, stdin=stdin, timeout_s=timeout_s)


class Stage:
    """Nodes that each have the target's network; `with` stages them and takes them down."""

    def __init__(self, target: Target, nodes: Sequence[str] = ("stage",)) -> None:
        self.target = target
        self.names = tuple(nodes)
        pid = os.getpid()
        self.lab = f"firewall-{pid}-{procfs.start_time(pid)}-{next(_numbers)}"
        self.hub = 0
        """The process whose network namespace the ports of the interfaces are in."""
        self.nodes: dict[str, StageNode] = {}

    def __enter__(self) -> Stage:
        take_down_abandoned()
        driver.stage(_described(self.lab, self.target, self.names))
        try:
            self._adopt()
        except BaseException:
            driver.unstage(self.lab)
            raise
        return self

    def _adopt(self) -> None:
        with driver.running(self.lab) as control:
            found = control.call("status")
        self.hub = found["pid"]
        self.nodes = {
            row["name"]: StageNode(self.lab, row["name"], row["pid"]) for row in found["nodes"]
        }
        for node in self.nodes.values():
            from_inside(node.pid, ("user", "net"), self._give_network)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        driver.unstage(self.lab)

    def _give_network(self) -> tuple[bytes, Sequence[int]]:
        """Called inside a node: exactly the target's addresses and routes, and no neighbours."""
        index = {name: number for number, name in socket.if_nameindex()}
        requests = []
        for each in self.target.interfaces:
            number = index[each.name]
            requests.append(rtnetlink.link_set(number, up=each.is_up, arp=False))
            requests += [rtnetlink.address_add(number, address) for address in each.addresses]
        for route in self.target.routes:
            via = index[route.interface] if route.interface else None
            requests.append(
                rtnetlink.route_add(
                    route.to,
                    via=route.via,
                    index=via,
                    metric=route.metric,
                    onlink=bool(via and route.via),
                )
            )
        with Netlink() as netlink:
            netlink.request(requests)
        return b"", ()


def _described(name: str, target: Target, nodes: Sequence[str]) -> spec.Lab:
    """The stage as a description like any other."""
    interfaces = {each.name: each for each in target.interfaces}
    document = {
        "name": name,
        "segments": [f"{node}-{each}" for node in nodes for each in interfaces],
        "nodes": {
            node: {
                "interfaces": {
                    name: {"segment": f"{node}-{name}", "mtu": each.mtu, "addresses": []}
                    for name, each in interfaces.items()
                },
                "sysctls": dict(target.sysctls),
            }
            for node in nodes
        },
    }

    def read(path: str) -> bytes:
        raise FileNotFoundError(path)

    data = msgspec.json.encode(document)
    return spec.load(data, file="<stage>", read=read, directory="/", seed=None)
