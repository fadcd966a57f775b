"""Why a node of the lab does not answer: who listens there, and which of its jobs do not run.

A refused connection is the same whether the server listens on another port, is not installed or
has died. What tells them apart is looked up in the node that was asked, for a check that fails.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final

import msgspec

from hostlab.checks.access import JobStatus, NodeAccess, ended_text, status_text
from hostlab.checks.kind import Asked
from hostlab.errors import Problem
from hostlab.jobs.job_state import JobState
from hostlab.linux.sockdiag import Listener, listeners_by_inode
from hostlab.spec.model import Lab, Node

MOST_LOOKS: Final = 32
"""So often nodes are looked into in one judgement; a lab that is down has one reason."""
FRESH_S: Final = 0.25
"""For so long what was seen of a node does for other checks."""
JOBS_S: Final = 1.0
"""So long a node's init has to tell of its jobs; one that is frozen never does."""
SHOWN: Final = 8
LOG_LINES: Final = 5
ANCESTORS: Final = 8
MOST_SOCKETS: Final = 256
LOOK: Final = b"who listens"
"""The question of `who_listens`, among those that are JSON."""


class Bound(msgspec.Struct, frozen=True):
    """A socket that waits, and whose it is."""

    listener: Listener
    program: str = ""
    """Its process by its name; empty where that cannot be seen."""
    pids: tuple[int, ...] = ()
    """The process and its ancestors, in the numbers of the node."""


def who_listens() -> bytes:
    """What waits for TCP and UDP, as JSON of `Bound`. Runs inside a node, so it imports nothing.

    OSError when there is more than a message holds: a part would be taken for all.
    """
    found = [each for protocol in ("tcp", "udp") for each in listeners_by_inode(protocol)]
    if len(found) > MOST_SOCKETS:
        raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
    owners = _owners({inode for inode, _ in found})
    bound = []
    for inode, listener in found:
        pid = owners.get(inode)
        name, pids = _process(pid) if pid is not None else ("", ())
        bound.append(Bound(listener, name, pids))
    return msgspec.json.encode(bound)


def _owners(inodes: set[int]) -> dict[int, int]:
    """Inode of a socket -> the first process that has it, as far as one may look."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, int] = {}
    for pid in sorted(map(int, filter(str.isdecimal, os.listdir("/proc")))):
        with suppress(OSError):
            for fd in os.listdir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    inode = wanted.get(os.readlink(f"/proc/{pid}/fd/{fd}"))
                    if inode is not None:
                        found.setdefault(inode, pid)
    return found


def _process(pid: int) -> tuple[str, tuple[int, ...]]:
    """A process's name, and its number before those of its ancestors; proc_pid_stat(5)."""
    name, pids = "", [pid]
    with suppress(OSError):
        while pids[-1] > 1 and len(pids) < ANCESTORS:
            with open(f"/proc/{pids[-1]}/stat", errors="replace") as file:
                head, _, rest = file.read().rpartition(")")
            name = name or head.partition("(")[2]
            pids.append(int(rest.split()[1]))
    return name, tuple(pids)


@dataclass(frozen=True, slots=True)
class _Looked:
    """A node at one instant."""

    at: float
    bound: tuple[Bound, ...] | None
    """None: it could not be looked into."""
    jobs: Mapping[str, JobStatus]


@dataclass
class Targets:
    """The nodes of a lab, as far as checks that fail have asked them. Any thread may ask."""

    described: Lab
    access: Mapping[str, NodeAccess]
    listening: Callable[[int], bytes]
    """`who_listens`, asked in the namespaces of a process."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _known: dict[str, _Looked] = field(default_factory=dict)
    _looks: int = 0

    def lines(self, asker: str, asked: tuple[Asked, ...], *, answered: bool) -> tuple[str, ...]:
        """What is so in the nodes that `asker` has asked, a line each.

        With `answered` it is no matter any more who listens, when somebody does.
        """
        found: dict[str, None] = {}
        for each in asked:
            for node in nodes_asked(self.described, asker, each.host):
                found |= dict.fromkeys(self._of(node, each, answered=answered))
        return tuple(found)

    def _of(self, node: Node, asked: Asked, *, answered: bool) -> Iterator[str]:
        if node.name not in self.access:
            yield f"{node.name}: the node is not there"
            return
        looked = self._look(node)
        if looked is None:
            return
        is_open = False
        if looked.bound is not None:
            wanted = _addresses(node) if asked.host is None else {asked.host} & _addresses(node)
            text, is_open = _ports(looked, asked, wanted or _addresses(node))
            if not (is_open and answered):
                yield f"{node.name}: {text}"
        failed = {JobState.FAILED}
        told = failed if is_open else set(JobState) - {JobState.RUNNING}
        for name, status in looked.jobs.items():
            if status.state in told:
                yield from _job(node.name, name, status)

    def _look(self, node: Node) -> _Looked | None:
        """None when nodes were looked into often enough."""
        with self._lock:
            known = self._known.get(node.name)
            if known is not None and time.monotonic() - known.at < FRESH_S:
                return known
            if self._looks >= MOST_LOOKS:
                return None
            self._looks += 1
            access = self.access[node.name]
            bound: tuple[Bound, ...] | None = None
            with suppress(Problem, OSError):
                data = self.listening(access.pid)
                bound = msgspec.json.decode(data, type=tuple[Bound, ...])
            jobs: Mapping[str, JobStatus] = {}
            # The init of a node without jobs would start for this question alone.
            if node.has_jobs:
                with suppress(Problem, OSError):
                    jobs = access.jobs(timeout_s=JOBS_S)
            self._known[node.name] = _Looked(time.monotonic(), bound, jobs)
            return self._known[node.name]


def _job(node: str, name: str, status: JobStatus) -> Iterator[str]:
    """A job that does not run: why, and what it said last."""
    if status.state is not JobState.FAILED:
        yield f"{node}: job {name} is {status_text(status)}"
        return
    why = status.reason or ended_text(status)
    yield f"{node}: job {name} failed" + (f": {why}" if why else "")
    for line in status.log[-LOG_LINES:]:
        if not (status.reason and line.endswith(status.reason)):
            yield f"{node}/{name}: {line}"


def nodes_asked(described: Lab, asker: str, host: str | None) -> list[Node]:
    """Those that a name or an address means to the node `asker`; None is itself.

    Several may have an address, which moves between them.
    """
    own = [node for node in described.nodes if node.name == asker]
    if host is None:
        return own
    name = host.rstrip(".").lower()
    alias = {link.alias.lower(): link.node.lower() for node in own for link in node.links}
    named = alias.get(name, name)
    return [
        node
        for node in described.nodes
        if named in {node.name.lower(), node.hostname.lower()} or host in _addresses(node)
    ][:SHOWN]


def _addresses(node: Node) -> set[str]:
    every = [address for each in node.interfaces for address in each.addresses]
    return {address.partition("/")[0] for address in (*every, *node.loopbacks)}


def _ports(looked: _Looked, asked: Asked, wanted: set[str]) -> tuple[str, bool]:
    """Who listens on the port that was asked, or else on which; and whether it is the former."""
    assert looked.bound is not None
    port = f"{asked.protocol} {asked.port}"
    mine = [each for each in looked.bound if each.listener.protocol == asked.protocol]
    there = [each for each in mine if each.listener.port == asked.port]
    if not there:
        others = _said(mine, looked.jobs)
        return f"nothing listens on {port}" + (f"; {others}" if others else ""), False
    addresses = [ip_address(address) for address in wanted]
    takes = [each for each in there if any(map(each.listener.takes, addresses))]
    if takes or not wanted:
        return _said(takes or there, looked.jobs), True
    return f"nothing listens on {port} at its addresses; {_said(there, looked.jobs)}", False


def _said(bound: list[Bound], jobs: Mapping[str, JobStatus]) -> str:
    """`web listens on 8080 (0.0.0.0, ::), sshd on 22 (0.0.0.0)`."""
    by_owner: dict[tuple[str, int], list[str]] = {}
    for each in bound:
        key = (_owner(each, jobs), each.listener.port)
        by_owner.setdefault(key, []).append(each.listener.address)
    texts = [
        f"{owner} {'on' if number else 'listens on'} {port} ({', '.join(dict.fromkeys(where))})"
        for number, ((owner, port), where) in enumerate(list(by_owner.items())[:SHOWN])
    ]
    more = len(by_owner) - SHOWN
    return ", ".join(texts) + (f" and {more} more" if more > 0 else "")


def _owner(bound: Bound, jobs: Mapping[str, JobStatus]) -> str:
    """The job whose process it is, or descends from; else its program's name."""
    by_pid = {status.pid: name for name, status in jobs.items() if status.pid is not None}
    owners = (by_pid[pid] for pid in bound.pids if pid in by_pid)
    return next(owners, bound.program or "a program")
