"""What a lab has on the machine's own network: published ports, and interfaces on segments.

Both can only be made from outside the lab. Sockets are bound before anything is staged, so a port
that is taken stops an `up` that has not begun. An interface of the machine is journalled before it
is made, and carries its lab's mark as an alternative name.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from hostlab import typed
from hostlab.errors import Failed, Unsupported
from hostlab.init.client import Control
from hostlab.lab.paths import LabDirectory
from hostlab.lab.publish import Published, PublishedSocket, machine_addresses, open_sockets
from hostlab.lab.remains import PREFIX, marked_links
from hostlab.linux import rtnetlink
from hostlab.linux.clone import namespace_fd
from hostlab.linux.netlink import Netlink
from hostlab.linux.rtnetlink import VethEnd
from hostlab.plan.journal import Entry, What
from hostlab.spec.model import Lab, Node, Publish, Segment

MAX_SOCKETS_A_MESSAGE: Final = 200
MAX_ATTEMPTS: Final = 16
"""To find a name that no other lab takes meanwhile."""


@contextlib.contextmanager
def ports(lab: Lab, control: Control) -> Iterator[list[PublishedSocket]]:
    """Bind the ports that the lab is to publish and does not yet; closed again at the end."""
    active = {p.id for p in _active(control)}
    wanted = [
        (node.name, publish)
        for node in lab.nodes
        for publish in node.publish
        if publish.port == 0 or _published(node, publish).id not in active
    ]
    opened = open_sockets(wanted)
    try:
        yield opened
    finally:
        for one in opened:
            one.close()


def publish(lab: Lab, control: Control, opened: list[PublishedSocket]) -> None:
    """Hand the sockets in, and end what is no longer described or leads elsewhere now."""
    wanted = {_published(node, p).id: node.name for node in lab.nodes for p in node.publish}
    chosen = {one.published.id for one in opened}
    stale = [p.id for p in _active(control) if wanted.get(p.id) != p.node and p.id not in chosen]
    machine = machine_addresses() if opened else ()
    for start in range(0, max(1, len(opened)), MAX_SOCKETS_A_MESSAGE):
        batch = opened[start : start + MAX_SOCKETS_A_MESSAGE]
        control.call(
            "publish",
            [one.sock.fileno() for one in batch],
            add=[msgspec.to_builtins(one.published) for one in batch],
            remove=stale,
            machine=machine,
        )
        stale = []


def _active(control: Control) -> list[Published]:
    rows: list[dict[str, Any]] = control.call("published")["published"]
    return [typed.convert(row, Published) for row in rows]


def _published(node: Node, publish: Publish) -> Published:
    return typed.convert({"node": node.name, **msgspec.to_builtins(publish)}, Published)


def machine_interfaces(directory: LabDirectory, lab: Lab, control: Control) -> None:
    """Make, change or remove the machine's interfaces on the lab's segments."""
    marked = marked_links(directory.mark)
    present = {name.rpartition(":")[2]: index for index, name in marked.items()}
    wanted = {segment.name: segment for segment in lab.segments if segment.machine}
    with Netlink() as netlink:
        for name, index in present.items():
            if name not in wanted:
                netlink.request([rtnetlink.link_delete_named(marked[index])])
        for name, segment in wanted.items():
            if name in present:
                _readdress(netlink, present[name], segment)
            else:
                _plug(netlink, directory, segment, control)


def _readdress(netlink: Netlink, index: int, segment: Segment) -> None:
    now = {a for i, a in rtnetlink.addresses(netlink) if i == index and not a.startswith("fe80:")}
    gone = [rtnetlink.address_delete(index, a) for a in now if a not in segment.machine]
    come = [rtnetlink.address_add(index, a) for a in segment.machine if a not in now]
    netlink.request([*gone, *come, rtnetlink.link_set(index, mtu=segment.mtu)])


def _plug(netlink: Netlink, directory: LabDirectory, segment: Segment, control: Control) -> None:
    if os.geteuid() != 0:
        raise Unsupported(
            "machine-interface",
            f"segment {segment.name}: only root can give the machine an interface",
            hint="publish ports instead: that needs no right at all",
        )
    switch = namespace_fd(control.call("status")["pid"], "net")
    try:
        index, inner = _cable(netlink, directory, segment, switch)
    finally:
        os.close(switch)
    netlink.request(
        [
            *(rtnetlink.address_add(index, address) for address in segment.machine),
            rtnetlink.link_set(index, up=True),
        ]
    )
    control.call("attach", segment=segment.name, link=inner)


def _cable(
    netlink: Netlink, directory: LabDirectory, segment: Segment, switch: int
) -> tuple[int, str]:
    """A marked veth into the switch namespace: the machine's index of it, and its name in there.

    Another lab may take the same free name or index at the same time: then the next one is tried.
    The pair is made by a request of its own, as requests after one that failed are carried out too.
    """
    mark = f"{PREFIX}{directory.mark}:{segment.name}"
    for _ in range(MAX_ATTEMPTS):
        links = {link.name: link for link in rtnetlink.links(netlink)}
        number = next(n for n in range(len(links) + 1) if f"hl{n}" not in links)
        index = max(link.index for link in links.values()) + 1
        directory.record(Entry(What.LINK, f"hl{number}", mark))
        end = VethEnd(f"hl{number}", index)
        peer = VethEnd(f"m{number}", 0, namespace_fd=switch)
        try:
            netlink.request([rtnetlink.veth_add(end, peer, mtu=segment.mtu)])
        except FileExistsError:
            continue
        netlink.request([rtnetlink.altname_add(index, mark)])
        return index, f"m{number}"
    raise Failed(
        "machine-interface",
        f"segment {segment.name}: other labs took every free interface name first",
        hint="repeat the command",
    )
