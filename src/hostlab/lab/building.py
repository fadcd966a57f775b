"""Nodes being made, a window of them at a time.

What costs waiting is done once a window: a node enters its v1 cgroups by a write that waits for
every CPU to have been elsewhere (the rwsem of cgroup_attach_lock, kernel/cgroup/cgroup.c; 4 ms by
itself, next to nothing right after another one), and during that wait the children build their
file systems. So a window is cloned; journalled, limited and plugged in; told to go on; and only
while the next one is cloned are its answers awaited.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from hostlab.errors import Failed
from hostlab.init.supervisor import Request
from hostlab.lab import firewall, hosts, limits
from hostlab.lab.container import GO, ContainerPlan, Trouble, answer, become_node
from hostlab.lab.nesting import explained
from hostlab.lab.nodes import (
    NodeHandle,
    by_midwife,
    container_plan,
    namespace_flags,
    needed_nodes,
    needs_midwife,
    shared_namespaces,
)
from hostlab.lab.paths import start_time
from hostlab.lab.wiring import Directory
from hostlab.linux import vfork
from hostlab.linux.clone import CLONE_PARENT, clone3
from hostlab.plan import journal
from hostlab.plan.operations import Operation
from hostlab.spec.model import Interface, Lab, Node

if TYPE_CHECKING:
    from hostlab.lab.stage import HubSupervisor

WINDOW: Final = 32
"""Nodes that are begun before the first of them is plugged in."""
READY_TIMEOUT_S: Final = 60.0
"""A node's own set-up takes milliseconds; this is for a machine that is swapping."""


class _Begun(msgspec.Struct):
    """A node from its plan to its `ready`."""

    operation: Operation
    plan: ContainerPlan
    flags: int
    ours: socket.socket
    theirs: socket.socket
    descriptors: contextlib.ExitStack
    """What the child inherits and the hub need not keep, `theirs` among them."""

    @property
    def node(self) -> Node:
        """The description."""
        return self.plan.config.node


async def add_nodes(
    hub: HubSupervisor,
    operations: Sequence[Operation],
    new: Lab,
    done: list[Operation],
    request: Request | None,
) -> None:
    """Make these nodes; each is appended to `done` once it is ready.

    When one fails, those that were not ready yet are removed again; Problem says which and why.
    """
    if not operations:
        return
    # A node that was replaced has taken its own table of names with it.
    hosts.write(hub.config.directory, new)
    nodes = {node.name: node for node in new.nodes}
    builder = _Builder(hub, Directory(new), done)
    with _still_heap():
        try:
            for number, operation in enumerate(_in_order(operations, nodes)):
                node = nodes[operation.subject]
                if needed_nodes(node):
                    builder.finish()
                elif builder.is_full:
                    builder.next_window()
                    if request is not None:
                        request.reply({"progress": [number, len(operations)]}, more=True)
                        await asyncio.sleep(0)
                builder.begin(operation, node)
            builder.finish()
        except BaseException:
            for begun in builder.unfinished():
                begun.descriptors.close()
                begun.ours.close()
                await hub.remove_node(begun.node.name)
            if builder.beginning is not None:
                await hub.remove_node(builder.beginning)
            raise


@contextlib.contextmanager
def _still_heap() -> Iterator[None]:
    """Keep the collector off what the children are about to share: to look is to copy a page."""
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _in_order(operations: Sequence[Operation], nodes: Mapping[str, Node]) -> Iterator[Operation]:
    """Nodes whose namespaces others share come before those others."""
    pending = {operation.subject: operation for operation in operations}

    def visit(name: str) -> Iterator[Operation]:
        operation = pending.pop(name, None)
        if operation is not None:
            for _, other in needed_nodes(nodes[name]):
                yield from visit(other)
            yield operation

    for operation in operations:
        yield from visit(operation.subject)


class _Builder:
    """The window that is being begun, and the one before it, which is being waited for."""

    def __init__(self, hub: HubSupervisor, directory: Directory, done: list[Operation]) -> None:
        self.hub = hub
        self.directory = directory
        self.done = done
        self.beginning: str | None = None
        """The node whose places are there, and whose process may not be."""
        self._window: list[_Begun] = []
        self._wired: list[_Begun] = []

    @property
    def is_full(self) -> bool:
        """Whether the window has its number of nodes."""
        return len(self._window) >= WINDOW

    def unfinished(self) -> tuple[_Begun, ...]:
        """Those that have not said that they are ready."""
        return (*self._wired, *self._window)

    def next_window(self) -> None:
        """Let this window's nodes go on, and wait for those of the one before."""
        before = len(self._wired)
        self._wire()
        self._collect(before)

    def finish(self) -> None:
        """Wait until every node that was begun is ready."""
        self._wire()
        self._collect(len(self._wired))

    def begin(self, operation: Operation, node: Node) -> None:
        """Plan a node and open what its process will need."""
        hub = self.hub
        self.beginning = node.name
        with contextlib.ExitStack() as stack:
            plan = container_plan(hub.config, node, self.directory, hub.channel, stack)
            plan = shared_namespaces(plan, node, hub.nodes, stack)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.enter_context(theirs)
            flags = namespace_flags(node) | CLONE_PARENT
            kept = stack.pop_all()
        self._window.append(_Begun(operation, plan, flags, ours, theirs, kept))
        self.beginning = None

    def _clone(self) -> None:
        """Start the window's processes, with as little as can be between one and the next."""
        window = self._window
        cloned: list[tuple[int, int]] = []
        try:
            if vfork.prepare() and not any(needs_midwife(begun.node) for begun in window):
                found = vfork.clone_many([(b.flags, b.plan.config.cgroup) for b in window])
                if found.child is not None:
                    become_node(window[found.child].plan, window[found.child].theirs)
                cloned = found.made
                if found.error is not None:
                    raise found.error
            else:
                self._clone_one_by_one(cloned)
        except OSError as error:
            raise explained(error) from error
        finally:
            for begun, (pid, pidfd) in zip(window, cloned, strict=False):
                begun.descriptors.close()
                name = begun.node.name
                self.hub.nodes[name] = NodeHandle.of(name, pid, pidfd=pidfd)

    def _clone_one_by_one(self, cloned: list[tuple[int, int]]) -> None:
        for begun in self._window:
            if needs_midwife(begun.node):
                made = _by_midwife(self.hub, begun)
            else:
                made = clone3(begun.flags, cgroup=begun.plan.config.cgroup, hooks=False)
            if made[0] == 0:
                become_node(begun.plan, begun.theirs)
            cloned.append(made)

    def _wire(self) -> None:
        """Clone the window, journal it, limit it, guard it, plug its cables in, say go."""
        window, hub = self._window, self.hub
        if not window:
            return
        self._clone()
        handles = {begun.node.name: hub.nodes[begun.node.name] for begun in window}
        hub.config.directory.record(*map(_entry, handles.values()))
        for begun in window:
            pid = handles[begun.node.name].pid
            limits.apply(hub.config.unified, hub.config.v1, begun.node, [pid])
        guarded = [begun.node for begun in window if begun.node.firewall is not None]
        firewall.load(((handles[node.name], node) for node in guarded), is_new=True)
        hub.switch.netlink.request(
            [
                hub.switch.port(begun.node.name, interface, index, handles[begun.node.name].network)
                for begun in window
                if begun.plan.owns_network
                for interface, index in _numbered(begun)
                if interface.tunnel is None
            ]
        )
        hub.cables.change(begun.node for begun in window)
        hub.cables.load()
        for begun in window:
            # One that has ended already is found by its answer, which tells why.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                begun.ours.send(GO)
        self._wired += window
        self._window = []

    def _collect(self, count: int) -> None:
        """Take the answers of the oldest nodes; Problem for the first that is not ready."""
        for _ in range(count):
            begun = self._wired[0]
            trouble = _answer(begun.ours)
            if trouble is not None:
                raise Failed("node", f"node {begun.node.name}: {trouble.step}: {trouble.message}")
            begun.ours.close()
            self.done.append(begun.operation)
            del self._wired[0]


def _by_midwife(hub: HubSupervisor, begun: _Begun) -> tuple[int, int]:
    return by_midwife(begun.node, hub.nodes, begun.flags, begun.plan.config.cgroup)


def _entry(handle: NodeHandle) -> journal.Entry:
    place = f"{handle.pid} {start_time(handle.pid)}"
    return journal.Entry(journal.What.PROCESS, handle.name, place)


def _numbered(begun: _Begun) -> list[tuple[Interface, int]]:
    return [(interface, begun.plan.index[interface.name]) for interface in begun.node.interfaces]


def _answer(link: socket.socket) -> Trouble | None:
    link.settimeout(READY_TIMEOUT_S)
    try:
        return answer(link)
    except TimeoutError:
        return Trouble("start", f"no answer in {READY_TIMEOUT_S:.0f} s")
