"""Changes to a node that goes on running: only what differs is touched."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from hostlab.errors import Failed, Problem
from hostlab.init.node import STATE_FILE
from hostlab.init.protocol import Message, decode, encode
from hostlab.lab import files, wiring
from hostlab.lab.container import netlink_in
from hostlab.lab.nodes import CONTROL, NodeHandle
from hostlab.lab.paths import LabDirectory, connect, write_whole
from hostlab.linux import rtnetlink
from hostlab.linux.clone import CLONE_NEWNS
from hostlab.linux.libc import setns
from hostlab.linux.netlink import Request
from hostlab.spec.model import Interface, Lab, Node, Segment

if TYPE_CHECKING:
    from hostlab.lab.stage import HubSupervisor


_GONE: Final = (errno.ESRCH, errno.ENODEV, errno.ENOENT, errno.EADDRNOTAVAIL)
"""What the kernel says of a route, neighbour or address that it has already dropped itself."""


def network(hub: HubSupervisor, old: Node, new: Node) -> None:
    """Interfaces, routes and settings, in the order in which the kernel accepts them."""
    handle = hub.nodes[new.name]
    with netlink_in(handle.network, home=hub.home) as netlink:
        links = {link.name: link for link in rtnetlink.links(netlink)}
        index = {name: link.index for name, link in links.items()}
        gone = [wiring.route_delete(r, index) for r in old.routes if r not in new.routes]
        netlink.try_each(gone, unless=_GONE)
        was = {interface.name: interface for interface in old.interfaces}
        now = {interface.name: interface for interface in new.interfaces}
        for name, interface in was.items():
            if name not in now or _is_replaced(interface, now[name]):
                netlink.request([rtnetlink.link_delete(index.pop(name))])
        for name, interface in now.items():
            if name not in index:
                index[name] = _plug(hub, handle, interface, index)
                added = [rtnetlink.address_add(index[name], a) for a in interface.addresses]
                netlink.request([*added, rtnetlink.link_set(index[name], up=True)])
                continue
            netlink.request(_readdress(was[name], interface, index[name]))
            if was[name].mtu != interface.mtu:
                port = rtnetlink.link_set(links[name].peer, mtu=interface.mtu)
                hub.switch.netlink.request([port])
        routes = [wiring.route_add(route, index) for route in new.routes]
        netlink.try_each(routes, unless=(errno.EEXIST,))
    _settings(hub, handle, old, new)


def _is_replaced(old: Interface, new: Interface) -> bool:
    return old.segment != new.segment or old.mac != new.mac


def _plug(
    hub: HubSupervisor, handle: NodeHandle, interface: Interface, index: dict[str, int]
) -> int:
    number = max(index.values(), default=1) + 1
    hub.switch.netlink.request([hub.switch.port(interface, number, handle.network)])
    return number


def _readdress(old: Interface, new: Interface, index: int) -> list[Request]:
    requests = []
    if old.mtu != new.mtu:
        requests.append(rtnetlink.link_set(index, mtu=new.mtu))
    requests += [
        rtnetlink.address_delete(index, a) for a in old.addresses if a not in new.addresses
    ]
    requests += [rtnetlink.address_add(index, a) for a in new.addresses if a not in old.addresses]
    return requests


def _settings(hub: HubSupervisor, handle: NodeHandle, old: Node, new: Node) -> None:
    changed = [pair for pair in wiring.network_sysctls(new) if pair not in old.sysctls]
    if not changed:
        return
    setns(handle.network, 0)
    try:
        for key, value in changed:
            wiring.write_sysctl(key, value)
    finally:
        setns(hub.home, 0)


def segment(hub: HubSupervisor, new: Segment) -> None:
    """A segment's MTU; its ports follow their interfaces."""
    hub.switch.change_mtu(new, {})


def refresh_neighbours(hub: HubSupervisor, old: Lab, new: Lab) -> None:
    """Tell nodes that stayed who came, went or moved."""
    before, after = wiring.Directory(old), wiring.Directory(new)
    was = {node.name: node for node in old.nodes}
    for node in new.nodes:
        if node.name not in was or node.name not in hub.nodes:
            continue
        known, wanted = before.neighbours(was[node.name]), after.neighbours(node)
        if known == wanted:
            continue
        handle = hub.nodes[node.name]
        with netlink_in(handle.network, home=hub.home) as netlink:
            index = {link.name: link.index for link in rtnetlink.links(netlink)}
            gone = [key for key in known if key not in wanted and key[0] in index]
            netlink.try_each(
                (rtnetlink.neighbour_delete(index[name], address) for name, address in gone),
                unless=_GONE,
            )
            netlink.request(
                [
                    rtnetlink.neighbour_add(index[name], address, mac)
                    for (name, address), mac in wanted.items()
                    if known.get((name, address)) != mac
                ]
            )


def node_files(handle: NodeHandle, old: Node, new: Node) -> None:
    """Write changed files and remove those that are no longer described."""
    wanted = {file.path: file for file in new.files}
    present = {file.path: file for file in old.files}

    def work() -> None:
        files.remove_files(path for path in present if path not in wanted)
        files.write_files(f for f in new.files if present.get(f.path) != f)

    in_mounts(handle, work)


def in_mounts(handle: NodeHandle, work: Callable[[], None]) -> None:
    """Do `work` in a child that has entered a node's mount namespace; Failed says what failed."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            setns(handle.pidfd, CLONE_NEWNS)
            work()
        except BaseException as error:
            message = error.message if isinstance(error, Problem) else str(error)
            os.write(writer, message.encode()[:4096])
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        message = answer.read().decode(errors="replace")
    if message:
        raise Failed("files", f"node {handle.name}: {message}")


async def jobs(directory: LabDirectory, node: Node, restart: tuple[str, ...]) -> None:
    """Write the node's new description where its supervisor reads it, and tell it to."""
    place = directory.node(node.name)
    write_whole(f"{place}/{STATE_FILE}", msgspec.json.encode(node))
    reply = await _ask(place, {"op": "reload", "id": 1, "restart": restart})
    if "error" in reply:
        raise Failed("jobs", f"node {node.name}: {reply['error']['message']}")


async def _ask(place: str, message: Message) -> Message:
    """One command to a node's init, without a thread: the hub forks, and threads do not survive."""
    reader, writer = await asyncio.open_unix_connection(sock=connect(place, CONTROL))
    try:
        writer.write(encode(message))
        while line := await reader.readline():
            reply = decode(line)
            if not reply.get("more"):
                return reply
        return {"error": {"message": "its init hung up"}}
    finally:
        writer.close()
