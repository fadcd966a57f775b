"""A node as a whole: killed, frozen, slowed down, short of memory."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Final

from hostlab.errors import Failed, Unsupported
from hostlab.faults.site import Site, State
from hostlab.lab import driver
from hostlab.linux import cgroups
from hostlab.linux.pidfd import has_ended
from hostlab.spec.faults import option
from hostlab.spec.model import Fault

ENDS_S: Final = 60.0
FROZEN_S: Final = 60.0
"""Both take milliseconds; this is for a machine that is swapping."""
NO_CGROUP: Final = "`hostlab doctor` says what this machine's cgroups are, and why"


def look_killed(site: Site, fault: Fault, number: int) -> State:
    """Which node it is, so that one that follows it is not taken for it."""
    return {"life": site.life(fault.on)}


def kill(site: Site, fault: Fault, state: State) -> None:
    """SIGKILL to the holder, as pulling a host's plug; returns when the kernel has ended it."""
    try:
        pidfd = os.pidfd_open(site.pid(fault.on))
    except ProcessLookupError:
        return
    try:
        if site.is_alive(fault.on, state["life"]):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        if not has_ended(pidfd, within_s=ENDS_S):
            raise Failed("fault", f"node {fault.on} does not end")
    except ProcessLookupError:
        return
    finally:
        os.close(pidfd)


def stage_again(site: Site, fault: Fault, state: State) -> None:
    """The same `up`, for this node; others that are dead on purpose stay so."""
    dead = {node.name for node in site.lab.nodes if site.is_dead(node.name)}
    driver.stage(site.lab, leave=sorted(dead - {fault.on}))
    site.look()


def look_frozen(site: Site, fault: Fault, number: int) -> State:
    """The node's cgroup; Unsupported where it has none that can be frozen."""
    site.pid(fault.on)
    group = f"{site.unified}/{fault.on}"
    if site.unified is None or not os.path.exists(f"{group}/cgroup.freeze"):
        message = "a node is frozen by its cgroup v2, which this user does not have here"
        raise Unsupported("cgroup", message, hint=NO_CGROUP)
    return {"group": group}


def freeze(site: Site, fault: Fault, state: State) -> None:
    """Returns when the kernel says that everything stands still."""
    _freeze(state, frozen=True)


def thaw(site: Site, fault: Fault, state: State) -> None:
    """Let it go on."""
    with contextlib.suppress(FileNotFoundError):
        _freeze(state, frozen=False)


def _freeze(state: State, *, frozen: bool) -> None:
    if not cgroups.freeze(state["group"], frozen=frozen, timeout_s=FROZEN_S):
        raise Failed("fault", f"{state['group']} does not {'freeze' if frozen else 'thaw'}")


def look_slow(site: Site, fault: Fault, number: int) -> State:
    """The node's bound of CPU time, if it has one."""
    return _look(site, fault, "cpu", ("cpu.cfs_quota_us", "cpu.cfs_period_us"), ("cpu.max",))


def slow(site: Site, fault: Fault, state: State) -> None:
    """Bound its CPU time."""
    (limit,) = cgroups.limits(cpu=option(fault, "share"))
    _bound(site, fault, state, limit)


def look_memory(site: Site, fault: Fault, number: int) -> State:
    """The node's bound of memory, if it has one."""
    return _look(site, fault, "memory", ("memory.limit_in_bytes",), ("memory.max",))


def press(site: Site, fault: Fault, state: State) -> None:
    """Bound its memory to what is accounted to it now, and the room that is given."""
    usage = "memory.usage_in_bytes" if state["v1"] else "memory.current"
    path = f"{state['group']}/{usage}"
    used = int(_read(path) or 0)
    (limit,) = cgroups.limits(memory=used + option(fault, "room"))
    # What else goes with a limit of memory in a description, is not this fault's to change.
    files = (limit.v1 if state["v1"] else limit.v2)[:1]
    _bound(site, fault, state, cgroups.Limit("memory", files, files))


def _look(
    site: Site, fault: Fault, controller: str, v1: tuple[str, ...], v2: tuple[str, ...]
) -> State:
    """Where a controller's files of a node are, what they say, and whether v1 has a group yet."""
    site.pid(fault.on)
    if controller in site.v1:
        group, names = f"{site.v1[controller]}/{fault.on}", v1
    else:
        group, names = f"{site.unified}/{fault.on}", v2
        if site.unified is None or not os.path.exists(f"{group}/{v2[0]}"):
            message = f"there is no {controller} controller for this user here"
            raise Unsupported("cgroup", message, hint=NO_CGROUP)
    return {
        "life": site.life(fault.on),
        "controller": controller,
        "described": _described(site, fault, controller),
        "group": group,
        "v1": controller in site.v1,
        "populated": bool(_direct(group)),
        "files": {name: _read(f"{group}/{name}") for name in names},
    }


def _described(site: Site, fault: Fault, controller: str) -> float | None:
    """What the description bounds."""
    limits = site.lab.node(fault.on).limits
    return limits.cpu if controller == "cpu" else limits.memory


def _read(path: str) -> str | None:
    try:
        with open(path) as file:
            return file.read().strip()
    except FileNotFoundError:
        return None


def _bound(site: Site, fault: Fault, state: State, limit: cgroups.Limit) -> None:
    group = state["group"]
    if state["v1"]:
        cgroups.make(group)
        below = cgroups.processes(group)
        _move([pid for pid in members(site, fault.on) if pid not in below], group)
    for name, value in limit.v1 if state["v1"] else limit.v2:
        cgroups.write(f"{group}/{name}", value)


def unbound(site: Site, fault: Fault, state: State) -> None:
    """Lift the bound, unless an `apply` has written another; the group of v1 goes, where the fault
    has made it.
    """
    group = state["group"]
    if not site.is_alive(fault.on, state["life"]) or not os.path.isdir(group):
        return
    if _described(site, fault, state["controller"]) != state["described"]:
        return
    for name, value in state["files"].items():
        if value is not None:
            cgroups.write(f"{group}/{name}", value)
    while state["v1"] and not state["populated"] and (found := _direct(group)):
        _move(found, os.path.dirname(group))
    if state["v1"] and None in state["files"].values():
        cgroups.remove(group)


def members(site: Site, node: str) -> list[int]:
    """Every process of a node, in whichever hierarchy it has a group for sure."""
    base = site.unified if site.unified is not None else site.v1.get("pids")
    return [] if base is None else cgroups.processes(f"{base}/{node}")


def _direct(group: str) -> list[int]:
    """The processes of a group, without those of groups below it."""
    return [int(line) for line in (_read(f"{group}/cgroup.procs") or "").split()]


def _move(pids: list[int], group: str) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            cgroups.write(f"{group}/cgroup.procs", str(pid))
