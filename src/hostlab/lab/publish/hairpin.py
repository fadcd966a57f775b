"""Inside the nodes: a published port answers there too, on loopback and the machine's addresses.

A node has no way to the machine's network, and its loopback is its own. So for each published
port sockets are made in each node, bound to exactly those addresses and relayed like the machine's
own; a route of type `local` makes the node answer for a machine's address. Each socket takes its
port from the node's own services that bind every address, so there is none on a reserved port:
the ports on which the node itself says that it serves (docs/decisions/published-ports.md).
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
from collections import deque
from collections.abc import Callable, Mapping

from hostlab.lab.publish.loop import Loop
from hostlab.lab.publish.messages import Protocol
from hostlab.lab.publish.places import Place, Places
from hostlab.lab.publish.port import Port
from hostlab.linux.netlink import Netlink, Request
from hostlab.linux.rtnetlink import RTM_DELROUTE, local_route_add

MAX_LISTENERS = 8192
"""Sockets inside nodes, all together; nodes times ports times addresses, so it grows fast."""

BATCH = 64
"""Sockets made in one turn of the loop, so that connections do not wait for them."""

BACKLOG = 128

IP_FREEBIND = 15
IPV6_FREEBIND = 78
"""Bind to an address that is not there yet; include/uapi/linux/in.h and in6.h."""

LOOPBACK = ("127.0.0.1", "::1")

Key = tuple[str, str]
"""A published port's id and an address inside the node."""


class Hairpins:
    """The listening sockets inside the nodes: those wanted, made a few at a time."""

    def __init__(
        self,
        loop: Loop,
        places: Places,
        ports: Mapping[str, Port],
        listen: Callable[[Port, socket.socket], None],
        unlisten: Callable[[Port, socket.socket], None],
        max_listeners: int = MAX_LISTENERS,
    ) -> None:
        self._loop = loop
        self._places = places
        self._ports = ports
        self._listen = listen
        self._unlisten = unlisten
        self._max = max_listeners
        self._inside: dict[str, dict[Key, Port]] = {}
        self._made = 0
        self._machine: tuple[str, ...] = ()
        self._stale: dict[str, None] = {}
        self._work: deque[tuple[str, Key]] = deque()
        self._notes: dict[tuple[str, Key], str] = {}
        self._left_out: dict[str, int] = {}
        self._foreign: tuple[str, ...] = ()
        self._planned = False
        self._recheck = False

    @property
    def settled(self) -> bool:
        """Nothing is left to be made."""
        return not (self._work or self._stale)

    def machine(self, addresses: tuple[str, ...]) -> None:
        """The machine's addresses from now on; ValueError when one is none."""
        self._machine = tuple(str(ipaddress.ip_address(text)) for text in addresses)
        self.review_all()

    def review_all(self) -> None:
        """Ports or addresses have changed: look at every node again, later."""
        for place in self._places:
            self.review(place)

    def review(self, place: Place) -> None:
        """A node is new or other than before: look at it again, later."""
        self._stale.update(dict.fromkeys(one.name for one in self._places.sharing(place)))
        self._recheck = True
        self._plan()

    def gone(self, place: Place) -> None:
        """A node is no more: close what listens in it."""
        for key in tuple(self._inside.get(place.name, ())):
            self._close(place.name, key)
        self._inside.pop(place.name, None)
        self._forget_notes(place.name)
        self._left_out.pop(place.name, None)
        self.review(place)  # another one in the same namespace may take over

    def removed(self, port: Port) -> None:
        """A port is no longer published: close it everywhere."""
        for name, address in tuple(port.inside):
            self._close(name, (port.publish.id, address))
        self._notes = {
            key: text for key, text in self._notes.items() if key[1][0] != port.publish.id
        }
        self.review_all()  # the bound may leave room for others now

    def warnings(self) -> tuple[str, ...]:
        """What does not answer inside which node, and why."""
        notes = tuple(self._notes.values())
        left_out = sum(self._left_out.values())
        if not left_out:
            return notes
        bound = (
            f"{left_out} published addresses do not answer inside nodes: more than"
            f" {self._max} sockets there are not made"
        )
        return (bound, *notes)

    def _close(self, name: str, key: Key) -> None:
        port = self._inside[name].pop(key)
        self._unlisten(port, port.inside.pop((name, key[1])))
        self._made -= 1

    def _wanted(self, place: Place) -> list[Key]:
        """What should listen in a node, by the rule at the top; one node for each namespace."""
        sharing = self._places.sharing(place)
        if place is not sharing[0]:
            return []
        names = {one.name for one in sharing}
        reserved = frozenset[int]().union(*(one.reserved for one in sharing))
        own = {
            (port.publish.protocol, port.publish.inner)
            for port in self._ports.values()
            if port.publish.node in names
        }
        wanted: list[Key] = []
        for port in self._ports.values():
            publish = port.publish
            if publish.port in reserved or (publish.protocol, publish.port) in own:
                continue
            addresses = (*LOOPBACK, *self._foreign)
            if publish.address is not None:
                addresses = tuple(one for one in addresses if one == publish.address)
            wanted += ((publish.id, address) for address in addresses)
        return wanted

    def _find_foreign(self) -> tuple[str, ...]:
        """The machine's addresses that no network of the lab contains: there, the lab's counts."""
        if not self._ports:
            return ()
        networks = {network for one in self._places for network in one.networks}
        return tuple(
            text
            for text in self._machine
            if not any(ipaddress.ip_address(text) in network for network in networks)
        )

    def _forget_notes(self, name: str) -> None:
        self._notes = {key: text for key, text in self._notes.items() if key[0] != name}

    def _plan(self) -> None:
        if not self._planned:
            self._planned = True
            self._loop.soon(self._work_on)

    def _work_on(self) -> None:
        """One turn's share: make some sockets, then compare stale nodes with what is wanted.

        In this order, because what the comparison gives up is closed by the next turn only, and
        may have the port of what it asks for.
        """
        self._planned = False
        self._make_some()
        if self._recheck:
            self._recheck = False
            foreign = self._find_foreign()
            if foreign != self._foreign:
                self._foreign = foreign
                self._stale.update(dict.fromkeys(place.name for place in self._places))
        budget = BATCH
        while self._stale and budget > 0 and len(self._work) < BATCH:
            name = next(iter(self._stale))
            del self._stale[name]
            place = self._places.get(name)
            if place is not None:
                budget -= 1 + self._compare(place)
        if not self.settled:
            self._plan()

    def _compare(self, place: Place) -> int:
        """Close what is not wanted in a node and queue what is missing; how much was looked at."""
        wanted = dict.fromkeys(self._wanted(place))
        self._forget_notes(place.name)
        self._left_out.pop(place.name, None)
        inside = self._inside.setdefault(place.name, {})
        for key in tuple(inside):
            if key not in wanted:
                self._close(place.name, key)
        self._route(place)
        for key in wanted:
            if key not in inside:
                self._work.append((place.name, key))
        return len(wanted)

    def _route(self, place: Place) -> None:
        """Make a node answer for the machine's addresses, and for no others of our making."""
        wanted = set(self._foreign)
        if wanted == place.routes:
            return
        try:
            with self._places.visit(place), Netlink() as netlink:
                for address in place.routes - wanted:
                    body = local_route_add(address).body
                    with contextlib.suppress(OSError):  # the node may have taken it away
                        netlink.request([Request(RTM_DELROUTE, 0, body, f"delete local {address}")])
                place.routes &= wanted
                netlink.request([local_route_add(one) for one in wanted - place.routes])
                place.routes |= wanted
        except OSError as error:
            note = f"{place.name}: not a way to the machine's addresses: {error}"
            self._notes[place.name, ("", "")] = note

    def _make_some(self) -> None:
        for _ in range(min(BATCH, len(self._work))):
            name, key = self._work.popleft()
            place, port = self._places.get(name), self._ports.get(key[0])
            if place is None or port is None or (name, key[1]) in port.inside:
                continue
            if self._made >= self._max:
                self._left_out[name] = self._left_out.get(name, 0) + 1
                continue
            try:
                listener = self._bind(place, port, key[1])
            except OSError as error:
                self._note(name, key, error)
                continue
            port.inside[name, key[1]] = listener
            self._inside[name][key] = port
            self._made += 1
            self._listen(port, listener)

    def _note(self, name: str, key: Key, error: OSError) -> None:
        match error.errno:
            case errno.EADDRINUSE:
                reason = "a service of the node has that port and answers itself"
            case errno.EAFNOSUPPORT | errno.EADDRNOTAVAIL:
                return  # the node has no IPv6: then nothing in it asks for ::1 either
            case _:
                reason = str(error)
        self._notes[name, key] = f"{name}: {key[0]} does not answer on {key[1]}: {reason}"

    def _bind(self, place: Place, port: Port, address: str) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        is_tcp = port.publish.protocol is Protocol.TCP
        kind = socket.SOCK_STREAM if is_tcp else socket.SOCK_DGRAM
        sock = self._places.socket(place, family, kind)
        try:
            if family == socket.AF_INET:
                sock.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
            if is_tcp:  # for UDP it would let two services share a port in silence
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address, port.publish.port))
            if is_tcp:
                sock.listen(BACKLOG)
        except OSError:
            sock.close()
            raise
        return sock
