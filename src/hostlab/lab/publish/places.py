"""The nodes as places to connect to: their namespace, addresses, and sockets of theirs."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import select
import socket
from collections.abc import Callable, Iterator

from hostlab.lab.publish.loop import Loop
from hostlab.lab.publish.messages import Target
from hostlab.linux.netns import Home

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Place:
    """One node: the descriptor that leads into its network namespace, and what it owns there."""

    def __init__(self, target: Target, fd: int, netns: int = 0) -> None:
        self.name = target.name
        self.netns = netns
        """Inode of the network namespace, which nodes may share."""
        self._fd = fd
        self.reserved: frozenset[int] = frozenset()
        self.routes: set[str] = set()
        """The machine's addresses for which the node answers itself, by our doing."""
        self.change(target)

    def change(self, target: Target) -> None:
        """Take over addresses and reserved ports."""
        interfaces = [ipaddress.ip_interface(text) for text in target.addresses]
        self.networks: tuple[Network, ...] = tuple(one.network for one in interfaces)
        self.reserved = frozenset(target.reserved)
        order: dict[str, int] = {}
        for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
            first = next((one for one in interfaces if one.version == version), None)
            if first is not None:
                order[str(first.ip)] = family
        order["127.0.0.1"] = socket.AF_INET
        order["::1"] = socket.AF_INET6
        self._order = tuple(order.items())

    def fileno(self) -> int:
        """The network namespace, or the pidfd of a process in it."""
        return self._fd

    def close(self) -> None:
        """Let go of the namespace."""
        os.close(self._fd)

    def candidates(self, family: int) -> tuple[tuple[str, int], ...]:
        """Where to try, best first: own addresses, then loopback; the client's family first.

        Together they reach a service bound to any address, to the node's own, or to loopback.
        """
        own = sorted(self._order[:-2], key=lambda one: one[1] != family)
        return (*own, *self._order[-2:])


class Places:
    """All nodes by name. A node known by pidfd is dropped when its process ends."""

    def __init__(self, loop: Loop, on_gone: Callable[[Place], None]) -> None:
        self._loop = loop
        self._home = Home()
        self._on_gone = on_gone
        self._places: dict[str, Place] = {}
        self._by_netns: dict[int, dict[str, Place]] = {}

    def __iter__(self) -> Iterator[Place]:
        return iter(self._places.values())

    def __len__(self) -> int:
        return len(self._places)

    def get(self, name: str) -> Place | None:
        """The node of this name, None when it is not known or gone."""
        return self._places.get(name)

    def sharing(self, place: Place) -> tuple[Place, ...]:
        """Every node in the same network namespace, this one included, oldest first."""
        return tuple(self._by_netns.get(place.netns, {}).values())

    def put(self, target: Target, fd: int) -> Place | None:
        """A new node, or the same one restarted; owns `fd` from here on.

        None when it has ended already. ValueError for an address that is none, OSError when its
        namespace cannot be entered.
        """
        self.drop(target.name)
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, fd)
            try:
                with self._home.visit(fd):
                    netns = os.stat("/proc/thread-self/ns/net").st_ino
            except ProcessLookupError:
                return None
            place = Place(target, fd, netns)
            stack.pop_all()
        self._places[place.name] = place
        self._by_netns.setdefault(netns, {})[place.name] = place
        # epoll refuses a namespace's file with EPERM; only a pidfd can tell of an end.
        with contextlib.suppress(PermissionError):
            self._loop.watch(place, select.EPOLLIN, lambda _events: self.drop(place.name))
        return place

    def drop(self, name: str) -> None:
        """Forget a node and let go of its namespace; nothing happens when it is not known."""
        place = self._places.pop(name, None)
        if place is not None:
            peers = self._by_netns[place.netns]
            del peers[name]
            if not peers:
                del self._by_netns[place.netns]
            self._on_gone(place)
            self._loop.discard(place)

    def visit(self, place: Place) -> contextlib.AbstractContextManager[None]:
        """Be in a node's network namespace for a block; OSError when it cannot be entered."""
        return self._home.visit(place.fileno())

    def socket(self, place: Place, family: int, kind: int) -> socket.socket:
        """A non-blocking socket of the node's namespace."""
        with self.visit(place):
            return socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)

    def close(self) -> None:
        """Drop every node."""
        for name in tuple(self._places):
            self.drop(name)
        self._home.close()
