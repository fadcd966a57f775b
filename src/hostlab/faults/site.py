"""A running lab as those see it who break something in it: from outside, by its processes.

Nobody inside is asked, so a fault can be done to a node whose init is dead, stopped or frozen.
What must be done in a namespace is done by who goes there: in a network this process, where it may
come back; among a node's files a thread, where it may go there; else a child.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from hostlab import typed
from hostlab.api import Lab
from hostlab.errors import Failed
from hostlab.lab import driver
from hostlab.lab.access import NODE_GONE
from hostlab.lab.description import staged
from hostlab.lab.paths import LabDirectory
from hostlab.linux import cgroups, procfs, rtnetlink
from hostlab.linux.entering import NotAdmitted, from_inside, in_thread
from hostlab.linux.netlink import Netlink
from hostlab.linux.netns import Home
from hostlab.spec import model

State = dict[str, Any]
"""What must be known to take a fault back: JSON, written down before anything is done."""
NETWORK: Final = ("user", "net")
FILES: Final = ("user", "mnt")


@dataclass(slots=True)
class Site:
    """A lab that is up."""

    lab: model.Lab
    directory: LabDirectory
    hub: int
    nodes: Mapping[str, int]
    """The holder of each node that is there."""
    unified: str | None
    v1: dict[str, str]

    @classmethod
    def of(cls, name: str) -> Site:
        """A lab by its name or its file, as it is staged; UsageError when it is not up."""
        directory = LabDirectory.of(Lab(name).name)
        unified, v1 = driver.lab_places(directory, cgroups.find())
        site = cls(model.Lab(name=directory.name), directory, 0, {}, unified, v1)
        site.look()
        lab = staged(directory.name)
        if lab is None:
            raise driver.missing(directory.name)
        site.lab = lab
        return site

    def look(self) -> None:
        """See again which nodes are there."""
        with driver.running(self.directory.name) as control:
            status = control.call("status")
        self.hub = status["pid"]
        self.nodes = {row["name"]: row["pid"] for row in status["nodes"] if row["pid"]}

    def is_dead(self, node: str) -> bool:
        """Whether a node's first process has ended, or is not there."""
        found = procfs.stat(self.nodes[node]) if node in self.nodes else None
        return found is None or found.has_ended

    def pid(self, node: str) -> int:
        """A node's holder; Failed when the node is dead."""
        found = self.nodes.get(node)
        if found is None or self.is_dead(node):
            raise Failed(
                NODE_GONE,
                f"node {node} of lab {self.lab.name} is dead: nothing can be done to it",
                hint=f"`{self._up()}` brings it back",
            )
        return found

    def _up(self) -> str:
        return f"hostlab up {self.lab.source or self.lab.name}"

    def life(self, node: str) -> str:
        """Tells this node from one of its name that follows it."""
        pid = self.pid(node)
        return f"{pid} {procfs.start_time(pid)}"

    def is_alive(self, node: str, life: str) -> bool:
        """Whether it is still that node."""
        return not self.is_dead(node) and self.life(node) == life

    def in_switch(self, work: Callable[[], Any]) -> Any:
        """Do `work` in the switch namespace, as the lab's root; what it returns, as JSON."""
        return _inside(self.hub, NETWORK, work)

    def ports(self, links: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """The indexes of the ports of (node, interface), which have cables; Failed without one."""
        pids = {node: self.pid(node) for node, _ in links}
        found = self.in_switch(lambda: [_port_of(pids[node], name) for node, name in links])
        ports: dict[tuple[str, str], int] = {}
        for (node, name), port in zip(links, found, strict=True):
            if port is None:
                hint = (
                    f"`hostlab fault inject node-killed {node}`, then `{self._up()}`, makes it anew"
                )
                raise Failed("no-interface", f"{node} has lost its {name}", hint=hint)
            ports[node, name] = port
        return ports

    def in_network(self, node: str, work: Callable[[], Any]) -> Any:
        """Do `work` in a node's network."""
        return _inside(self.pid(node), NETWORK, work)

    def in_node(self, node: str, work: Callable[[], Any]) -> Any:
        """Do `work` in a node's network and among its files; it must import nothing."""
        return _inside(self.pid(node), (*NETWORK, "mnt"), work)

    def in_files(self, node: str, work: Callable[[], Any]) -> Any:
        """Do `work` where a node sees its files; it must import nothing."""
        return _inside(self.pid(node), FILES, work)


def _inside(pid: int, kinds: tuple[str, ...], work: Callable[[], Any]) -> Any:
    """What `work` returns there, as JSON would have it.

    Who may go into a network and come back does so himself, which costs no process.
    """
    if kinds != NETWORK:
        # The lab's root, seen from outside, needs no user namespace to be root among its files.
        others = [kind for kind in kinds if kind != "user"]
        with suppress(NotAdmitted):
            return in_thread(pid, others, lambda: _as_json(work()))
        return _in_child(pid, kinds, work)
    with ExitStack() as stack:
        try:
            stack.enter_context(visiting(pid))
        except PermissionError:
            return _in_child(pid, kinds, work)
        return _as_json(work())


def _as_json(value: Any) -> Any:
    return typed.decode(msgspec.json.encode(value), Any)


def _in_child(pid: int, kinds: tuple[str, ...], work: Callable[[], Any]) -> Any:
    """What a child brings back comes in a memfd, so it may be of any size."""

    def child() -> tuple[bytes, list[int]]:
        data = msgspec.json.encode(work())
        fd = os.memfd_create("answer", os.MFD_CLOEXEC)
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
        return b"", [fd]

    _, (answer,) = from_inside(pid, kinds, child)
    with open(answer, "rb") as file:
        file.seek(0)
        return typed.decode(file.read(), Any)


@contextmanager
def visiting(pid: int) -> Iterator[None]:
    """Be in a process' network for the length of the block; PermissionError when not its root."""
    pidfd = os.pidfd_open(pid)
    home = Home()
    try:
        with home.visit(pidfd):
            yield
    finally:
        home.close()
        os.close(pidfd)


def _port_of(pid: int, interface: str) -> int | None:
    """For who is in the switch namespace: the index there of the port of a node's interface.

    None when the node has no such interface now.
    """
    with visiting(pid), Netlink() as netlink:
        link = rtnetlink.link_named(netlink, interface)
    return None if link is None else link.peer
