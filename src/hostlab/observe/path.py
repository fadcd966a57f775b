"""The way from one node to another, hop by hop as the kernels decide.

No packet is sent. Each kernel on the way is asked what it would do with one
(`linux.route_lookup`), with the interface on which it arrives, so that rules, `rp_filter` and
forwarding have their say; who has the next hop's address is asked of the kernels on that segment. A
firewall is not asked.

Next hops of equal cost are branches, so a way is a tree. What a kernel does depends on node and
arriving interface only, for one source and destination: a place that comes a second time on one
branch is a loop, and on another branch it is not drawn again, which bounds the work by the number
of interfaces.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from enum import StrEnum
from ipaddress import ip_address, ip_interface
from typing import Final, NamedTuple

import msgspec

from hostlab.errors import UsageError
from hostlab.linux.route_lookup import RTN_LOCAL, RTN_UNICAST, forwards, look_up, source_for
from hostlab.observe.routing import MACHINE, Network, Owners, TableRoute, table_route
from hostlab.spec.model import Lab

IFF_UP: Final = 0x1
IFF_RUNNING: Final = 0x40
"""The link has a carrier (netdevice(7))."""
LOOPBACK: Final = "lo"
TTL: Final = 64
"""Of a packet at its source: `ip_default_ttl` of Linux (ip-sysctl), and IPv6's hop limit."""


class Outcome(StrEnum):
    """What becomes of a packet at a node."""

    FORWARDED = "forwarded"
    ARRIVED = "arrived"
    LEFT = "left the lab"
    """To the machine, by its interface on a segment."""
    SEEN = "as above"
    """The same as where this node and interface stood before, on another branch."""
    NO_ROUTE = "no route"
    BLACKHOLE = "blackhole"
    UNREACHABLE = "unreachable route"
    PROHIBIT = "prohibited route"
    REVERSE_PATH = "refused by rp_filter"
    OWN_SOURCE = "refused: the source is its own"
    NOT_FORWARDING = "does not forward"
    LINK_DOWN = "link down"
    NOBODY = "nobody has the next hop"
    NODE_DOWN = "node down"
    LOOP = "loop"
    TOO_FAR = "too far"
    """Its time to live is used up."""
    NOT_UNICAST = "no host's address"


_GOOD: Final = frozenset((Outcome.ARRIVED, Outcome.LEFT))


class Way(msgspec.Struct, frozen=True):
    """One next hop, and what follows."""

    interface: str
    via: str | None
    """The gateway; None where the destination is on the link."""
    hop: Hop


class Hop(msgspec.Struct, frozen=True):
    """A node on the way, and what it does."""

    node: str
    arrives_on: str | None
    """The interface; None at the start."""
    outcome: Outcome
    detail: str = ""
    """What a person must know beside the outcome."""
    to: str | None = None
    """The prefix of the route that is taken."""
    protocol: str | None = None
    """Who put it there."""
    metric: int | None = None
    ways: tuple[Way, ...] = ()
    """Empty unless the packet is forwarded."""


class Path(msgspec.Struct, frozen=True):
    """The way of one family."""

    family: int
    source: str | None
    """None where the first node has no address to send from."""
    destination: str
    start: Hop
    problems: tuple[str, ...]
    """What goes wrong, with the node; empty: every branch gets there."""

    @property
    def reaches(self) -> bool:
        """Whether every branch gets there."""
        return not self.problems


class End(msgspec.Struct, frozen=True):
    """One end of a path, as someone named it."""

    node: str | None
    """None of an address that no node has."""
    addresses: Mapping[int, str]
    """By family, the one that is meant."""


class Holder(NamedTuple):
    """Who has an address on a segment."""

    node: str
    interface: str | None
    """None of the machine, and where it has lost the address."""
    problem: str = ""
    """Why it does not hear packets to it; empty: it does."""


class Networks:
    """The networks of a lab's nodes, each opened when it is first looked at."""

    def __init__(self, lab: Lab, pids: Mapping[str, int]) -> None:
        self.lab = lab
        self.pids = pids
        self.owners = Owners(lab)
        self._open: dict[str, Network] = {}
        self._stack = ExitStack()
        self._members: dict[str, list[tuple[str, str]]] = {}
        for node in lab.nodes:
            for interface in node.interfaces:
                network = self.owners.network(node.name, interface.holder)
                members = self._members.setdefault(network or "", [])
                members.append((node.name, interface.holder))

    def __enter__(self) -> Networks:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def get(self, node: str) -> Network | None:
        """A node's network; None when the node is not there."""
        if node not in self._open:
            if node not in self.pids:
                return None
            try:
                network = Network(self.pids[node])
            except ProcessLookupError:
                return None
            self._open[node] = self._stack.enter_context(network)
        return self._open[node]

    def holder(self, node: str, interface: str, address: str) -> Holder | None:
        """Who has an address on the network of an interface of `node`.

        As the kernels have it, else as it is described, and then something is wrong.
        """
        members = self._members.get(self.owners.network(node, interface) or "", ())
        for other, name in members:
            network = self.get(other) if (other, name) != (node, interface) else None
            if network is not None and address in addresses_of(network, name):
                is_up = _is_running(network, name)
                return Holder(other, name, "" if is_up else f"{other}'s {name} is down")
        owner = self.owners.at(node, interface, address)
        if owner is None or owner == MACHINE:
            return None if owner is None else Holder(owner, None)
        return Holder(owner, None, f"{owner} is to have it and has not")

    def holder_of(self, address: str) -> str | None:
        """The first node whose kernel has an address, whatever the interface."""
        for node in self.lab.nodes:
            network = self.get(node.name)
            if network is not None and any(
                str(ip_interface(each).ip) == address for _, each in network.addresses
            ):
                return node.name
        return None


def _is_running(network: Network, interface: str) -> bool:
    """Whether an interface is up and its link has a carrier."""
    wanted = IFF_UP | IFF_RUNNING
    flags = (link.flags for link in network.links.values() if link.name == interface)
    return next(flags, 0) & wanted == wanted


def addresses_of(network: Network, interface: str) -> list[str]:
    """The addresses of one interface, without their prefixes."""
    return [
        str(ip_interface(address).ip)
        for index, address in network.addresses
        if network.interface(index) == interface
    ]


def end_of(networks: Networks, text: str) -> End:
    """An end by a node's name, `NODE:INTERFACE`, or an address.

    A node's own address is the first of its loopback that is not the loopback's, as routers have
    one, else its first. UsageError when there is no such thing.
    """
    try:
        address = ip_address(text)
    except ValueError:
        pass
    else:
        if address.is_link_local:
            raise UsageError("address", f"{text} may be on any link: name the node or interface")
        return End(networks.holder_of(str(address)), {address.version: str(address)})
    name, colon, interface = text.partition(":")
    names = [node.name for node in networks.lab.nodes]
    if name not in names:
        hint = "nodes: " + ", ".join(names[:20])
        raise UsageError("no-node", f"the lab has no node {name!r}", hint=hint)
    network = networks.get(name)
    if network is None:
        described = networks.lab.node(name).interfaces
        found = [a for i in described for a in i.addresses if not colon or i.name == interface]
        return End(name, _first_of_each_family([str(ip_interface(a).ip) for a in found]))
    if colon:
        if interface not in {link.name for link in network.links.values()}:
            has = ", ".join(link.name for link in network.links.values())
            message = f"{name} has no interface {interface!r}"
            raise UsageError("no-interface", message, hint=f"it has {has}")
        described = networks.lab.node(name).interfaces
        holder = next((i.holder for i in described if i.name == interface), interface)
        return End(name, _first_of_each_family(addresses_of(network, holder)))
    others = [
        address
        for link in sorted(network.links.values(), key=lambda link: link.index)
        if link.name != LOOPBACK
        for address in addresses_of(network, link.name)
    ]
    return End(name, _first_of_each_family([*addresses_of(network, LOOPBACK), *others]))


def _first_of_each_family(addresses: list[str]) -> dict[int, str]:
    found: dict[int, str] = {}
    for text in addresses:
        address = ip_address(text)
        if not address.is_loopback and not address.is_link_local:
            found.setdefault(address.version, text)
    return dict(sorted(found.items()))


def paths(
    lab: Lab, pids: Mapping[str, int], start: str, end: str, *, family: int | None = None
) -> tuple[Path, ...]:
    """The way between two ends (`end_of`), in each family that both have, or in one.

    `pids` has a process of each node that is there. UsageError when an end is not in the lab, or
    has no address of such a family.
    """
    with Networks(lab, pids) as networks:
        first, last = end_of(networks, start), end_of(networks, end)
        if first.node is None:
            raise UsageError("no-node", f"no node has the address {start}")
        # A start that has no address of a family has no way there, which is an answer as well.
        is_said = start not in {node.name for node in lab.nodes}
        both = [each for each in last.addresses if each in first.addresses or last.node is None]
        found = [each for each in both if family in (None, each)]
        if not found:
            which = f"IPv{family}" if family else "a common family"
            raise UsageError("family", f"{start} and {end} have no addresses of {which}")
        return tuple(path(networks, first, last, family=each, chosen=is_said) for each in found)


def path(networks: Networks, start: End, end: End, *, family: int, chosen: bool = False) -> Path:
    """The way from one end to another in a family that both have.

    `chosen`: the start's address was said, so packets come from it, and not from the one that
    the kernel would choose.
    """
    assert start.node is not None, "a path begins at a node"
    destination = end.addresses[family]
    network = networks.get(start.node)
    if network is None:
        gone = Hop(start.node, None, Outcome.NODE_DOWN)
        return Path(family, None, destination, gone, tuple(_problems(gone)))
    source = start.addresses.get(family) if chosen else source_for(network.netlink, destination)
    walk = _Walk(networks, source, destination)
    hop = walk.visit(start.node, None)
    return Path(family, source, destination, hop, tuple(dict.fromkeys(_problems(hop))))


def _problems(hop: Hop) -> Iterator[str]:
    if hop.outcome not in (*_GOOD, Outcome.FORWARDED, Outcome.SEEN):
        yield f"{hop.node}: {hop.outcome}" + (f" ({hop.detail})" if hop.detail else "")
    for way in hop.ways:
        yield from _problems(way.hop)


class _Walk:
    """One packet's ways, from one source to one destination."""

    def __init__(self, networks: Networks, source: str | None, destination: str) -> None:
        self.networks = networks
        self.source = source
        self.destination = destination
        self.version = ip_address(destination).version
        self._on_branch: set[tuple[str, str | None]] = set()
        self._seen: set[tuple[str, str | None]] = set()

    def visit(self, node: str, arrives_on: str | None) -> Hop:
        """What becomes of the packet from here on."""
        key = (node, arrives_on)
        if key in self._on_branch:
            return Hop(node, arrives_on, Outcome.LOOP, "the packet comes back to where it was")
        if key in self._seen:
            return Hop(node, arrives_on, Outcome.SEEN)
        self._seen.add(key)
        network = self.networks.get(node)
        if network is None:
            return Hop(node, arrives_on, Outcome.NODE_DOWN)
        self._on_branch.add(key)
        try:
            return self._decide(node, arrives_on, network)
        finally:
            self._on_branch.remove(key)

    def _decide(self, node: str, arrives_on: str | None, network: Network) -> Hop:
        index = next((i for i, link in network.links.items() if link.name == arrives_on), 0)
        answer = look_up(network.netlink, self.destination, source=self.source, arriving_on=index)
        if answer.route is not None and answer.route.type == RTN_LOCAL:
            return Hop(node, arrives_on, Outcome.ARRIVED)
        if len(self._on_branch) > TTL:
            return Hop(node, arrives_on, Outcome.TOO_FAR, f"its TTL of {TTL} is used up")
        if index and not forwards(network.netlink, self.version, index):
            said = f"IPv{self.version} forwarding is off"
            return Hop(node, arrives_on, Outcome.NOT_FORWARDING, said)
        if answer.refusal is not None:
            outcome = Outcome[answer.refusal.name]
            return Hop(node, arrives_on, outcome, f"to {self.destination}")
        assert answer.route is not None, "an answer is a route or a refusal"
        if answer.route.type != RTN_UNICAST:
            return Hop(node, arrives_on, Outcome.NOT_UNICAST)
        route = table_route(node, answer.route, network, self.networks.owners)
        return self._forwarded(node, arrives_on, network, route)

    def _forwarded(
        self, node: str, arrives_on: str | None, network: Network, route: TableRoute
    ) -> Hop:
        ways = []
        for hop in route.hops:
            assert hop.interface is not None, "a unicast route has an interface"
            following = self._next(node, network, hop.interface, hop.via or self.destination)
            ways.append(Way(hop.interface, hop.via, following))
        return Hop(
            node=node,
            arrives_on=arrives_on,
            outcome=Outcome.FORWARDED,
            to=route.to,
            protocol=route.protocol,
            metric=route.metric,
            ways=tuple(ways),
        )

    def _next(self, node: str, network: Network, interface: str, address: str) -> Hop:
        if not _is_running(network, interface):
            return Hop(node, None, Outcome.LINK_DOWN, f"{interface} is down or has no carrier")
        found = self.networks.holder(node, interface, address)
        where = f"{address} on {self.networks.owners.segment(node, interface) or interface}"
        if found is None:
            return Hop(node, None, Outcome.NOBODY, where)
        if found.node == MACHINE:
            return Hop(found.node, None, Outcome.LEFT)
        if self.networks.get(found.node) is None:
            return Hop(found.node, None, Outcome.NODE_DOWN)
        if found.problem:
            return Hop(node, None, Outcome.NOBODY, f"{where}: {found.problem}")
        return self.visit(found.node, found.interface)


def draw(hop: Hop) -> Iterator[str]:
    """The way as lines of text: a line a node, branches below where they part."""
    yield described(hop)
    if len(hop.ways) == 1:
        yield from draw(hop.ways[0].hop)
        return
    for number, way in enumerate(hop.ways):
        is_last = number == len(hop.ways) - 1
        yield f"{'└─' if is_last else '├─'} {_leaving(way)}"
        for line in draw(way.hop):
            yield f"{'  ' if is_last else '│ '} {line}"


def described(hop: Hop) -> str:
    """A node in one line: where the packet comes in, what is done with it, and by which route."""
    at = hop.node if hop.arrives_on is None else f"{hop.node} ({hop.arrives_on})"
    if hop.outcome is not Outcome.FORWARDED:
        return f"{at}: {hop.outcome}" + (f", {hop.detail}" if hop.detail else "")
    by = f"{hop.to} {hop.protocol}" + (f" metric {hop.metric}" if hop.metric else "")
    if len(hop.ways) == 1:
        return f"{at} -> {_leaving(hop.ways[0])}  [{by}]"
    return f"{at}: {len(hop.ways)} ways  [{by}]"


def _leaving(way: Way) -> str:
    return way.interface + (f" via {way.via}" if way.via else "")
