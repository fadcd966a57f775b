"""Published ports, the hub's side: the process that relays, and what it must know.

The sockets come from outside, made by the command line in the machine's network namespace. The
publisher is the holder's child like every job, and the holder keeps its control socket, so a
supervisor that was killed finds it again; its sockets and connections have not noticed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn

import msgspec

from hostlab.lab.publish import Published, PublishedSocket, PublisherClient, Target
from hostlab.lab.publish import publisher as relay
from hostlab.linux.clone import CLONE_PARENT, clone3
from hostlab.linux.libc import close_all_but
from hostlab.spec.model import Lab, Node

if TYPE_CHECKING:
    from hostlab.lab.stage import HubSupervisor

KEY: Final = "publisher"
"""The publisher's name with the holder, as a process and as a kept descriptor."""


class Publishing:
    """The publisher of one lab, started with the first published port."""

    def __init__(self, hub: HubSupervisor) -> None:
        self.hub = hub
        self.client: PublisherClient | None = None
        self.published: dict[str, Published] = {}
        self.pid = 0
        self._known: dict[str, tuple[Target, int]] = {}

    def found(self, pid: int) -> None:
        """The publisher of an earlier supervisor still runs."""
        self.pid = pid

    def ended(self, pid: int) -> None:
        """The publisher has ended, and every published port with it."""
        if pid == self.pid:
            self._forget()

    def restore(self) -> None:
        """Take up the publisher of an earlier supervisor, with what it publishes."""
        fd = self.hub.kept.get(KEY)
        if fd is None or not self.pid:
            return
        self.client = PublisherClient(socket.socket(fileno=os.dup(fd)))
        with contextlib.suppress(Exception):
            for row in self.client.stat().publishes:
                self.published[row.publish.id] = row.publish
        if not self.published:
            self._forget()

    def report(self) -> dict[str, Any]:
        """What is published now, and what does not answer where."""
        if self.client is None:
            return {"published": [], "warnings": []}
        answer = self.client.stat()
        return {
            "published": [msgspec.to_builtins(p) for p in self.published.values()],
            "warnings": list(answer.warnings),
        }

    def tell_nodes(self, lab: Lab) -> None:
        """Nodes that came, went, or were replaced since; nothing while nothing is published."""
        if self.client is None:
            return
        reserved = _listening(lab)
        wanted = {
            node.name: (_target(node, tuple(reserved.get(node.name, ()))), handle.pid)
            for node in lab.nodes
            if (handle := self.hub.nodes.get(node.name)) is not None
        }
        self.client.gone([name for name in self._known if name not in wanted])
        new = {
            target: self.hub.nodes[name].pidfd
            for name, (target, pid) in wanted.items()
            if name not in self._known or self._known[name][1] != pid
        }
        changed = [
            target
            for name, (target, pid) in wanted.items()
            if name in self._known and self._known[name][1] == pid
            if self._known[name][0] != target
        ]
        self.client.nodes(new)
        self.client.change(changed)
        self._known = wanted

    def change(
        self,
        lab: Lab,
        add: Sequence[tuple[Published, int]],
        remove: Sequence[str],
        machine: tuple[str, ...],
    ) -> None:
        """Publish and unpublish; the descriptors are taken over and closed."""
        sockets = [PublishedSocket(one, socket.socket(fileno=fd)) for one, fd in add]
        try:
            if sockets and self.client is None:
                self._start()
            if self.client is None:
                return
            gone = [self.published.pop(name) for name in remove if name in self.published]
            self.client.remove(gone)
            self.client.machine(machine)
            self.tell_nodes(lab)
            self.client.add(sockets)
            self.published |= {one.published.id: one.published for one in sockets}
        finally:
            for one in sockets:
                one.close()
        if not self.published:
            self._stop()

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid, pidfd = clone3(CLONE_PARENT)
        if pid == 0:
            self._become_publisher(theirs)
        theirs.close()
        os.close(pidfd)
        self.pid = pid
        self.hub.keep(KEY, ours.fileno())
        self.client = PublisherClient(ours)

    def _become_publisher(self, control: socket.socket) -> NoReturn:
        status = 1
        try:
            asyncio.events._set_running_loop(None)
            self.hub.channel.send(f"+ {KEY}".encode())
            close_all_but({control.fileno(), self.hub.config.mark})
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            relay.serve(control)
            status = 0
        finally:
            os._exit(status)

    def _stop(self) -> None:
        """With the last published port the publisher goes: every copy of its control is closed."""
        if self.client is not None:
            self.client.close()
            self.hub.drop(KEY)
        self._forget()

    def _forget(self) -> None:
        self.client, self.pid = None, 0
        self.published.clear()
        self._known.clear()


def _target(node: Node, reserved: tuple[int, ...]) -> Target:
    addresses = tuple(address for i in node.interfaces for address in i.addresses)
    return Target(name=node.name, addresses=addresses, reserved=reserved)


def _listening(lab: Lab) -> dict[str, set[int]]:
    """Ports that checks say a node's own services take: nothing of ours listens there."""
    found: dict[str, set[int]] = {}
    for check in lab.checks:
        if check.kind == "listens":
            for node in check.nodes:
                found.setdefault(node, set()).add(int(check.arguments["port"]))
    return found
