"""From one description to another: the fewest operations, each with its reason.

The order is fixed: what goes is removed before what comes is added, so that an address, a port or
a name can move from one node to another; segments are there before the nodes that join them and go
after the nodes that left them. A node is replaced only for what the kernel cannot change under a
running host; everything else is changed in place, and its neighbours keep links and connections.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from hostlab.plan.operations import Kind, Operation, Plan
from hostlab.spec import firewall
from hostlab.spec.firewall import Firewall
from hostlab.spec.impairments import NONE
from hostlab.spec.job import Job, same_but_places
from hostlab.spec.model import Lab, Node, Segment

REPLACING: Final = (
    "hostname",
    "volumes",
    "capabilities",
    "no_new_privs",
    "seccomp",
    "apparmor",
    "root",
    "mounts",
    "rlimits",
    "masked_paths",
    "readonly_paths",
    "time_offset_s",
    "namespaces",
    "users",
    "nesting",
    "boot",
)
"""Fields that are fixed when a node's first process starts."""

NETWORK: Final = ("interfaces", "loopbacks", "routes", "sysctls")
"""Fields that the kernel changes under a running host."""

NOT_STAGED: Final = (
    "name",
    "roles",
    "routing",
    "links",
    "publish",
    "firewall",
    "limits",
    "files",
    "environment",
    "jobs",
    "job_files",
    "crontabs",
    "units",
    "unsupported",
)
"""Fields with an operation of their own, or that only the loader reads."""

NOT_RUNNING: Final = (
    "start_on",
    "manual",
    "emits",
    "description",
    "author",
    "version",
    "usage",
    "said",
    "reload",
)
"""Fields of a job that mean nothing to what runs of it: they are only taken up anew."""


def difference(old: Lab | None, new: Lab) -> Plan:
    """What leads from `old` (None: nothing) to `new`."""
    before = old or Lab(name=new.name)
    segments = _Pairs(before.segments, new.segments)
    nodes = _Pairs(before.nodes, new.nodes)
    replaced = {
        name: reason for name, (was, now) in nodes.kept.items() if (reason := _replacing(was, now))
    }
    _share_fate(replaced, set(nodes.come), new)
    steps: list[Operation] = []
    for name in (*nodes.gone, *replaced):
        reason = replaced.get(name, "no longer described")
        steps.append(Operation(Kind.REMOVE_NODE, name, reason))
    gone = "no longer described"
    steps += [Operation(Kind.REMOVE_SEGMENT, name, gone) for name in segments.gone]
    other = {
        name: f"{was.kind} → {now.kind}"
        for name, (was, now) in segments.kept.items()
        if was.kind is not now.kind
    }
    steps += [Operation(Kind.REMOVE_SEGMENT, name, reason) for name, reason in other.items()]
    for name, (was_segment, now_segment) in segments.kept.items():
        if name not in other and (reason := _segment_change(was_segment, now_segment)):
            steps.append(Operation(Kind.CHANGE_SEGMENT, name, reason))
    steps += [Operation(Kind.ADD_SEGMENT, name, reason) for name, reason in other.items()]
    steps += [Operation(Kind.ADD_SEGMENT, name, "described") for name in segments.come]
    for node in new.nodes:
        if node.name in nodes.come:
            steps.append(Operation(Kind.ADD_NODE, node.name, "described"))
        elif node.name in replaced:
            steps.append(Operation(Kind.ADD_NODE, node.name, replaced[node.name]))
    for name, (was, now) in nodes.kept.items():
        if name not in replaced:
            steps += _changes(was, now)
    steps += _publishing(before, new, set(replaced))
    return Plan(tuple(steps))


class _Pairs:
    """Named things of two descriptions, sorted into gone, come and kept."""

    def __init__(self, old: tuple[Any, ...], new: tuple[Any, ...]) -> None:
        was = {thing.name: thing for thing in old}
        now = {thing.name: thing for thing in new}
        self.gone = tuple(name for name in was if name not in now)
        self.come = tuple(name for name in now if name not in was)
        self.kept = {name: (was[name], now[name]) for name in was if name in now}


def _replacing(was: Node, now: Node) -> str:
    for field in REPLACING:
        if getattr(was, field) != getattr(now, field):
            return f"`{field}` changed, which is fixed when a host starts"
    if was.limits.disk != now.limits.disk:
        return "`limits.disk` changed, which is fixed when a host starts"
    if bool(was.links) != bool(now.links):
        return "only a host with links has a table of names of its own"
    if _fixed_sysctls(was) != _fixed_sysctls(now):
        return "`sysctls` changed that can only be set before a host's first process"
    return ""


def _fixed_sysctls(node: Node) -> set[tuple[str, str]]:
    """/proc/sys is read-only in a running node, all but the network's part."""
    return {pair for pair in node.sysctls if not pair[0].startswith("net.")}


def _share_fate(replaced: dict[str, str], come: set[str], new: Lab) -> None:
    """A node that lives in another's namespace is replaced with it.

    Also with one that comes: of a node that has died and is made again, the survivors hold the
    old namespace.
    """
    changed = True
    while changed:
        changed = False
        for node in new.nodes:
            if node.name in replaced or node.name in come:
                continue
            of_jobs = (pair for job in node.jobs for pair in job.namespaces)
            for kind, other in (*node.namespaces, *of_jobs):
                if other in replaced or other in come:
                    replaced[node.name] = f"shares the {kind} namespace of {other}, made anew"
                    changed = True
                    break


def _segment_change(was: Segment, now: Segment) -> str:
    if was.mtu != now.mtu:
        return f"mtu {was.mtu} → {now.mtu}"
    if was.machine != now.machine:
        return f"machine {_list(was.machine)} → {_list(now.machine)}"
    if was.taps != now.taps:
        return f"taps {_list(was.taps)} → {_list(now.taps)}"
    if was.lab != now.lab:
        return f"joined to {was.lab or 'no lab'} → {now.lab or 'no lab'}"
    return ""


def _changes(was: Node, now: Node) -> list[Operation]:
    steps = []
    before, after = _with_perfect_cables(was), _with_perfect_cables(now)
    if changed := [f for f in NETWORK if getattr(before, f) != getattr(after, f)]:
        steps.append(Operation(Kind.CHANGE_NETWORK, now.name, f"{_list(changed)} changed"))
    if reason := _impairments_change(was, now):
        steps.append(Operation(Kind.CHANGE_IMPAIRMENTS, now.name, reason))
    if not firewall.same_but_places(was.firewall, now.firewall):
        reason = _firewall_change(was.firewall, now.firewall)
        steps.append(Operation(Kind.CHANGE_FIREWALL, now.name, reason))
    if was.limits != now.limits:
        steps.append(Operation(Kind.CHANGE_LIMITS, now.name, "limits changed"))
    if was.files != now.files:
        old = {file.path: file for file in was.files}
        new = {file.path: file for file in now.files}
        paths = sorted(path for path in {*old, *new} if old.get(path) != new.get(path))
        steps.append(Operation(Kind.CHANGE_FILES, now.name, f"{_list(paths)} changed"))
    if change := _jobs_change(was, now):
        steps.append(change)
    return steps


def _with_perfect_cables(node: Node) -> Node:
    """The node without its impairments, which have an operation of their own."""
    if not any(interface.is_impaired for interface in node.interfaces):
        return node
    perfect = (replace(i, sending=NONE, receiving=NONE) for i in node.interfaces)
    return replace(node, interfaces=tuple(perfect))


def _impairments_change(was: Node, now: Node) -> str:
    """Of interfaces that stay or come; one that goes takes its impairment along."""
    old = {interface.name: interface for interface in was.interfaces}
    reasons = []
    for interface in now.interfaces:
        before = old.get(interface.name)
        for way, word in (("sending", "out"), ("receiving", "in")):
            is_now = getattr(interface, way)
            if is_now != (NONE if before is None else getattr(before, way)):
                reasons.append(f"{interface.name} {word} {is_now.describe()}")
    return ", ".join(reasons)


def _firewall_change(was: Firewall | None, now: Firewall | None) -> str:
    if now is None:
        return "its table is taken away"
    if was is None:
        return "a table of its own"
    parts = ("default", "zones", "deny", "allow", "masquerade", "publish", "raw")
    was, now = firewall.placeless(was), firewall.placeless(now)
    return f"{_list([p for p in parts if getattr(was, p) != getattr(now, p)])} changed"


def _jobs_change(was: Node, now: Node) -> Operation | None:
    if was.environment != now.environment:
        every = tuple(job.name for job in now.jobs)
        return Operation(Kind.CHANGE_JOBS, now.name, "environment changed", every)
    old = {job.name: job for job in was.jobs}
    new = {job.name: job for job in now.jobs}
    both = [(old[name], job) for name, job in new.items() if old.get(name, job) != job]
    changed = changed_jobs(was, now)
    keys = ("job_files", "crontabs", "units")
    other = [f"`{key}`" for key in keys if getattr(was, key) != getattr(now, key)]
    if not (changed or other):
        return None
    what = [*sorted(changed), *other]
    running = [(_running(one), _running(other)) for one, other in both]
    reload = tuple(one.name for one, other in running if _only_reads_other(one, other, new))
    restart = tuple(o.name for o, other in running if o != other and o.name not in reload)
    return Operation(Kind.CHANGE_JOBS, now.name, f"{_list(what)} changed", restart, reload)


def changed_jobs(was: Node, now: Node) -> set[str]:
    """The names of jobs that are new, gone or otherwise, wherever their lines are."""
    old = {job.name: job for job in was.jobs}
    new = {job.name: job for job in now.jobs}
    both = [(old[name], job) for name, job in new.items() if old.get(name, job) != job]
    changed = {one.name for one, other in both if not same_but_places(one, other)}
    return changed | (old.keys() ^ new.keys())


def _only_reads_other(one: Job, other: Job, new: dict[str, Job]) -> bool:
    """Whether what runs need only be told to read its configuration again."""
    differs = one.reads != other.reads and replace(one, reads=other.reads) == other
    return differs and new[other.name].reload is not None


def _running(job: Job) -> Job:
    """The job as far as its processes are concerned."""
    return replace(job, **{field: getattr(_NOTHING, field) for field in NOT_RUNNING})


_NOTHING: Final = Job(name="")


def _publishing(before: Lab, new: Lab, replaced: set[str]) -> list[Operation]:
    old = {node.name: node.publish for node in before.nodes}
    steps = []
    for node in new.nodes:
        if node.publish == old.get(node.name, ()) and node.name not in replaced:
            continue
        if node.publish or old.get(node.name):
            ports = ", ".join(f"{p.port}/{p.protocol}" for p in node.publish) or "none"
            steps.append(Operation(Kind.CHANGE_PUBLISHED, node.name, f"published: {ports}"))
    return steps


def _list(items: object) -> str:
    if isinstance(items, list | tuple):
        return ", ".join(map(str, items)) or "none"
    return str(items)
