"""After a supervisor that was killed in the middle of its work: back to a known state.

Before a plan is carried out its goal is written to `next.json`; when all of it is done the goal
becomes `lab.json`. A goal that is found therefore belongs to a plan that was cut off at an unknown
operation. What that plan was to touch is ended; everything else goes on. The next `up` then has an
ordinary difference to make, whatever description it brings.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

import msgspec

from hostlab import typed
from hostlab.lab import change, hosts
from hostlab.lab.nodes import needed_nodes
from hostlab.lab.paths import LabDirectory, read_if_there
from hostlab.linux.whole_files import write_whole
from hostlab.plan.difference import difference
from hostlab.plan.operations import Kind
from hostlab.spec.model import Lab

if TYPE_CHECKING:
    from hostlab.lab.stage import HubSupervisor

_TOUCHING: Final = (
    Kind.ADD_NODE,
    Kind.REMOVE_NODE,
    Kind.CHANGE_NETWORK,
    Kind.CHANGE_FIREWALL,
    Kind.CHANGE_LIMITS,
    Kind.CHANGE_FILES,
    Kind.CHANGE_JOBS,
)


def intend(directory: LabDirectory, goal: Lab) -> None:
    """Write down where a plan leads, before its first operation."""
    write_whole(_path(directory), msgspec.json.encode(goal))


def reached(directory: LabDirectory) -> None:
    """The plan was carried out, or undone, to its end."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_path(directory))


def present(hub: HubSupervisor) -> Lab:
    """The description less what has died since, and less what cannot be without that."""
    nodes = {
        node.name: node
        for node in hub.lab.nodes
        if node.name in hub.nodes and not hub.nodes[node.name].has_ended()
    }
    while orphans := [
        name for name, node in nodes.items() if any(o not in nodes for _, o in needed_nodes(node))
    ]:
        for name in orphans:
            del nodes[name]
    segments = tuple(
        s for s in hub.lab.segments if not s.is_switched or s.name in hub.switch.bridges
    )
    return msgspec.structs.replace(hub.lab, nodes=tuple(nodes.values()), segments=segments)


def goals(directory: LabDirectory) -> tuple[Lab, ...]:
    """Where a plan that was cut off was to lead; none when there was no such plan."""
    stored = read_if_there(_path(directory))
    return () if stored is None else (typed.decode(stored, Lab),)


async def settle(hub: HubSupervisor) -> None:
    """End what a plan that was cut off had touched, and what belongs to no description."""
    directory = hub.config.directory
    goal = next(iter(goals(directory)), None)
    plan = None if goal is None else difference(hub.lab, goal)
    touched = set() if plan is None else {o.subject for o in plan.of(*_TOUCHING)}
    keep = {node.name for node in present(hub).nodes} - touched
    for name in [name for name in hub.nodes if name not in keep]:
        await hub.remove_node(name)
    described = {segment.name: segment for segment in hub.lab.segments if segment.is_switched}
    for name in [name for name in hub.switch.bridges if name not in described]:
        hub.switch.remove_segment(name)
    if goal is None or plan is None:
        return
    for operation in plan.of(Kind.CHANGE_SEGMENT):
        if operation.subject in hub.switch.bridges:
            change.segment(hub, described[operation.subject])
    hub.cables.change(node for node in hub.lab.nodes if node.name in hub.nodes)
    hub.cables.load()
    change.refresh_neighbours(hub, goal, present(hub))
    hosts.write(directory, hub.lab)
    reached(directory)


def _path(directory: LabDirectory) -> str:
    return f"{directory.path}/next.json"
