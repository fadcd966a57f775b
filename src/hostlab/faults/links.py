"""Cables that are pulled: at the switch, so that the node's own link is up and has no carrier.

The kernel forgets a link's neighbours with its carrier, also those that the lab had told it; they
are told again. Addresses and routes stay, the routes marked `linkdown`.
"""

from __future__ import annotations

import select
import time
from contextlib import ExitStack
from typing import Final, Self

from hostlab.faults.site import Site, State, visiting
from hostlab.lab.segments import port_name
from hostlab.lab.wiring import Directory
from hostlab.linux import rtnetlink
from hostlab.linux.netlink import Netlink
from hostlab.linux.rtmonitor import RTNLGRP_LINK, Monitor
from hostlab.linux.rtnetlink import IFF_UP
from hostlab.spec import faults
from hostlab.spec.model import Fault

IFF_RUNNING: Final = 0x40
"""The kernel has taken note of the carrier: routes and daemons know."""
NOTED_S: Final = 60.0
"""It takes a millisecond; this is for a machine that is swapping."""


def look(site: Site, fault: Fault, number: int) -> State:
    """The ports of the links, and whose links they are."""
    ports = site.ports(faults.links(fault, site.lab))
    return {
        "ends": [
            {"node": node, "interface": name, "port": port, "life": site.life(node)}
            for (node, name), port in ports.items()
        ]
    }


def apply(site: Site, fault: Fault, state: State) -> None:
    """Set the ports down, and wait until every node's kernel has noted it."""
    _set(site, state, up=False)


def undo(site: Site, fault: Fault, state: State) -> None:
    """Set them up, and tell the nodes again who their neighbours are."""
    _set(site, state, up=True)


def _set(site: Site, state: State, *, up: bool) -> None:
    ends = [end for end in state["ends"] if site.is_alive(end["node"], end["life"])]
    learned = _learned(site, {end["node"] for end in ends}) if up else {}

    def work() -> None:
        with Netlink() as switch:
            mine = [end for end in ends if rtnetlink.link_named(switch, port_name(end["port"]))]
            with ExitStack() as stack:
                links = [
                    stack.enter_context(_Link(site.nodes[end["node"]], end["interface"]))
                    for end in mine
                ]
                ports = [
                    stack.enter_context(_Link(site.hub, port_name(end["port"]))) for end in mine
                ]
                switch.request([rtnetlink.link_set(end["port"], up=up) for end in mine])
                for link in (*links, *ports):
                    link.wait(carrier=up)
                for link, end in zip(links, mine, strict=True):
                    link.learn(learned.get((end["node"], end["interface"]), []))

    site.in_switch(work)


_Neighbours = dict[tuple[str, str], list[tuple[bytes, bytes]]]


def _learned(site: Site, nodes: set[str]) -> _Neighbours:
    """Whom the lab has told these nodes of: (node, interface) -> addresses with their MACs."""
    directory = Directory(site.lab)
    found: _Neighbours = {}
    for node in nodes:
        for (name, address), mac in directory.neighbours(site.lab.node(node)).items():
            found.setdefault((node, name), []).append((address, mac))
    return found


class _Link:
    """One end of a cable, from before it is pulled."""

    def __init__(self, pid: int, interface: str) -> None:
        self.interface = interface
        with visiting(pid):
            self.monitor = Monitor([RTNLGRP_LINK])
            self.netlink = Netlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.monitor.close()
        self.netlink.close()

    def wait(self, *, carrier: bool) -> None:
        """Until the kernel has taken note; at once where the node itself has set it down."""
        deadline = time.monotonic() + NOTED_S
        poll = select.poll()
        poll.register(self.monitor.socket, select.POLLIN)
        while not self._has_noted(carrier=carrier):
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                raise TimeoutError(f"the kernel has not noted the carrier of {self.interface}")
            self.monitor.discard()

    def _has_noted(self, *, carrier: bool) -> bool:
        link = rtnetlink.link_named(self.netlink, self.interface)
        if link is None:
            return True
        return not link.flags & IFF_UP or bool(link.flags & IFF_RUNNING) == carrier

    def learn(self, neighbours: list[tuple[bytes, bytes]]) -> None:
        """Tell it of these."""
        link = rtnetlink.link_named(self.netlink, self.interface) if neighbours else None
        if link is not None:
            self.netlink.request(
                [rtnetlink.neighbour_add(link.index, *each) for each in neighbours]
            )
