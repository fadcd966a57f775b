"""A job's processes: ended, killed, stopped, out of descriptors.

The node's init says which process a job is, the job's cgroup which others belong to it. What is
done to them is done from outside; the init learns of it from the kernel, as of any other death.
"""

from __future__ import annotations

import os
import resource
import signal
from contextlib import suppress
from itertools import compress
from typing import Final

from hostlab.api import Node
from hostlab.errors import Failed, UsageError
from hostlab.faults.site import Site, State
from hostlab.linux import cgroups, procfs
from hostlab.linux.pidfd import has_ended
from hostlab.observe.in_node import pid_in
from hostlab.spec.faults import is_there
from hostlab.spec.model import Fault

ENDS_S: Final = 60.0
IDLE: Final = ("waiting", "stopped", "failed")
_ENDED: Final = (FileNotFoundError, ProcessLookupError)
"""What /proc says of a process that ends before its file is opened, or then."""


def init_of(site: Site, fault: Fault) -> tuple[Node, str]:
    """The init that knows a job, and the job's name there."""
    node, job = fault.on.split("/", 1)
    return Node(site.lab.name, node, site.pid(node)), job


def look(site: Site, fault: Fault, number: int) -> State:
    """The job's processes, its main one first; Failed when it has none."""
    node, job = init_of(site, fault)
    rows, _ = node.status_of(job)
    running = [row for row in rows if row["pid"] is not None and row["state"] == "running"]
    if not running:
        message = f"job {job} of node {node.name} does not run: it is {rows[0]['state']}"
        raise Failed("job-idle", message, hint=f"`hostlab job start --node {node.name} {job}`")
    number_inside = running[0]["pid"]
    try:
        pids = _members(site, node.name, pid_in(node.pid, number_inside))
    except (UsageError, *_ENDED):
        raise _has_ended(fault) from None
    return {
        "node": node.name,
        "life": site.life(node.name),
        "inside": number_inside,
        "processes": [[pid, procfs.start_time(pid)] for pid in pids],
    }


def _has_ended(fault: Fault) -> Failed:
    node, job = fault.on.split("/", 1)
    message = f"job {job} of node {node} does not run: its process has just ended"
    return Failed("job-idle", message)


def _members(site: Site, node: str, main: int) -> list[int]:
    """A main process and what shares its cgroup, where a job has one of its own."""
    if site.unified is None:
        return [main]
    with open(f"/proc/{main}/cgroup") as lines:
        path = next((line[3:].rstrip("\n") for line in lines if line.startswith("0::")), "")
    _, found, below = path.partition(f"/{os.path.basename(site.unified)}/{node}/")
    if not found:
        return [main]
    every = cgroups.processes(f"{site.unified}/{node}/{below}")
    return [main, *sorted(pid for pid in every if pid != main)]


def _signal(state: State, number: int, *, most: int | None = None) -> None:
    for pid, started in state["processes"][:most]:
        with suppress(ProcessLookupError):
            pidfd = os.pidfd_open(pid)
            try:
                if procfs.start_time(pid) != started:
                    continue
                signal.pidfd_send_signal(pidfd, number)
                if number == signal.SIGKILL and not has_ended(pidfd, within_s=ENDS_S):
                    raise Failed("fault", f"process {pid} does not end")
            finally:
                os.close(pidfd)


def kill(site: Site, fault: Fault, state: State) -> None:
    """SIGKILL to the main process; returns when it has ended and the init knows of it."""
    node, job = init_of(site, fault)
    with node.monitor() as control:
        control.socket.settimeout(ENDS_S)
        _signal(state, signal.SIGKILL, most=1)
        while any(row["pid"] == state["inside"] for row in node.status_of(job)[0]):
            control.receive()


def end(site: Site, fault: Fault, state: State) -> None:
    """Have the init stop it; returns when it has ended."""
    node, job = init_of(site, fault)
    node.job(job, "stop")


def start_again(site: Site, fault: Fault, state: State) -> None:
    """Start the job, unless it has been started again meanwhile, or is described no more."""
    if not site.is_alive(state["node"], state["life"]) or not is_there(fault, site.lab):
        return
    node, job = init_of(site, fault)
    node.wait_settled()
    rows, _ = node.status_of(job)
    if rows and rows[0]["state"] in IDLE:
        node.job(job, "start")


def stop(site: Site, fault: Fault, state: State) -> None:
    """SIGSTOP to all of them."""
    _signal(state, signal.SIGSTOP)


def go_on(site: Site, fault: Fault, state: State) -> None:
    """SIGCONT."""
    _signal(state, signal.SIGCONT)


def look_descriptors(site: Site, fault: Fault, number: int) -> State:
    """Also each process' limits, and the lowest number that it has not in use.

    Those that the main one has started and that end meanwhile are left out.
    """
    state = look(site, fault, number)
    processes = state["processes"]
    limits = site.in_switch(lambda: [_limits(pid) for pid, _ in processes])
    if limits[0] is None:
        raise _has_ended(fault)
    state["processes"] = [*compress(processes, limits)]
    state["limits"] = [*filter(None, limits)]
    return state


def _limits(pid: int) -> tuple[int, int, int] | None:
    try:
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        used = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    except _ENDED:
        return None
    return next(n for n in range(len(used) + 1) if n not in used), soft, hard


def exhaust(site: Site, fault: Fault, state: State) -> None:
    """Lower each one's limit to what it has: the next descriptor is refused with EMFILE."""
    site.in_switch(lambda: _limit(state, exhausted=True))


def relieve(site: Site, fault: Fault, state: State) -> None:
    """The limits as they were, also of what was started meanwhile and took over the low one."""
    if not site.is_alive(state["node"], state["life"]):
        return
    known = {pid for pid, _ in state["processes"]}
    main = state["processes"][0][0]
    with suppress(*_ENDED):
        later = set(_members(site, state["node"], main)) - known
        low, soft, hard = state["limits"][0]
        state["processes"] += [[pid, procfs.start_time(pid)] for pid in later]
        state["limits"] += [(low, soft, hard)] * len(later)
    site.in_switch(lambda: _limit(state, exhausted=False))


def _limit(state: State, *, exhausted: bool) -> None:
    for (pid, started), (low, soft, hard) in zip(state["processes"], state["limits"], strict=True):
        with suppress(ProcessLookupError):
            if procfs.start_time(pid) == started:
                wanted = low if exhausted else soft
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (wanted, hard))
