"""The hub's supervisor: carries out plans, and knows the lab's nodes.

Operations are journalled, then done; nodes of one plan are begun one after another without waiting,
so that each builds its file system on another CPU while the next is cloned. What the hub knows is
in the kernel and in the run directory, so that a supervisor that was killed is followed by one that
finds everything again: nodes from the holder's records, bridges by their altnames, the description
from `lab.json`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from hostlab.errors import Failed, Problem, Unsupported
from hostlab.init.holder import Inheritance
from hostlab.init.supervisor import Request, Supervisor
from hostlab.lab import change, hosts, limits
from hostlab.lab.container import GO, ContainerPlan, Trouble, answer, become_node
from hostlab.lab.nodes import (
    NodeHandle,
    by_midwife,
    container_plan,
    namespace_flags,
    needed_nodes,
    needs_midwife,
    shared_namespaces,
)
from hostlab.lab.paths import LabDirectory, read_if_there, start_time, write_whole
from hostlab.lab.publish import Published
from hostlab.lab.publishing import KEY as PUBLISHER
from hostlab.lab.publishing import Publishing
from hostlab.lab.rootfs import Survey
from hostlab.lab.segments import Switch, own_namespace
from hostlab.lab.wiring import Directory, indexes
from hostlab.linux.clone import CLONE_PARENT, clone3
from hostlab.plan import journal
from hostlab.plan.difference import difference
from hostlab.plan.operations import INVERSE, Kind, Operation, Plan
from hostlab.spec.model import Lab, Node

AT_ONCE: Final = 32
"""Nodes that are being built at the same time."""
PROGRESS_EVERY: Final = 25
IN_PLACE: Final = frozenset(kind for kind, inverse in INVERSE.items() if kind is inverse)
"""Changes of something that goes on existing."""
READY_TIMEOUT_S: Final = 60.0
"""A node's own set-up takes milliseconds; this is for a machine that is swapping."""


@dataclass(frozen=True, slots=True)
class HubConfig:
    """What the hub knows from its first moment."""

    directory: LabDirectory
    mark: int
    """The memfd whose name marks every process of the lab."""
    unified: str | None
    """The lab's cgroup v2 directory."""
    v1: dict[str, str]
    """Controller -> the lab's v1 directory."""
    survey: Survey
    single_id: bool


def supervise(config: HubConfig, inheritance: Inheritance) -> None:
    """The hub's supervisor's whole life."""
    asyncio.run(_run(config, inheritance))


async def _run(config: HubConfig, inheritance: Inheritance) -> None:
    await HubSupervisor(config, inheritance).run()


@dataclass(slots=True)
class _Begun:
    """A node between its `clone3` and its `ready`."""

    handle: NodeHandle
    link: socket.socket


class HubSupervisor(Supervisor):
    """Serves `stage`, `status` and `attach`."""

    def __init__(self, config: HubConfig, inheritance: Inheritance) -> None:
        super().__init__(inheritance)
        self.config = config
        self.lab = Lab(name=config.directory.name)
        self.nodes: dict[str, NodeHandle] = {}
        self.switch = Switch()
        self.home = own_namespace()
        self._changing = asyncio.Lock()
        self.publishing = Publishing(self)
        self.handlers |= {
            "stage": self.stage,
            "status": self.status,
            "attach": self.attach,
            "published": self.list_published,
            "publish": self.publish,
        }

    async def started(self) -> None:
        """Prepare a new switch namespace, or find everything that an earlier supervisor made."""
        self.switch.adopt()
        self.switch.prepare()
        self.publishing.restore()
        stored = read_if_there(self.config.directory.description)
        if stored is not None:
            self.lab = msgspec.json.decode(stored, type=Lab)

    def found_running(self, key: str, pid: int) -> None:
        kind, _, name = key.partition(":")
        if kind == "node":
            with contextlib.suppress(OSError):
                self.nodes[name] = NodeHandle.of(name, pid)
        elif key == PUBLISHER:
            self.publishing.found(pid)

    def found_ended(self, key: str, pid: int, status: int) -> None:
        kind, _, name = key.partition(":")
        handle = self.nodes.get(name)
        if kind == "node" and handle is not None and handle.pid == pid:
            self.nodes.pop(name).close()
        elif key == PUBLISHER:
            self.publishing.ended(pid)

    async def status(self, request: Request) -> dict[str, Any]:
        """The lab as it is: which nodes are there, which are missing."""
        report = self.publishing.report()
        return {
            "lab": self.lab.name,
            "pid": os.getpid(),
            "nodes": [self._status_of(node) for node in self.lab.nodes],
            **report,
            "warnings": [*self.config.survey.warnings, *report["warnings"]],
        }

    def _status_of(self, node: Node) -> dict[str, Any]:
        handle = self.nodes.get(node.name)
        exceeded = limits.exceeded(self.config.unified, self.config.v1, node.name)
        return {
            "name": node.name,
            "pid": handle.pid if handle is not None else None,
            "exceeded": exceeded,
        }

    async def list_published(self, request: Request) -> dict[str, Any]:
        """The ports that are published now."""
        return self.publishing.report()

    async def publish(self, request: Request) -> None:
        """Publish the ports whose sockets come with the command; unpublish others."""
        message = request.message
        published = msgspec.convert(message["add"], list[Published])
        sockets = zip(published, request.take(len(published)), strict=True)
        remove, machine = message["remove"], tuple(message["machine"])
        self.publishing.change(self.lab, list(sockets), remove, machine)

    async def attach(self, request: Request) -> None:
        """Put the machine's own link, which the caller made, onto a segment."""
        self.switch.attach(request.message["segment"], request.message["link"])

    async def stage(self, request: Request) -> dict[str, Any]:
        """Go from what is there to the given description; undo everything if a step fails."""
        new = msgspec.convert(request.message["lab"], Lab)
        async with self._changing:
            present = self._present()
            plan = difference(present, new)
            done: list[Operation] = []
            try:
                await self._execute(plan, present, new, done, request)
            except Exception as error:
                undone = await self._undo(done, new, present)
                if not isinstance(error, Problem | OSError):
                    raise
                raise self._failed(error, undone) from error
            self._commit(new)
            self.publishing.tell_nodes(new)
        return {"operations": msgspec.to_builtins(plan.operations)}

    def _present(self) -> Lab:
        """The description less what has died since: that is made again."""
        nodes = tuple(node for node in self.lab.nodes if node.name in self.nodes)
        segments = tuple(s for s in self.lab.segments if s.name in self.switch.bridges)
        return msgspec.structs.replace(self.lab, nodes=nodes, segments=segments)

    def _failed(self, error: Problem | OSError, undone: Sequence[str]) -> Problem:
        if isinstance(error, Problem):
            code, message, hint = error.code, error.message, error.hint
        else:
            code, message, hint = "os", str(error), None
        text = f"{message}; undone: {len(undone)} operations" if undone else message
        kind = Unsupported if isinstance(error, Unsupported) else Failed
        return kind(code, text, hint=hint)

    def _commit(self, new: Lab) -> None:
        """The new description is true from here on; written whole or not at all."""
        self.lab = new
        write_whole(self.config.directory.description, msgspec.json.encode(new))

    async def _execute(
        self, plan: Plan, old: Lab, new: Lab, done: list[Operation], request: Request | None
    ) -> None:
        added: list[Operation] = []
        directory = Directory(new)
        hosts.write(self.config.directory, new)
        for operation in plan.operations:
            if operation.kind is Kind.ADD_NODE:
                added.append(operation)
                continue
            if added and operation.kind not in (Kind.ADD_SEGMENT,):
                await self._add_nodes(added, new, directory, done, request)
                added = []
            if operation.kind in IN_PLACE:
                # One that stops half-way must be taken back too; both ways it starts from what
                # is there, not from what was to be there.
                done.append(operation)
            await self._one(operation, old, new)
            if operation.kind not in IN_PLACE:
                done.append(operation)
        await self._add_nodes(added, new, directory, done, request)
        self.switch.raise_bridges()
        change.refresh_neighbours(self, old, new)

    async def _one(self, operation: Operation, old: Lab, new: Lab) -> None:
        name = operation.subject
        match operation.kind:
            case Kind.ADD_SEGMENT:
                self.switch.add_segment(next(s for s in new.segments if s.name == name))
            case Kind.REMOVE_SEGMENT:
                self.switch.remove_segment(name)
            case Kind.CHANGE_SEGMENT:
                change.segment(self, next(s for s in new.segments if s.name == name))
            case Kind.REMOVE_NODE:
                await self._remove_node(name)
            case Kind.CHANGE_NETWORK:
                change.network(self, old.node(name), new.node(name))
            case Kind.CHANGE_LIMITS:
                limits.change(self.config.unified, self.config.v1, old.node(name), new.node(name))
            case Kind.CHANGE_FILES:
                change.node_files(self.nodes[name], old.node(name), new.node(name))
            case Kind.CHANGE_JOBS:
                await change.jobs(self.config.directory, new.node(name), operation.restart)
            case Kind.CHANGE_PUBLISHED | Kind.ADD_NODE:
                pass

    async def _undo(self, done: Sequence[Operation], new: Lab, old: Lab) -> list[str]:
        """Take back what was done, latest first; what cannot be taken back is said in the log."""
        undone = []
        for operation in reversed(done):
            inverse = operation.inverse()
            try:
                await self._execute(Plan((inverse,)), new, old, [], None)
                undone.append(inverse.describe())
            except Exception as error:
                os.write(2, f"hub: cannot undo {operation.describe()}: {error}\n".encode())
        hosts.write(self.config.directory, old)
        return undone

    async def _add_nodes(
        self,
        operations: Sequence[Operation],
        new: Lab,
        directory: Directory,
        done: list[Operation],
        request: Request | None,
    ) -> None:
        waiting: list[tuple[Operation, _Begun]] = []
        total = len(operations)
        nodes = {node.name: node for node in new.nodes}
        beginning: str | None = None
        if operations:
            # A node that was replaced has taken its own table with it.
            hosts.write(self.config.directory, new)
        try:
            for number, operation in enumerate(_in_order(operations, nodes)):
                node = nodes[operation.subject]
                if len(waiting) >= AT_ONCE or needed_nodes(node):
                    self._finish(waiting, done)
                beginning = node.name
                waiting.append((operation, self._begin(node, directory)))
                beginning = None
                if request is not None and number % PROGRESS_EVERY == 0:
                    request.reply({"progress": [number, total]}, more=True)
                    await asyncio.sleep(0)
            self._finish(waiting, done)
        except BaseException:
            for _, begun in waiting:
                begun.link.close()
                await self._remove_node(begun.handle.name)
            if beginning is not None:
                await self._remove_node(beginning)
            raise

    def _finish(self, waiting: list[tuple[Operation, _Begun]], done: list[Operation]) -> None:
        """Collect the answers of the nodes that are being built, oldest first."""
        while waiting:
            operation, begun = waiting[0]
            trouble = _answer(begun.link)
            if trouble is not None:
                raise _trouble(begun.handle.name, trouble)
            begun.link.close()
            done.append(operation)
            waiting.pop(0)

    def _begin(self, node: Node, directory: Directory) -> _Begun:
        """Start a node: its process builds its files while this one plugs its cables in."""
        with contextlib.ExitStack() as stack:
            plan = container_plan(self.config, node, directory, self.channel, stack)
            plan = shared_namespaces(plan, node, self.nodes, stack)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.enter_context(theirs)
            handle = self._clone(node, plan, theirs)
            try:
                self.config.directory.record(
                    journal.Entry(
                        journal.What.PROCESS, node.name, f"{handle.pid} {start_time(handle.pid)}"
                    )
                )
                limits.apply(self.config.unified, self.config.v1, node, [handle.pid])
                if plan.owns_network:
                    index = indexes(node.interfaces)
                    self.switch.netlink.request(
                        [
                            self.switch.port(interface, index[interface.name], handle.network)
                            for interface in node.interfaces
                        ]
                    )
                ours.send(GO)
            except BaseException:
                ours.close()
                raise
        return _Begun(handle, ours)

    def _clone(self, node: Node, plan: ContainerPlan, link: socket.socket) -> NodeHandle:
        flags = namespace_flags(node) | CLONE_PARENT
        try:
            if needs_midwife(node):
                pid, pidfd = by_midwife(node, self.nodes, flags, plan.config.cgroup)
            else:
                pid, pidfd = clone3(flags, cgroup=plan.config.cgroup)
        except OSError as error:
            raise _nesting(error) from error
        if pid == 0:
            become_node(plan, link)
        handle = NodeHandle.of(node.name, pid, pidfd=pidfd)
        self.nodes[node.name] = handle
        return handle

    async def _remove_node(self, name: str) -> None:
        """Kill a node's holder, which kills the node, and wait until the kernel says so.

        The handle is this function's from the start: the holder's word of the same death, which
        may come before or after the pidfd's, must not close it a second time.
        """
        handle = self.nodes.pop(name, None)
        limits.kill(self.config.unified, name)
        if handle is not None:
            await self._end(handle)
        limits.wait_gone(self.config.unified, name)
        limits.remove(self.config.unified, self.config.v1, name)
        hosts.forget(self.config.directory, name)

    async def _end(self, handle: NodeHandle) -> None:
        handle.kill()
        loop = asyncio.get_running_loop()
        dead = loop.create_future()
        loop.add_reader(handle.pidfd, _resolve, dead)
        try:
            await asyncio.wait_for(dead, READY_TIMEOUT_S)
        finally:
            loop.remove_reader(handle.pidfd)
            handle.close()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _in_order(operations: Sequence[Operation], nodes: dict[str, Node]) -> Iterator[Operation]:
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


def _answer(link: socket.socket) -> Trouble | None:
    link.settimeout(READY_TIMEOUT_S)
    try:
        return answer(link)
    except TimeoutError:
        return Trouble("start", f"no answer in {READY_TIMEOUT_S:.0f} s")


def _trouble(name: str, trouble: Trouble) -> Problem:
    return Failed("node", f"node {name}: {trouble.step}: {trouble.message}")


def _nesting(error: OSError) -> Exception:
    """ENOSPC and EUSERS of clone(2) are the namespaces' limits: hard to guess from the errno."""
    if error.errno in (28, 87):
        return Unsupported(
            "namespace-limit",
            "the kernel makes no further namespace: 32 levels of nesting are reached, or the limit"
            " in /proc/sys/user/max_*_namespaces",
            hint="`hostlab namespaces` shows how deep and how many",
        )
    return error
