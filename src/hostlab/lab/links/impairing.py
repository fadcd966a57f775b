"""Impairments of a lab's cables, the hub's side: from what is in place to what is described.

A cable is a veth between a node and the switch namespace. What a node sends is impaired by the root
qdisc of its own end, or by a netdev table of nft on the ingress of its port; what it receives by
the port's root qdisc. For the wire the cable is cut: the port leaves its bridge, an inner pair of
veths takes its place there, and the wire carries frames between the port and that pair's other end.
Checksums and segmentation are then no longer left undone by whoever sends, for the wire wants real
frames.

Only the kernel knows for sure what is in place: the qdisc by its handle, the table by its name, the
pair by its altname. A supervisor that follows one that was killed looks there.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from hostlab.errors import Failed, Problem
from hostlab.lab.container import netlink_in
from hostlab.lab.links.carrier import Carrier
from hostlab.lab.links.messages import Put
from hostlab.lab.links.methods import Kernel, Method, method, probe
from hostlab.lab.segments import port_name, stand_in_name
from hostlab.linux import ethtool, qdisc, rtnetlink
from hostlab.linux.libc import setns
from hostlab.linux.netlink import Netlink, Request
from hostlab.linux.rtnetlink import VethEnd
from hostlab.linux.running import SBIN, run_inside
from hostlab.spec.impairments import DEFAULT_QUEUE, Impairment
from hostlab.spec.model import Interface, Lab, Node

if TYPE_CHECKING:
    from hostlab.lab.stage import HubSupervisor

PAIR: Final = "wire:"
"""The altname of an inner pair's end begins with this; the cable's name follows."""
TABLE: Final = "hostlab-port"
NFT_TIMEOUT_S: Final = 60.0
AT_ONCE: Final = 50
"""Tables of one transaction: some 50 KB of netlink, a quarter of a socket's buffer."""
MILLION: Final = 1_000_000
_NONE_THERE: Final = (errno.ENOENT, errno.EINVAL, errno.ENODEV)
"""What the kernel says of a qdisc that is not ours, or not there."""

_MakeRequest = Callable[[int, Impairment], Request | None]
"""The request for a link's root qdisc; None when there is nothing for it to do."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """The veths that stand between the wire and the bridge."""

    inner: int
    """The wire's end."""
    outer: int
    """The bridge's port."""


@dataclass(frozen=True, slots=True)
class _Placed:
    """What was done about one cable."""

    node: str
    interface: Interface
    method: Method
    index: int
    """Of the interface in the node."""
    port: int
    """Its other end, in the switch namespace."""
    pair: _Pair | None = None
    is_found: bool = False
    """An earlier supervisor did it, nobody knows how far."""

    @property
    def name(self) -> str:
        """As people name it."""
        return f"{self.node}:{self.interface.name}"

    def put(self) -> Put:
        """What the wire has to know of it."""
        assert self.pair is not None
        return Put(
            name=self.name,
            port=self.port,
            inner=self.pair.inner,
            mtu=self.interface.mtu,
            sending=self.interface.sending,
            receiving=self.interface.receiving,
        )


class Impairing:
    """All impaired cables of one lab."""

    def __init__(self, hub: HubSupervisor) -> None:
        self.hub = hub
        self.carrier = Carrier(hub, self._carried)
        self._placed: dict[str, dict[str, _Placed]] = {}
        self._rules: list[list[str]] = []
        self._kernel: Kernel | None = None

    @property
    def kernel(self) -> Kernel:
        """What this kernel has, tried once."""
        if self._kernel is None:
            path = f"{os.environ.get('PATH', os.defpath)}:{SBIN}"
            nft = shutil.which("nft", path=path) is not None
            self._kernel = probe(self.hub.switch.netlink, nft=nft)
        return self._kernel

    def _carried(self) -> Iterator[Put]:
        for placed in self._placed.values():
            yield from (one.put() for one in placed.values() if one.method is Method.WIRE)

    def restore(self, *labs: Lab) -> None:
        """After a supervisor that was killed: what is in place of what these labs describe."""
        self.carrier.restore()
        links = {link.index: link for link in rtnetlink.links(self.hub.switch.netlink)}
        pairs = {
            name.removeprefix(PAIR): _Pair(link.index, link.peer)
            for link in links.values()
            for name in link.altnames
            if name.startswith(PAIR)
        }
        nodes = [node for lab in labs for node in lab.nodes if node.name in self.hub.nodes]
        for node in nodes:
            if not any(interface.is_impaired for interface in node.interfaces):
                continue
            for interface, index, port in self._cables(node):
                if not interface.is_impaired:
                    continue
                pair = pairs.pop(f"{node.name}:{interface.name}", None)
                how = Method.KERNEL if pair is None else Method.WIRE
                found = _Placed(node.name, interface, how, index, port, pair, is_found=True)
                self._placed.setdefault(node.name, {}).setdefault(interface.name, found)
        left = [rtnetlink.link_delete(pair.inner) for pair in pairs.values()]
        self.hub.switch.netlink.try_each(left, unless=(errno.ENODEV,))

    def _cables(self, node: Node) -> list[tuple[Interface, int, int]]:
        """Those of a node's interfaces that are there: index inside, port outside."""
        with self._inside(node.name) as inside:
            links = {link.name: link for link in rtnetlink.links(inside)}
        return [
            (interface, links[interface.name].index, links[interface.name].peer)
            for interface in node.interfaces
            if interface.name in links
        ]

    def _inside(self, node: str) -> Netlink:
        return netlink_in(self.hub.nodes[node].network, home=self.hub.home)

    def change(self, nodes: Iterable[Node]) -> None:
        """Bring these nodes' cables to what their description says, in place where that can be.

        Loss by nft follows with `load`, for many nodes at once. Failed when an interface that is
        to be impaired is not there.
        """
        for node in nodes:
            self._change(node, self._rules)

    def load(self) -> None:
        """Have nft do what was gathered."""
        rules, self._rules = self._rules, []
        try:
            self._load(rules)
        finally:
            self.carrier.settle()

    def _change(self, node: Node, rules: list[list[str]]) -> None:
        wanted = {i.name: i for i in node.interfaces if i.is_impaired}
        placed = self._placed.setdefault(node.name, {})
        if not wanted and not placed:
            del self._placed[node.name]
            return
        found = {interface.name: (index, port) for interface, index, port in self._cables(node)}
        for name, one in list(placed.items()):
            if name not in wanted or self._must_be_anew(one, wanted[name], found.get(name)):
                self._lift(one, rules, is_there=found.get(name) == (one.index, one.port))
                del placed[name]
        for name, interface in wanted.items():
            if name not in found:
                hint = f"`hostlab fault inject node-killed {node.name}`, then `up`, makes it anew"
                raise Failed("no-interface", f"{node.name} has lost its {name}", hint=hint)
            self._place(node.name, interface, *found[name], rules)
        if not placed:
            del self._placed[node.name]

    def _must_be_anew(self, one: _Placed, now: Interface, found: tuple[int, int] | None) -> bool:
        was = one.interface
        return (
            found != (one.index, one.port)
            or (was.mtu, was.segment) != (now.mtu, now.segment)
            or one.method is not method(now, self.kernel)
        )

    def _place(
        self, node: str, interface: Interface, index: int, port: int, rules: list[list[str]]
    ) -> None:
        how = method(interface, self.kernel)
        before = self._placed[node].get(interface.name)
        pair = before.pair if before is not None else None
        placed = _Placed(node, interface, how, index, port, pair)
        # Written down first: what is half done is lifted like what is done.
        self._placed[node][interface.name] = placed
        match how:
            case Method.NETEM:
                self._shape(placed, qdisc.netem_replace)
                self._set_offload(placed, on=not interface.sending)
            case Method.KERNEL:
                self._shape(placed, _tbf_of(interface))
                if before is None or before.interface.sending.loss != interface.sending.loss:
                    rules.append(_table(placed))
                self._set_offload(placed, on=not interface.sending.loss)
            case Method.WIRE:
                self._wire(placed)

    def _shape(self, placed: _Placed, request: _MakeRequest) -> None:
        """Root qdiscs at both ends of a cable, for what each of them sends."""
        with self._inside(placed.node) as inside:
            _set_root(inside, placed.index, placed.interface.sending, request)
        switch = self.hub.switch.netlink
        _set_root(switch, placed.port, placed.interface.receiving, request)

    def _wire(self, placed: _Placed) -> None:
        """Cut the cable, and have the wire carry it."""
        switch, interface = self.hub.switch, placed.interface
        pair = placed.pair
        if pair is None:
            pair = _Pair(switch.take_index(), switch.take_index())
            placed = replace(placed, pair=pair)
            self._placed[placed.node][interface.name] = placed
            name = stand_in_name(placed.port)
            outer = VethEnd(name, pair.outer, up=True)
            inner = VethEnd(f"w{pair.inner}", pair.inner)
            switch.netlink.request(
                [
                    rtnetlink.veth_add(outer, inner, mtu=interface.mtu),
                    rtnetlink.altname_add(pair.inner, PAIR + placed.name),
                    rtnetlink.link_set(pair.inner, up=True),
                ]
            )
            with _any_socket() as sock:
                ethtool.set_offload(sock, name, on=False)
            self._set_offload(placed, on=False)
        # The port leaves before the pair joins: on the bridge at once they would be a loop.
        switch.netlink.request(
            [
                rtnetlink.link_set(placed.port, master=0),
                rtnetlink.link_set(pair.outer, master=switch.bridges[interface.segment]),
            ]
        )
        for index in (pair.inner, pair.outer):
            # The first frame is to find the bridge's port open.
            rtnetlink.link_of(switch.netlink, index)
        self.carrier.put(placed.put())

    def _set_offload(self, placed: _Placed, *, on: bool) -> None:
        setns(self.hub.nodes[placed.node].network, 0)
        try:
            with _any_socket() as sock:
                ethtool.set_offload(sock, placed.interface.name, on=on)
        finally:
            setns(self.hub.home, 0)

    def _lift(self, one: _Placed, rules: list[list[str]], *, is_there: bool) -> None:
        """Undo all that can have been done about a cable; `is_there` is the cable itself."""
        switch = self.hub.switch
        if one.method is Method.KERNEL and (one.is_found or one.interface.sending.loss):
            rules.append(_no_table(one.port))
        if one.pair is not None:
            switch.netlink.try_each([rtnetlink.link_delete(one.pair.inner)], unless=(errno.ENODEV,))
        if is_there:
            with self._inside(one.node) as inside:
                inside.try_each([qdisc.root_delete(one.index)], unless=_NONE_THERE)
            switch.netlink.try_each([qdisc.root_delete(one.port)], unless=_NONE_THERE)
            # A segment that goes has gone already; its interface is plugged in elsewhere next.
            master = switch.bridges.get(one.interface.segment, 0)
            switch.netlink.request([rtnetlink.link_set(one.port, master=master)])
            self._set_offload(one, on=True)
        if one.method is Method.WIRE:
            self.carrier.drop(one.name)

    def gone(self, node: str) -> None:
        """A node has ended, and its ends of its cables with it; the log tells what fails."""
        if node not in self._placed:
            return
        try:
            self._clear(node)
        except (Problem, OSError) as error:
            os.write(2, f"hub: the cables of {node}, which has ended: {error}\n".encode())

    def _clear(self, node: str) -> None:
        rules: list[list[str]] = []
        for one in self._placed.pop(node).values():
            self._lift(one, rules, is_there=False)
        self._load(rules)
        self.carrier.settle()

    def _load(self, rules: list[list[str]]) -> None:
        """Some ports' tables at a time: of a lab's root the kernel takes no long transaction."""
        while rules:
            some, rules = rules[:AT_ONCE], rules[AT_ONCE:]
            self._run_nft([line for table in some for line in table])

    def _run_nft(self, lines: list[str]) -> None:
        text = "".join(f"{line}\n" for line in lines).encode()
        done = run_inside(os.getpid(), (), ("nft", "-f", "-"), stdin=text, timeout_s=NFT_TIMEOUT_S)
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()
            raise Failed("nft", f"nft refuses the loss of a cable: {said}")

    def report(self) -> list[dict[str, Any]]:
        """Every impaired cable: what is described, how it is done, what has passed."""
        return [self._row(one) for placed in self._placed.values() for one in placed.values()]

    def _row(self, one: _Placed) -> dict[str, Any]:
        row: dict[str, Any] = {
            "node": one.node,
            "interface": one.interface.name,
            "port": one.port,
            "out": msgspec.to_builtins(one.interface.sending),
            "in": msgspec.to_builtins(one.interface.receiving),
            "method": one.method.value,
            "limits": one.method.limits,
        }
        if one.method is Method.WIRE:
            counts = self.carrier.counts(one.name)
            row["passed"] = {
                "out": msgspec.to_builtins(counts.sending),
                "in": msgspec.to_builtins(counts.receiving),
            }
        return row


def _any_socket() -> socket.socket:
    """One of this network namespace, to ask about its links."""
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)


def _tbf_of(interface: Interface) -> _MakeRequest:
    def request(index: int, way: Impairment) -> Request | None:
        if way.rate is None:
            return None
        queue = DEFAULT_QUEUE if way.queue is None else way.queue
        return qdisc.tbf_replace(index, rate=way.rate, queue=queue, mtu=interface.mtu)

    return request


def _set_root(netlink: Netlink, index: int, way: Impairment, request: _MakeRequest) -> None:
    wanted = request(index, way) if way else None
    if wanted is not None:
        netlink.request([wanted])
    else:
        netlink.try_each([qdisc.root_delete(index)], unless=_NONE_THERE)


def _no_table(port: int) -> list[str]:
    """Lines that take a port's table away, whether it is there or not."""
    return [f"add table netdev {TABLE}{port}", f"delete table netdev {TABLE}{port}"]


def _table(placed: _Placed) -> list[str]:
    """Lines that make a port's table anew, in one transaction; without a loss there is none."""
    port, loss = placed.port, placed.interface.sending.loss
    if not loss:
        return _no_table(port)
    share = f"numgen random mod {MILLION} < {round(loss * MILLION)}"
    verdict = f'counter drop comment "hostlab: {loss * 100:g}% of what {placed.name} sends"'
    return [
        *_no_table(port),
        f"table netdev {TABLE}{port} {{",
        f'\tchain ingress {{ type filter hook ingress device "{port_name(port)}" priority filter;',
        f"\t\t{verdict if loss == 1 else f'{share} {verdict}'}",
        "\t}",
        "}",
    ]
