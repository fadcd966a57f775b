"""Waiting until a lab's routing has settled: every session up, every route in the kernels.

Nothing is asked again but when something was told: a daemon's log comes over its control socket,
routes that come and go over netlink, a daemon that ends hangs up. At the end nothing is told for a
while; a network has no other word for having converged.
"""

from __future__ import annotations

import resource
import select
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from hostlab.errors import Failed
from hostlab.lab.access import NodeConnection
from hostlab.routing.expected import Expected, expected
from hostlab.routing.sessions import ANSWER_S, Gone
from hostlab.routing.watching import Watched, configuration_of, failed_daemon
from hostlab.spec.model import Lab, Node

TIMEOUT_S: Final = 120.0
BFD_AGAIN_S: Final = 0.2
"""No socket tells that a session of BFD has come up: BIRD has a thread for BFD, whose log is not
echoed, and bfdd does not log it. As long as one is missing its daemon is asked again."""
QUIET_S: Final = 1.0
"""BIRD computes routes once a second at most."""
SHORTEST_S: Final = 0.1
"""What a node's jobs get to settle even when it is late."""
LEAST_ANSWER_S: Final = 5.0
"""What a daemon gets to answer even when it is late."""
DESCRIPTORS: Final = 12
"""For each router: FRR's daemons have two each, netlink has two; the rest is to spare."""
MOST_NAMED: Final = 20
"""Of what is missing, in a message."""
NOT_CONVERGED: Final = "not-converged"


@dataclass(frozen=True, slots=True)
class Converged:
    """A lab whose routing has settled."""

    routers: int
    sessions: int
    """Ends of sessions: one between two routers counts twice."""
    routes: int
    """Of all routers' kernels, connected ones too."""
    took_s: float


def wait_converged(
    lab: Lab,
    nodes: Mapping[str, NodeConnection],
    *,
    timeout_s: float = TIMEOUT_S,
    quiet_s: float = QUIET_S,
    now: Callable[[], float] = time.monotonic,
) -> Converged:
    """Wait until every described session is up, every prefix that OSPF tells is in the kernels of
    those who hear of it, so are the ends of VXLANs that EVPN tells and the interfaces of PIM, and
    no route of any router has changed for `quiet_s` seconds.

    Failed with what is missing after `timeout_s`, or at once when a daemon has failed for good.
    """
    started = now()
    with ExitStack() as stack:
        watch = _Watch(lab, nodes, started + timeout_s, now, stack)
        watch.until_quiet(quiet_s)
        found = watch.watched.values()
        return Converged(
            routers=len(found),
            sessions=sum(each.expected.sessions for each in found),
            routes=sum(each.routes for each in found),
            took_s=now() - started,
        )


def _make_room(routers: int) -> None:
    """Raise this process' limit of descriptors, if it is too low and may be raised."""
    wanted = DESCRIPTORS * (routers + 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class _Watch:
    def __init__(
        self,
        lab: Lab,
        nodes: Mapping[str, NodeConnection],
        deadline: float,
        now: Callable[[], float],
        stack: ExitStack,
    ) -> None:
        self.lab = lab.name
        self.deadline = deadline
        self.now = now
        self.nodes = nodes
        self.routers: dict[str, tuple[Node, Expected]] = {
            name: (lab.node(name), each) for name, each in expected(lab).items()
        }
        _make_room(len(self.routers))
        self.poll = select.poll()
        self.owners: dict[int, str] = {}
        self.watched: dict[str, Watched] = {}
        self.missing: dict[str, list[str]] = {}
        self.last_change = now()
        stack.callback(self._forget_all)

    def until_quiet(self, quiet_s: float) -> None:
        dirty = set(self.routers)
        while True:
            for name in sorted(dirty):
                self._look(name)
            told = {name for name in dirty if self._told(name)}
            moment = self.now()
            is_complete = not any(self.missing.values())
            if is_complete and not told and moment >= self.last_change + quiet_s:
                return
            if moment >= self.deadline:
                raise self._late(is_complete=is_complete, quiet_s=quiet_s)
            until = self.deadline
            if is_complete:
                until = min(until, self.last_change + quiet_s)
            untold = {name for name, each in self.watched.items() if each.lacks_bfd}
            if untold:
                until = min(until, moment + BFD_AGAIN_S)
            # Rounded up: what ends a little early would be asked again and again.
            ready = self.poll.poll(0 if told else max(0.0, until - moment) * 1000 + 1)
            heard = {self.owners[fd] for fd, _ in ready}
            for name in heard:
                self._hear(name)
            dirty = heard | told | untold

    def _told(self, name: str) -> bool:
        return name in self.watched and self.watched[name].has_told()

    def _hear(self, name: str) -> None:
        are_there, changed = self.watched[name].hear()
        if changed:
            self.last_change = self.now()
        if not are_there:
            self.last_change = self.now()
            self._forget(name)

    def _look(self, name: str) -> None:
        """Ask a router what it lacks, after its daemons have come up.

        One that ends while it is asked is waited for again; whether it has failed its job tells.
        """
        while True:
            try:
                if name not in self.watched:
                    self._begin(name)
                now_missing = self.watched[name].missing(answer_s=self._answer_s())
                if now_missing != self.missing.get(name):
                    # With a session that comes up the routes are yet to come.
                    self.last_change = self.now()
                self.missing[name] = now_missing
                return
            except (Gone, ConnectionError, FileNotFoundError):
                self._forget(name)
                if self.now() >= self.deadline:
                    raise
            except Failed as failed:
                if failed.code == NOT_CONVERGED:
                    raise
                hint = failed.hint or "is it stopped, or its node frozen? `hostlab fault list`"
                raise Failed(failed.code, f"node {name}: {failed.message}", hint=hint) from failed

    def _begin(self, name: str) -> None:
        node, wanted = self.routers[name]
        if name not in self.nodes:
            raise Failed(NOT_CONVERGED, f"node {name} is not there", hint="`hostlab up` mends it")
        left_s = max(SHORTEST_S, self.deadline - self.now())
        trouble = failed_daemon(node, self.nodes[name], left_s)
        if trouble:
            hint = f"`hostlab job log` shows what it says, {configuration_of(node)} what it reads"
            message = f"node {name}: {trouble}"
            raise Failed(NOT_CONVERGED, message, hint=hint, lab=self.lab)
        self.watched[name] = watched = Watched(
            node, self.nodes[name], wanted, answer_s=self._answer_s()
        )
        for fd in watched.filenos():
            self.owners[fd] = name
            self.poll.register(fd, select.POLLIN)

    def _answer_s(self) -> float:
        return min(ANSWER_S, max(LEAST_ANSWER_S, self.deadline - self.now()))

    def _forget_all(self) -> None:
        for name in list(self.watched):
            self._forget(name)

    def _forget(self, name: str) -> None:
        watched = self.watched.pop(name, None)
        if watched is None:
            return
        for fd in watched.filenos():
            self.poll.unregister(fd)
            del self.owners[fd]
        watched.close()

    def _late(self, *, is_complete: bool, quiet_s: float) -> Failed:
        lacks = [f"{name}: {what}" for name, each in self.missing.items() for what in each]
        if is_complete:
            text = f"routes still change: none had been quiet for {quiet_s:g} s"
        else:
            shown = lacks[:MOST_NAMED]
            more = f"\n  and {len(lacks) - MOST_NAMED} more" if len(lacks) > MOST_NAMED else ""
            text = "missing:\n  " + "\n  ".join(shown) + more
        return Failed(
            NOT_CONVERGED,
            f"the routing has not converged in time; {text}",
            hint="the lab is up; `hostlab job log` shows what the daemons say",
            lab=self.lab,
        )
