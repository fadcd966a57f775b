"""Changes to a node that goes on running: only what differs is touched."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from hostlab import typed
from hostlab.errors import Failed, Problem
from hostlab.init.node import STATE_FILE
from hostlab.init.protocol import CONTROL, Message, connect, decode, encode
from hostlab.lab import files, outlets, overlays, wiring
from hostlab.lab.container import netlink_in
from hostlab.lab.nodes import NodeHandle
from hostlab.lab.paths import LabDirectory
from hostlab.linux import cgroups, rtnetlink
from hostlab.linux.clone import CLONE_NEWNET, CLONE_NEWNS
from hostlab.linux.libc import setns, unshare
from hostlab.linux.netlink import Netlink, Request
from hostlab.linux.rtnetlink import Link
from hostlab.linux.whole_files import write_whole
from hostlab.plan.operations import Kind, Operation, Plan
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
        for name in _unplugged(was, now):
            if name in index and name in was and was[name].device:
                netlink.request(hub.switch.outlets.from_node(index.pop(name), hub.home))
            elif name in index:
                netlink.request([rtnetlink.link_delete(index.pop(name))])
        for interface in overlays.in_order(new.interfaces):
            before = was.get(interface.name, interface)
            is_new = interface.holder not in index
            if interface.name not in index:
                _plug(hub, netlink, handle, interface, index)
            else:
                _adjust(hub, netlink, before, interface, links[interface.name])
            had = () if is_new else before.addresses
            _readdress(netlink, had, interface.addresses, index[interface.holder])
        netlink.request(_joined(was, new, index))
        _readdress(netlink, old.loopbacks, new.loopbacks, wiring.LOOPBACK)
        routes = [wiring.route_add(route, index) for route in new.routes]
        netlink.try_each(routes, unless=(errno.EEXIST,))
    _settings(hub, handle, old, new)


def rescue(hub: HubSupervisor, node: Node) -> None:
    """Take the links on the machine's devices out of a node that is about to end.

    Whoever comes in its place, or it itself when that fails, is given them again.
    """
    handle = hub.nodes.get(node.name)
    links = outlets.device_links(node)
    if handle is None or not links:
        return
    with netlink_in(handle.network, home=hub.home) as netlink:
        index = {link.name: link.index for link in rtnetlink.links(netlink)}
        for interface in links:
            if interface.name in index:
                netlink.request(hub.switch.outlets.from_node(index[interface.name], hub.home))


def _unplugged(was: Mapping[str, Interface], now: Mapping[str, Interface]) -> Iterator[str]:
    """Links that go, or are made anew: tunnels with what carries them, bridges at last."""
    gone = {name for name, i in was.items() if name not in now or _is_replaced(i, now[name])}
    gone |= {name for name, i in was.items() if i.tunnel is not None and i.tunnel.over in gone}
    yield from sorted(gone, key=lambda name: was[name].tunnel is None)
    kept = {*overlays.bridges(now.values())}
    yield from (bridge for bridge in overlays.bridges(was.values()) if bridge not in kept)


def _is_replaced(old: Interface, new: Interface) -> bool:
    if old.segment != new.segment or old.mac != new.mac:
        return True
    if (old.device, old.mode) != (new.device, new.mode):
        return True
    return not overlays.is_same_link(old, new)


def _plug(
    hub: HubSupervisor,
    netlink: Netlink,
    handle: NodeHandle,
    interface: Interface,
    index: dict[str, int],
) -> None:
    """Make an interface and set it up, with the bridge that it needs."""
    number = index[interface.name] = max(index.values(), default=1) + 1
    if interface.tunnel is None:
        port = hub.switch.port(handle.name, interface, number, handle.network)
        hub.switch.netlink.request([port])
    is_port = interface.holder != interface.name
    own = [] if is_port else wiring.link_local(interface, number)
    netlink.request([*overlays.add(interface, index), *own, rtnetlink.link_set(number, up=True)])
    if interface.holder not in index:
        bridge = index[interface.holder] = number + 1
        ups = [*wiring.link_local(interface, bridge), rtnetlink.link_set(bridge, up=True)]
        netlink.request([*overlays.bridge(interface, (), bridge), *ups])


def _adjust(
    hub: HubSupervisor, netlink: Netlink, old: Interface, new: Interface, link: Link
) -> None:
    """Change a link that goes on: what a tunnel's end knows, and its MTU."""
    if new.tunnel is not None:
        netlink.request(overlays.retell(link.index, old.tunnel, new.tunnel))
    if link.mtu == new.mtu:
        return
    netlink.request([rtnetlink.link_set(link.index, mtu=new.mtu)])
    if new.tunnel is None and not new.device:
        hub.switch.netlink.request([rtnetlink.link_set(link.peer, mtu=new.mtu)])


def _joined(was: Mapping[str, Interface], node: Node, index: Mapping[str, int]) -> list[Request]:
    """Ports put onto their bridges, or taken off; a bridge follows its tunnel's MTU."""
    requests = []
    for interface in node.interfaces:
        if not interface.bridge and not was.get(interface.name, interface).bridge:
            continue
        master = index[interface.bridge] if interface.bridge else 0
        requests.append(rtnetlink.link_set(index[interface.name], master=master))
        if interface.holder != interface.name:
            requests.append(rtnetlink.link_set(master, mtu=interface.mtu))
    return requests


def _readdress(netlink: Netlink, old: Sequence[str], new: Sequence[str], index: int) -> None:
    """Give a link its new addresses.

    Those that stay are added again as well: with the first address of a subnet the kernel drops
    the others of it (`promote_secondaries` is off unless asked for).
    """
    gone = [rtnetlink.address_delete(index, a) for a in old if a not in new]
    netlink.try_each(gone, unless=_GONE)
    stays = new if gone else [a for a in new if a not in old]
    netlink.request([rtnetlink.address_add(index, address) for address in stays])


def _settings(hub: HubSupervisor, handle: NodeHandle, old: Node, new: Node) -> None:
    wanted = dict(wiring.network_sysctls(new))
    changed = [pair for pair in wanted.items() if pair not in old.sysctls]
    gone = [key for key, _ in wiring.network_sysctls(old) if key not in wanted]
    if not changed and not gone:
        return
    changed = [*_fresh(gone), *changed]
    setns(handle.network, 0)
    try:
        for key, value in changed:
            wiring.write_sysctl(key, value)
    finally:
        setns(hub.home, 0)


def _fresh(keys: Sequence[str]) -> list[tuple[str, str]]:
    """What these settings are in a network namespace that nobody has touched.

    An interface's own setting is what the kernel gives every new interface (`default`).
    """
    if not keys:
        return []
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            unshare(CLONE_NEWNET)
            found = {key: wiring.read_sysctl(wiring.of_any_interface(key)) for key in keys}
            os.write(writer, msgspec.json.encode(found))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        data = answer.read()
    os.waitpid(pid, 0)
    if not data:
        raise Failed("sysctl", f"the kernel's own values of {', '.join(keys)} cannot be read")
    values = typed.decode(data, dict[str, str | None])
    return [(key, value) for key, value in values.items() if value is not None]


def segment(hub: HubSupervisor, new: Segment) -> None:
    """A segment's MTU and taps; its ports follow their interfaces."""
    hub.switch.change_mtu(new, {})
    hub.switch.outlets.settle_taps(new)


def refresh_neighbours(hub: HubSupervisor, old: Lab, new: Lab) -> None:
    """Tell nodes that stayed who came, went or moved."""
    before, after = wiring.Directory(old), wiring.Directory(new)
    was = {node.name: node for node in old.nodes}
    for node in new.nodes:
        if node.name not in was or node.name not in hub.nodes:
            continue
        wanted = after.neighbours(node)
        made_anew = _new_links(was[node.name], node)
        known = {
            key: mac
            for key, mac in before.neighbours(was[node.name]).items()
            if key[0] not in made_anew
        }
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


def _new_links(old: Node, new: Node) -> set[str]:
    """Interfaces that a change of the network has made anew: they know nobody yet."""
    was = {interface.name: interface for interface in old.interfaces}
    return {
        interface.name
        for interface in new.interfaces
        if interface.name in was and _is_replaced(was[interface.name], interface)
    }


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
    os.waitpid(pid, 0)
    if message:
        raise Failed("files", f"node {handle.name}: {message}")


def check_answers(unified: str | None, plan: Plan) -> None:
    """Failed when an init is to do something that stands still: it would be waited for, and all
    who want to change the lab with it.
    """
    for operation in plan.operations:
        name = operation.subject
        if operation.kind is not Kind.CHANGE_JOBS or unified is None:
            continue
        if cgroups.is_frozen(f"{unified}/{name}"):
            message = f"node {name} is frozen, so its jobs cannot be changed ({operation.reason})"
            hint = "`hostlab fault list` has the fault that did it; `hostlab fault clear` ends it"
            raise Failed("frozen", message, hint=hint)


async def jobs(directory: LabDirectory, node: Node, change: Operation) -> None:
    """Write the node's new description where its supervisor reads it, and tell it to."""
    place = directory.node(node.name)
    write_whole(f"{place}/{STATE_FILE}", msgspec.json.encode(node))
    message: Message = {"op": "reload", "id": 1, "restart": change.restart, "reload": change.reload}
    reply = await _ask(place, message)
    if "error" in reply:
        error = reply["error"]
        raise Failed("jobs", f"node {node.name}: {error['message']}", hint=error.get("hint"))


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
