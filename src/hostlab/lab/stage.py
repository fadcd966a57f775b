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
import errno
import os
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from hostlab import typed
from hostlab.errors import Failed, Problem, Unsupported
from hostlab.init.holder import Inheritance
from hostlab.init.supervisor import Request, Supervisor, died
from hostlab.lab import (
    change,
    configurations,
    firewall,
    hosts,
    limits,
    outlets,
    overlays,
    recovery,
)
from hostlab.lab.building import add_nodes
from hostlab.lab.cables import WIRE, Cables
from hostlab.lab.nodes import (
    NodeHandle,
)
from hostlab.lab.paths import LabDirectory, read_if_there, unusable
from hostlab.lab.publish import Published
from hostlab.lab.publishing import KEY as PUBLISHER
from hostlab.lab.publishing import Publishing
from hostlab.lab.rootfs import Survey
from hostlab.lab.segments import Switch, own_namespace
from hostlab.linux import cgroups
from hostlab.linux.whole_files import write_whole
from hostlab.plan.difference import difference
from hostlab.plan.operations import INVERSE, Kind, Operation, Plan
from hostlab.spec.model import Lab, Node, Segment

IN_PLACE: Final = frozenset(kind for kind, inverse in INVERSE.items() if kind is inverse)
"""Changes of something that goes on existing."""
UNKILLABLE: Final = (
    "a process in uninterruptible sleep ends with what it waits for: `ps -o stat,wchan`"
)
NODE_IN_PLACE: Final = IN_PLACE - {Kind.CHANGE_SEGMENT, Kind.CHANGE_PUBLISHED}
END_TIMEOUT_S: Final = 60.0
"""A killed node ends in milliseconds; this is for a machine that is swapping."""


class HubConfig(msgspec.Struct, frozen=True):
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
        self.cables = Cables(self)
        self.handlers |= {
            "stage": self.stage,
            "status": self.status,
            "attach": self.attach,
            "published": self.list_published,
            "publish": self.publish,
            "wanted_links": self.wanted_links,
            "name_link": self.name_link,
            "try_link": self.try_link,
            "take_index": self.take_index,
            "cables": self.lab_cables,
            "tap": self.tap,
            "link": self.link,
            "links": self.list_links,
        }

    async def started(self) -> None:
        """Prepare a new switch namespace, or find everything that an earlier supervisor made."""
        self.switch.adopt()
        self.switch.prepare()
        self.publishing.restore()
        stored = read_if_there(self.config.directory.description)
        goals = recovery.goals(self.config.directory)
        if self.nodes and stored is None and not goals:
            # Somebody has removed it. What is described is not known any more, so nothing that
            # runs is taken for what is not: `down` finds it by its marks.
            return
        if stored is not None:
            self.lab = typed.decode(stored, Lab)
        self.cables.restore(self.lab, *goals)
        await recovery.settle(self)
        self.cables.change(node for node in self.lab.nodes if node.name in self.nodes)
        self.cables.load()

    def found_running(self, key: str, pid: int) -> None:
        kind, _, name = key.partition(":")
        if kind == "node":
            with contextlib.suppress(OSError):
                self.nodes[name] = NodeHandle.of(name, pid)
        elif key == PUBLISHER:
            self.publishing.found(pid)
        elif key == WIRE:
            self.cables.wire_found(pid)

    def found_ended(self, key: str, pid: int, status: int) -> None:
        kind, _, name = key.partition(":")
        handle = self.nodes.get(name)
        if kind == "node" and handle is not None and handle.pid == pid:
            self.nodes.pop(name).close()
            self.cables.gone(name)
        elif key == PUBLISHER:
            self.publishing.ended(pid)
        elif key == WIRE:
            self.cables.wire_ended(pid)

    async def status(self, request: Request) -> dict[str, Any]:
        """The lab as it is: which nodes are there, which are missing."""
        report = self.publishing.report()
        return {
            "lab": self.lab.name,
            "pid": os.getpid(),
            "nodes": [self._status_of(node) for node in self.lab.nodes],
            **report,
            "warnings": [
                *self.config.survey.warnings,
                *report["warnings"],
                *self.switch.outlets.unjoined(self.lab),
                *self.cables.warnings,
            ],
        }

    def _status_of(self, node: Node) -> dict[str, Any]:
        handle = self.nodes.get(node.name)
        unified = self.config.unified
        exceeded = limits.exceeded(unified, self.config.v1, node.name)
        return {
            "name": node.name,
            "pid": handle.pid if handle is not None else None,
            "frozen": unified is not None and cgroups.is_frozen(f"{unified}/{node.name}"),
            "exceeded": exceeded,
        }

    async def list_published(self, request: Request) -> dict[str, Any]:
        """The ports that are published now."""
        return self.publishing.report()

    async def publish(self, request: Request) -> None:
        """Publish the ports whose sockets come with the command; unpublish others."""
        message = request.message
        published = typed.convert(message["add"], list[Published])
        sockets = zip(published, request.take(len(published)), strict=True)
        remove, machine = message["remove"], tuple(message["machine"])
        self.publishing.change(self.lab, list(sockets), remove, machine)

    async def attach(self, request: Request) -> None:
        """Put the machine's own link, which the caller made, onto a segment."""
        self.switch.attach(request.message["segment"], request.message["link"])

    async def wanted_links(self, request: Request) -> dict[str, Any]:
        """The links on the machine's devices that going to a description takes."""
        new = typed.convert(request.message["lab"], Lab)
        found = self.switch.outlets.wanted_spares(recovery.present(self), new)
        return {"links": outlets.told(found)}

    async def name_link(self, request: Request) -> None:
        """A link that the caller has made in here: what it is for, and perhaps its segment."""
        message = request.message
        self.switch.outlets.name(message["index"], message["name"])
        if "segment" in message:
            self.switch.plug(message["segment"], message["index"])

    async def try_link(self, request: Request) -> dict[str, Any]:
        """Whether a link that waits for its node can be set up."""
        return {"is_free": self.switch.outlets.is_free(request.message["index"])}

    async def take_index(self, request: Request) -> dict[str, Any]:
        """A number for a link that the caller makes in here."""
        return {"index": self.switch.take_index()}

    async def lab_cables(self, request: Request) -> dict[str, Any]:
        """The cables to other labs that are there; all but those that are named end."""
        self.switch.outlets.delete(outlets.CABLE, keep=frozenset(request.message["keep"]))
        return {"cables": [*self.switch.outlets.found(outlets.CABLE)]}

    async def tap(self, request: Request) -> dict[str, Any]:
        """The device of a tap."""
        message = request.message
        return {"device": self.switch.outlets.tap_device(message["segment"], message["name"])}

    async def link(self, request: Request) -> dict[str, Any]:
        """Change the impairments of one cable; the description changes with them."""
        from hostlab.lab.links import LinkChange, changed

        change_ = typed.convert(request.message["change"], LinkChange)
        async with self._changing:
            await recovery.settle(self)
            new, operation = changed(self.lab, change_)
            handle = self.nodes.get(change_.node)
            if handle is None or handle.has_ended():
                raise died(f"node {change_.node}")
            await self._reach(Plan((operation,)), self.lab, new, request)
        return {"operations": msgspec.to_builtins((operation,))}

    async def list_links(self, request: Request) -> dict[str, Any]:
        """The impaired cables, how that is done, and what has passed."""
        return self.cables.report()

    async def stage(self, request: Request) -> dict[str, Any]:
        """Go from what is there to the given description; undo everything if a step fails."""
        new = typed.convert(request.message["lab"], Lab)
        async with self._changing:
            await recovery.settle(self)
            present = recovery.present(self)
            overlays.require(new)
            plan = difference(present, new).without_nodes(request.message.get("leave", ()))
            change.check_answers(self.config.unified, plan)
            try:
                await self._reach(plan, present, new, request)
            finally:
                if any(map(outlets.device_links, (*present.nodes, *new.nodes))):
                    self.switch.outlets.delete(outlets.SPARE)
            self.publishing.tell_nodes(new)
        return {"operations": msgspec.to_builtins(plan.operations)}

    async def _reach(self, plan: Plan, old: Lab, new: Lab, request: Request) -> None:
        """Carry a plan out to its end, or take back what was done of it."""
        done: list[Operation] = []
        try:
            recovery.intend(self.config.directory, new)
            await self._execute(plan, old, new, done, request)
            self._commit(new)
        except Exception as error:
            undone = await self._undo(done, new, old)
            if not isinstance(error, Problem | OSError):
                raise
            raise self._failed(error, undone) from error

    def _failed(self, error: Problem | OSError, undone: Sequence[str]) -> Problem:
        if isinstance(error, Problem):
            code, message, hint = error.code, error.message, error.hint
        else:
            code, message, hint = "os", str(error), None
            if isinstance(error, ConnectionError):
                return died(message)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return unusable(error.filename or self.config.directory.path, error)
        text = f"{message}; undone: {len(undone)} operations" if undone else message
        kind = Unsupported if isinstance(error, Unsupported) else Failed
        return kind(code, text, hint=hint)

    def _commit(self, new: Lab) -> None:
        """The new description is true from here on; written whole or not at all."""
        configurations.write(self.config.directory, self.lab, new)
        write_whole(self.config.directory.description, msgspec.json.encode(new))
        self.lab = new
        recovery.reached(self.config.directory)

    async def _execute(
        self, plan: Plan, old: Lab, new: Lab, done: list[Operation], request: Request | None
    ) -> None:
        added: list[Operation] = []
        hosts.write(self.config.directory, new)
        for operation in plan.operations:
            if operation.kind is Kind.ADD_NODE:
                added.append(operation)
                continue
            if added and operation.kind not in (Kind.ADD_SEGMENT,):
                await add_nodes(self, added, new, done, request)
                added = []
            if operation.kind in IN_PLACE:
                # One that stops half-way must be taken back too; both ways it starts from what
                # is there, not from what was to be there.
                done.append(operation)
            try:
                await self._one(operation, old, new)
            except Problem as problem:
                if problem.code in firewall.UNCHANGED:
                    done.pop()
                raise
            if operation.kind not in IN_PLACE:
                done.append(operation)
        await add_nodes(self, added, new, done, request)
        self.cables.load()
        self.switch.raise_bridges()
        change.refresh_neighbours(self, old, new)

    async def _one(self, operation: Operation, old: Lab, new: Lab) -> None:
        name = operation.subject
        if operation.kind in NODE_IN_PLACE and name not in self.nodes:
            raise died(f"node {name}")
        match operation.kind:
            case Kind.ADD_SEGMENT:
                if (segment := _segment(new, name)).is_switched:
                    self.switch.add_segment(segment)
            case Kind.REMOVE_SEGMENT:
                if _segment(old, name).is_switched:
                    self.switch.remove_segment(name)
            case Kind.CHANGE_SEGMENT:
                if (segment := _segment(new, name)).is_switched:
                    change.segment(self, segment)
            case Kind.REMOVE_NODE:
                change.rescue(self, old.node(name))
                await self.remove_node(name)
            case Kind.CHANGE_NETWORK:
                change.network(self, old.node(name), new.node(name))
                self.cables.change([new.node(name)])
            case Kind.CHANGE_IMPAIRMENTS:
                self.cables.change([new.node(name)])
            case Kind.CHANGE_FIREWALL:
                firewall.load([(self.nodes[name], new.node(name))], is_new=False)
            case Kind.CHANGE_LIMITS:
                limits.change(self.config.unified, self.config.v1, old.node(name), new.node(name))
            case Kind.CHANGE_FILES:
                change.node_files(self.nodes[name], old.node(name), new.node(name))
            case Kind.CHANGE_JOBS:
                await change.jobs(self.config.directory, new.node(name), operation)
            case Kind.CHANGE_PUBLISHED | Kind.ADD_NODE:
                pass

    async def _undo(self, done: Sequence[Operation], new: Lab, old: Lab) -> list[str]:
        """Take back what was done, latest first; what cannot be taken back is said in the log.

        Before all else the segments that went are there again, for the nodes that were on them, and
        files, for the jobs that read them when they are told to, or start again.
        """
        undone = []
        latest_first = done[::-1]
        first = (Kind.REMOVE_SEGMENT, Kind.CHANGE_FILES)
        for operation in sorted(latest_first, key=lambda o: o.kind not in first):
            inverse = operation.inverse()
            try:
                await self._execute(Plan((inverse,)), new, old, [], None)
                undone.append(inverse.describe())
            except Exception as error:
                os.write(2, f"hub: cannot undo {operation.describe()}: {error}\n".encode())
        if len(undone) == len(done):
            recovery.reached(self.config.directory)
        with contextlib.suppress(OSError):
            hosts.write(self.config.directory, old)
        return undone

    async def remove_node(self, name: str) -> None:
        """Kill a node's holder, which kills the node, and wait until the kernel says so.

        The handle is this function's from the start: the holder's word of the same death, which
        may come before or after the pidfd's, must not close it a second time.
        """
        handle = self.nodes.pop(name, None)
        self.cables.gone(name)
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
            await asyncio.wait_for(dead, END_TIMEOUT_S)
        except TimeoutError:
            raise Failed("node", f"node {handle.name} does not end", hint=UNKILLABLE) from None
        finally:
            loop.remove_reader(handle.pidfd)
            handle.close()


def _segment(lab: Lab, name: str) -> Segment:
    return next(segment for segment in lab.segments if segment.name == name)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
