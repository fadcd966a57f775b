"""Why a node of the lab does not answer: who listens there, and which of its jobs do not run.

A refused connection is the same whether the server listens on another port, is not installed or
has died. What tells them apart is looked up in the node that was asked, for a check that fails.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final, NamedTuple

import msgspec

from hostlab import typed
from hostlab.checks.access import JobStatus, NodeAccess, ended_text, status_text
from hostlab.checks.kind import Asked
from hostlab.errors import Problem
from hostlab.jobs.job_state import JobState
from hostlab.linux.sockdiag import Listener, listeners_by_inode
from hostlab.observe.socket_owners import JobProcesses, owners
from hostlab.probes.ports import ranges
from hostlab.spec.model import Lab, Node

MOST_LOOKS: Final = 32
"""So often nodes are looked into in one judgement; a lab that is down has one reason."""
FRESH_S: Final = 0.25
"""For so long what was seen of a node does for other checks."""
JOBS_S: Final = 1.0
"""So long a node's init has to tell of its jobs; one that is frozen never does."""
SHOWN: Final = 8
LOG_LINES: Final = 5
MOST_SOCKETS: Final = 256
LOOK: Final = b"who listens"
"""The question of `who_listens`, among those that are JSON."""


def who_listens() -> bytes:
    """What waits for TCP and UDP by its inode, as JSON. Runs inside a node, so it imports nothing.

    OSError when there is more than a message holds: a part would be taken for all.
    """
    found = [each for protocol in ("tcp", "udp") for each in listeners_by_inode(protocol)]
    if len(found) > MOST_SOCKETS:
        raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
    return msgspec.json.encode(found)


class _Ports(NamedTuple):
    """Ports of one host that were asked."""

    protocol: str
    numbers: Sequence[int]


class _Bound(NamedTuple):
    """A socket that waits, and whose it is."""

    listener: Listener
    owner: str


@dataclass(frozen=True, slots=True)
class _Looked:
    """A node at one instant."""

    at: float
    bound: tuple[_Bound, ...] | None
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

    def names(self, asker: str, asked: tuple[Asked, ...]) -> tuple[str, ...]:
        """The other nodes that `asker` has asked."""
        found = (n.name for a in asked for n in nodes_asked(self.described, asker, a.host))
        return tuple(name for name in dict.fromkeys(found) if name != asker)

    def lines(self, asker: str, asked: tuple[Asked, ...], *, answered: bool) -> tuple[str, ...]:
        """What is so in the nodes that `asker` has asked, a line each.

        With `answered` it is no matter any more who listens, when somebody does.
        """
        found: dict[str, None] = {}
        together: dict[tuple[str | None, str], list[int]] = {}
        for host, port, protocol in asked:
            together.setdefault((host, protocol), []).append(port)
        for (host, protocol), ports in together.items():
            for node in nodes_asked(self.described, asker, host):
                said = self._of(node, host, _Ports(protocol, ports), answered=answered)
                found |= dict.fromkeys(said)
        return tuple(found)

    def _of(self, node: Node, host: str | None, ports: _Ports, *, answered: bool) -> Iterator[str]:
        if node.name not in self.access:
            yield f"{node.name}: the node is not there"
            return
        looked = self._look(node)
        if looked is None:
            return
        is_open = False
        if looked.bound is not None:
            own = _addresses(node)
            wanted = [host] if host in own else own
            texts, is_open = _told(looked.bound, ports, wanted)
            if not (is_open and answered):
                yield from (f"{node.name}: {text}" for text in texts)
        failed = {JobState.FAILED}
        told = failed if is_open else set(JobState) - {JobState.RUNNING}
        for name, status in looked.jobs.items():
            if status.state in told and not status.is_done:
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
            jobs: Mapping[str, JobStatus] = {}
            # The init of a node without jobs would start for this question alone.
            if node.has_jobs:
                with suppress(Problem, OSError):
                    jobs = access.jobs(timeout_s=JOBS_S)
            bound: tuple[_Bound, ...] | None = None
            with suppress(Problem, OSError):
                bound = _bound(self.listening(access.pid), access.pid, jobs)
            self._known[node.name] = _Looked(time.monotonic(), bound, jobs)
            return self._known[node.name]


def _bound(data: bytes, holder: int, jobs: Mapping[str, JobStatus]) -> tuple[_Bound, ...]:
    """What `who_listens` has found, with the job that has it, or else the program."""
    found = typed.decode(data, tuple[tuple[int, Listener], ...])
    known = [
        JobProcesses(name, "", () if status.pid is None else (status.pid,))
        for name, status in jobs.items()
    ]
    whose = owners(holder, [inode for inode, _ in found], known)
    return tuple(
        _Bound(listener, whose[inode][0].name if inode in whose else "a program")
        for inode, listener in found
    )


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


def _told(bound: Sequence[_Bound], ports: _Ports, wanted: Iterable[str]) -> tuple[list[str], bool]:
    """Who listens on the ports that were asked, or else on which; and whether all are open."""
    mine = [each for each in bound if each.listener.protocol == ports.protocol]
    closed = set(ports.numbers) - {each.listener.port for each in mine}
    texts = []
    if closed:
        others = _said(mine)
        text = f"nothing listens on {ports.protocol} {ranges(closed)}"
        texts.append(f"{text}; {others}" if others else text)
    addresses = [ip_address(address) for address in wanted]
    is_open = not closed
    opened: list[_Bound] = []
    for port in dict.fromkeys(ports.numbers):
        there = [each for each in mine if each.listener.port == port]
        takes = [each for each in there if any(map(each.listener.takes, addresses))]
        if takes or (there and not addresses):
            opened += takes or there
        elif there:
            is_open = False
            text = f"nothing listens on {ports.protocol} {port} at its addresses"
            texts.append(f"{text}; {_said(there)}")
    if opened:
        texts.append(_said(opened))
    return texts, is_open


def _said(bound: list[_Bound]) -> str:
    """`web listens on 8080 (0.0.0.0, ::), sshd on 22 (0.0.0.0)`."""
    by_owner: dict[tuple[str, int], list[str]] = {}
    for each in sorted(bound, key=lambda each: each.listener.port):
        key = (each.owner, each.listener.port)
        by_owner.setdefault(key, []).append(each.listener.address)
    texts = [
        f"{owner} {'on' if number else 'listens on'} {port} ({', '.join(dict.fromkeys(where))})"
        for number, ((owner, port), where) in enumerate(list(by_owner.items())[:SHOWN])
    ]
    more = len(by_owner) - SHOWN
    return ", ".join(texts) + (f" and {more} more" if more > 0 else "")
