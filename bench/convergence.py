"""When all kernels of a network have all routes, whoever has built it: told by netlink."""

from __future__ import annotations

import os
import select
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from ipaddress import ip_interface
from typing import Final

from bench.drawings import Drawing
from hostlab.linux.netlink import RECEIVE_BYTES, Netlink, Request, attributes, messages
from hostlab.linux.netns import Home
from hostlab.linux.rtmonitor import RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE, Monitor
from hostlab.linux.rtnetlink import RT_TABLE_MAIN, RTA_DST, RTM_GETROUTE, RTM_NEWROUTE

RTMSG: Final = struct.Struct("=BBBBBBBBI")
DEADLINE_S: Final = 600.0

Prefix = tuple[bytes, int]
"""A packed address and its prefix' length."""


def wanted(drawing: Drawing) -> dict[str, frozenset[Prefix]]:
    """By node: the loopbacks of all others."""
    own = {host.name: frozenset(map(_prefix, host.loopbacks)) for host in drawing.hosts}
    every = frozenset().union(*own.values())
    return {name: every - mine for name, mine in own.items()}


def _prefix(text: str) -> Prefix:
    address = ip_interface(text)
    return address.packed, address.network.prefixlen


def wait_routes(networks: Mapping[str, str], routes: Mapping[str, frozenset[Prefix]]) -> None:
    """Until every node's kernel has a route to each of its prefixes; RuntimeError after a while.

    `networks` has a file of each node's network namespace.
    """
    deadline = time.monotonic() + DEADLINE_S
    with ExitStack() as stack:
        poll = select.poll()
        tables: dict[int, _Table] = {}
        for name, path in networks.items():
            table = _Table(path, routes[name], stack)
            poll.register(table.monitor.socket, select.POLLIN)
            tables[table.monitor.socket.fileno()] = table
        lacking = {fd for fd, table in tables.items() if table.look()}
        while lacking:
            left = deadline - time.monotonic()
            if left <= 0 or not (ready := poll.poll(left * 1e3)):
                raise RuntimeError(f"{len(lacking)} of {len(tables)} nodes lack routes")
            for fd, _ in ready:
                if not tables[fd].hear():
                    lacking.discard(fd)
            if not lacking:
                # What has been there may have gone again.
                lacking = {fd for fd, table in tables.items() if table.look()}


class _Table:
    """A node's routing table, as far as it is not yet whole."""

    def __init__(self, path: str, routes: frozenset[Prefix], stack: ExitStack) -> None:
        with in_network(path):
            self.monitor = Monitor((RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE))
            stack.callback(self.monitor.close)
            self.netlink = stack.enter_context(Netlink())
        self.routes = routes
        self.left = set(routes)

    def look(self) -> bool:
        """Read the table; whether something is lacking."""
        self.left = set(self.routes)
        request = Request(RTM_GETROUTE, 0, bytes(RTMSG.size), "list the routes")
        for _, body in self.netlink.dump(request):
            self._note(body)
        return bool(self.left)

    def hear(self) -> bool:
        """Read what was told; whether something is lacking that has not been there yet."""
        while True:
            try:
                data = self.monitor.socket.recv(RECEIVE_BYTES)
            except BlockingIOError:
                return bool(self.left)
            except OSError:
                # Some of it was dropped.
                self.look()
                continue
            for kind, _, _, body in messages(data):
                if kind == RTM_NEWROUTE:
                    self._note(body)

    def _note(self, body: bytes) -> None:
        _, length, _, _, table, *_ = RTMSG.unpack_from(body)
        if table == RT_TABLE_MAIN:
            to = dict(attributes(body[RTMSG.size :])).get(RTA_DST, b"")
            self.left.discard((bytes(to), length))


@contextmanager
def in_network(path: str) -> Iterator[None]:
    """Be in the network namespace of a file for the length of the block."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    home = Home()
    try:
        with home.visit(fd):
            yield
    finally:
        home.close()
        os.close(fd)
