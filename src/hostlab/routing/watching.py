"""One router being watched: what its daemons say, and which routes its kernel has."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Final

from hostlab.errors import Failed
from hostlab.lab.access import NodeConnection
from hostlab.linux import rtnetlink
from hostlab.linux.entering import from_inside
from hostlab.linux.neighbours import UNKNOWN, fdb
from hostlab.linux.netlink import Netlink
from hostlab.linux.rtmonitor import (
    RTM_GETNETCONF,
    RTNLGRP_IPV4_NETCONF,
    RTNLGRP_IPV4_ROUTE,
    RTNLGRP_IPV6_ROUTE,
    RTNLGRP_NEIGH,
    ForwardingTold,
    Monitor,
    RouteTold,
    dump,
)
from hostlab.linux.rtnetlink import RTM_GETROUTE
from hostlab.routing import sessions
from hostlab.routing.bird import Bird
from hostlab.routing.expected import Expected
from hostlab.routing.frr import Frr
from hostlab.routing.sessions import Daemons
from hostlab.spec import routing_bird, routing_frr, routing_pimd
from hostlab.spec.model import Node
from hostlab.spec.routing import Engine, Routing
from hostlab.spec.routing_jobs import daemon_jobs

_INSIDE: Final = ("user", "mnt", "net")
_GROUPS: Final = (RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_NETCONF)
_ASKED: Final = ("ospfd", "ospf6d", "bgpd", "bfdd")
"""FRR's daemons that have sessions."""
_READS: Final = 1 << 12
"""Of what netlink has told, at once."""
MAIN_TABLE: Final = 254

Route = tuple[str, int, int]
"""Prefix, metric and protocol."""


class Watched:
    """A router whose daemons run; `filenos` are readable when something may have changed."""

    def __init__(
        self, node: Node, connection: NodeConnection, expected: Expected, *, answer_s: float
    ) -> None:
        assert node.routing is not None
        self.name = node.name
        self.expected = expected
        self._routes: set[Route] = set()
        self.lacks_bfd = False
        """Whether sessions of BFD were missing when it was asked last."""
        self._forwarding: dict[int, bool] = {}
        paths = _sockets(node.routing)
        pid = connection.pid
        with ExitStack() as stack:
            groups = (*_GROUPS, RTNLGRP_NEIGH) if expected.ends else _GROUPS
            netlink_fds = from_inside(pid, _INSIDE, partial(_netlink_sockets, groups))[1]
            told, asked = (socket.socket(fileno=fd) for fd in netlink_fds)
            self._monitor = Monitor(adopted=told)
            stack.callback(self._monitor.close)
            self._netlink = stack.enter_context(Netlink(adopted=asked))
            sockets = connect(pid, paths)
            for sock in sockets.values():
                stack.callback(sock.close)  # Also where a daemon does not answer the first word.
            self._daemons = _daemons(node.routing, sockets, answer_s)
            stack.callback(self._daemons.close)
            self._names = {link.index: link.name for link in rtnetlink.links(self._netlink)}
            self._read_all()
            self._close = stack.pop_all()

    def close(self) -> None:
        """Watch no more."""
        self._close.close()

    def filenos(self) -> tuple[int, ...]:
        """To be polled."""
        return (self._monitor.socket.fileno(), *self._daemons.filenos())

    @property
    def routes(self) -> int:
        """How many prefixes there are routes to."""
        return len({prefix for prefix, _, _ in self._routes})

    def hear(self) -> tuple[bool, bool]:
        """Read what was told: whether the daemons are there, and whether any route has changed."""
        changed = False
        for _ in range(_READS):
            told = self._monitor.read()
            if told is None:
                self._monitor.discard()
                self._read_all()
                changed = True
                continue
            if not told:
                break
            for each in told:
                changed |= self._note(each)
        return self._daemons.hear(), changed

    def has_told(self) -> bool:
        """Whether it must be asked again at once: something was told while it was asked."""
        return self._daemons.has_told()

    def missing(self, *, answer_s: float) -> list[str]:
        """Sessions that are not up and prefixes without a route, a phrase each.

        Failed when a daemon does not answer within `answer_s`.
        """
        now = self._daemons.sessions(answer_s=answer_s)
        self.lacks_bfd = bool(sessions.missing_bfd(self.expected, now))
        found = sessions.missing(self.expected, now)
        known = {prefix for prefix, _, _ in self._routes}
        found += [f"no route to {prefix}" for prefix in sorted(self.expected.prefixes - known)]
        routed = {self._names.get(index) for index, does in self._forwarding.items() if does}
        silent = sorted(self.expected.multicast - routed)
        found += [f"no multicast is routed on {name}" for name in silent]
        if self.expected.ends:
            found += self._missing_ends()
        return found

    def _missing_ends(self) -> list[str]:
        """Who is not told yet what is for everyone on a VXLAN."""
        told = {
            (self._names.get(entry.ifindex), entry.dst)
            for entry in fdb(self._netlink)
            if entry.mac == UNKNOWN
        }
        return [
            f"EVPN has not told {interface} of {node} ({address})"
            for interface, ends in self.expected.ends.items()
            for address, node in ends.items()
            if (interface, address) not in told
        ]

    def _read_all(self) -> None:
        self._routes.clear()
        for what in (RTM_GETROUTE, RTM_GETNETCONF) if self.expected.multicast else (RTM_GETROUTE,):
            for told in dump(self._netlink, what):
                self._note(told)

    def _note(self, told: object) -> bool:
        if isinstance(told, ForwardingTold):
            before = self._forwarding.get(told.ifindex, False)
            self._forwarding[told.ifindex] = told.forwards_multicast
            return before is not told.forwards_multicast
        if not isinstance(told, RouteTold) or told.table != MAIN_TABLE:
            return False
        route = (told.to, told.metric, told.protocol)
        if told.is_gone:
            self._routes.discard(route)
        else:
            self._routes.add(route)
        return True


def failed_daemon(node: Node, connection: NodeConnection, within_s: float) -> str:
    """Wait until the node's jobs have settled; what is wrong with its daemons, or nothing."""
    assert node.routing is not None
    rows = {row["name"]: row for row in connection.wait_settled(within_s=within_s)}
    for name in daemon_jobs(node.routing):
        row = rows.get(name)
        state = None if row is None else row["state"]
        # pimd waits for a route to one that may be elected.
        if state == "running" or (name == routing_pimd.NAME and state == "waiting"):
            continue
        state = state or "not there"
        last = ""
        with suppress(OSError, Failed):
            # One that is started again and again says the same each time.
            last = " / ".join(dict.fromkeys(connection.log_tail(name, 3)))
        return f"{name} is {state}" + (f": {last}" if last else "")
    return ""


def configuration_of(node: Node) -> str:
    """Where a person finds what the node's daemons read."""
    is_bird = node.routing is None or node.routing.engine is Engine.BIRD
    return f"the node's {routing_bird.CONFIG if is_bird else routing_frr.DIRECTORY}"


def _sockets(routing: Routing) -> dict[str, str]:
    """The control sockets by their daemons' names."""
    if routing.engine is Engine.BIRD:
        return {"bird": routing_bird.SOCKET}
    names = routing_frr.daemons(routing)
    return {name: f"{routing_frr.RUN}/{name}.vty" for name in names if name in _ASKED}


def _netlink_sockets(groups: Sequence[int]) -> tuple[bytes, Sequence[int]]:
    return b"", (Monitor(groups).socket.detach(), Netlink().socket.detach())


def connect(pid: int, paths: Mapping[str, str]) -> dict[str, socket.socket]:
    """Connections to sockets in a node; FileNotFoundError, ConnectionRefusedError without one."""

    def work() -> tuple[bytes, Sequence[int]]:
        found = []
        for path in paths.values():
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            sock.connect(path)
            found.append(sock.detach())
        return b"", found

    if not paths:
        return {}
    fds = from_inside(pid, _INSIDE, work)[1]
    return {name: socket.socket(fileno=fd) for name, fd in zip(paths, fds, strict=True)}


def _daemons(routing: Routing, sockets: Mapping[str, socket.socket], answer_s: float) -> Daemons:
    if routing.engine is Engine.BIRD:
        return Bird(routing, sockets["bird"], answer_s=answer_s)
    return Frr(sockets, answer_s=answer_s)
