"""A node's routing from what was said: names become interfaces and addresses, or an error."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from hostlab.errors import Place
from hostlab.spec.addresses import Net, Wire
from hostlab.spec.drafts import Draft
from hostlab.spec.files import Read, read_input
from hostlab.spec.overlays import bgp_of, speaks_evpn
from hostlab.spec.routes import hops
from hostlab.spec.routing import (
    BFD_INTERVAL_S,
    BFD_MULTIPLIER,
    HELLO_S,
    HOLD_S,
    Bfd,
    BfdSession,
    Bgp,
    Engine,
    Filter,
    Network,
    Origin,
    Ospf,
    OspfInterface,
    Peer,
    RawUse,
    Routing,
    Static,
)
from hostlab.spec.routing_pim import read_pim
from hostlab.spec.shapes import Fields, Said
from hostlab.spec.source import Mark, Source, quoted
from hostlab.spec.units import Address

FAMILIES: Final = {"ipv4": 4, "ipv6": 6}
_ENDS: Final = "leave out one of the two"


class _Way(NamedTuple):
    """From one end of a session to the other."""

    local: Address
    address: Address
    interface: str | None


class RoutingReader:
    """Reads the routing of every node of a lab."""

    def __init__(
        self,
        source: Source,
        every: Mapping[str, Draft],
        nets: Mapping[str, Net],
        read: Read | None,
    ) -> None:
        self.source = source
        self.every = every
        self.read_file = read
        self.pairs = {net.name for net in nets.values() if len(net.wires) == 2}
        self.roles: dict[str, list[Draft]] = {}
        for draft in every.values():
            for role in draft.roles:
                self.roles.setdefault(role, []).append(draft)
        self.ids = self._router_ids()
        self._owners: dict[Address, set[str]] = {}
        for draft in every.values():
            for each in addresses(draft):
                self._owners.setdefault(each.address, set()).add(draft.name)

    def node_of(self, other: Draft | Address) -> Draft | None:
        """A node by itself or by its address; None for an address of nobody, or of several."""
        if isinstance(other, Draft):
            return other
        found = self._owners.get(other, set())
        return self.every[next(iter(found))] if len(found) == 1 else None

    def routing(self, draft: Draft) -> Routing | None:
        """What the node's daemon does; None when the description says nothing of it."""
        said = draft.fields.get("routing")
        if said is None or said.value.flawed:
            return None
        if draft.shares_net is not None:
            message = f"{quoted(draft.name)} shares a network namespace: its owner routes"
            self.source.report("clash", message, said.key, _ENDS)
            return None
        fields: Fields = said.value
        engine = Engine(fields.value("engine", Engine.BIRD))
        if "daemons" in fields and engine is not Engine.FRR:
            message = "`daemons` are FRR's, and the engine is BIRD"
            self.source.report("value", message, fields["daemons"].key, "add `engine: frr`")
        ospf, bgp = self._ospf(draft, fields), _Bgp(self, draft, fields, engine).read()
        raw, replaces, place = self._raw(fields)
        return Routing(
            engine=engine,
            router_id=str(self.ids[draft.name]),
            ospf=ospf,
            bgp=bgp,
            statics=tuple(self._statics(draft, fields)),
            pim=read_pim(self, draft, fields, engine),
            bfd=self._bfd(draft, fields, ospf, bgp),
            daemons=tuple(dict.fromkeys(each.value for each in fields.value("daemons", []))),
            raw=raw,
            raw_use=RawUse.REPLACE if replaces else RawUse.EXTEND,
            raw_place=place,
            place=self.place(said.key),
        )

    def place(self, at: Mark) -> Place:
        """For the daemon's complaints."""
        return self.source.place(at)

    def _router_ids(self) -> dict[str, ipaddress.IPv4Address]:
        """Each router's, in the order of the file; one that two would have is an error."""
        found: dict[str, ipaddress.IPv4Address] = {}
        owners: dict[Address, tuple[str, Mark]] = {}
        number = 0
        for draft in self.every.values():
            number += 1
            routing = draft.fields.get("routing")
            if routing is None:
                continue
            said = routing.value.get("router_id")
            at = routing.key if said is None else said.at
            if said is not None:
                chosen = said.value
                if chosen.version != 4 or not int(chosen):
                    message = f"{chosen} cannot be a router id: it is written as an IPv4 address"
                    self.source.report("value", message, at, "as `10.255.0.1`")
                    continue
            else:
                own = [a.address for a in draft.loopbacks]
                own += [a.address for wire in draft.wires for a in wire.addresses]
                # Without any IPv4 address it is only a number, which no other node has.
                chosen = next((a for a in own if a.version == 4), ipaddress.IPv4Address(number))
            if chosen in owners:
                other, where = owners[chosen]
                message = (
                    f"{draft.name} and {other} ({self.source.place(where)}) both have the "
                    f"router id {chosen}"
                )
                self.source.report("clash", message, at, "give one of them another `router_id`")
            owners.setdefault(chosen, (draft.name, at))
            found[draft.name] = chosen
        return {name: found.get(name, ipaddress.IPv4Address(1)) for name in self.every}

    def wire(self, draft: Draft, said: Said) -> Wire | None:
        """The interface of this name; None when that is reported."""
        for wire in draft.wires:
            if wire.name == said.value:
                return wire
        hint = self.source.suggest_or_list(said.value, [wire.name for wire in draft.wires])
        message = f"{quoted(draft.name)} has no interface {quoted(said.value)}"
        self.source.report("unknown-name", message, said.at, hint)
        return None

    def _ospf(self, draft: Draft, routing: Fields) -> Ospf | None:
        said = routing.get("ospf")
        if said is None or said.value is None or said.value.flawed:
            return None
        fields: Fields = said.value
        hello = fields.value("hello", HELLO_S)
        dead = fields.value("dead", 4 * hello)
        if dead <= hello:
            message = f"a neighbour would be gone after {dead} s, and says hello every {hello} s"
            at = fields["dead" if "dead" in fields else "hello"].at
            self.source.report("value", message, at, "`dead` is usually four times `hello`")
        return Ospf(
            versions=tuple(sorted({each.value for each in fields.value("versions", [])})) or (2, 3),
            area=fields.value("area", "0.0.0.0"),
            interfaces=tuple(self._ospf_interfaces(draft, fields)),
            hello_s=hello,
            dead_s=min(dead, 65535),
            has_bfd=fields.flag("bfd"),
            redistribute=self.origins(fields, Origin.OSPF),
            originates_default=fields.flag("default"),
            place=self.place(said.key),
        )

    def _ospf_interfaces(self, draft: Draft, fields: Fields) -> Iterator[OspfInterface]:
        passive = {w.name for s in fields.value("passive", []) if (w := self.wire(draft, s))}
        chosen = draft.wires
        if "interfaces" in fields:
            named = [self.wire(draft, each) for each in fields["interfaces"].value]
            names = passive | {wire.name for wire in named if wire is not None}
            chosen = [wire for wire in draft.wires if wire.name in names]
        costs: Fields = fields.value("costs", Fields())
        for name, said in costs.items():
            self.wire(draft, Said(name, said.key, said.key))
        for wire in chosen:
            place = costs[wire.name].key if wire.name in costs else None
            yield OspfInterface(
                name=wire.name,
                cost=costs.value(wire.name, 10),
                is_passive=wire.name in passive,
                is_point_to_point=wire.segment in self.pairs,
                place=None if place is None else self.place(place),
            )

    def origins(self, fields: Fields, own: Origin) -> tuple[Origin, ...]:
        """Whose routes are handed on, each once."""
        found = []
        for said in fields.value("redistribute", []):
            if said.value == own:
                message = f"{own.value} tells of its own routes anyway"
                self.source.report("value", message, said.at, "leave it out")
            else:
                found.append(Origin(said.value))
        return tuple(dict.fromkeys(found))

    def _statics(self, draft: Draft, routing: Fields) -> Iterator[Static]:
        for said in routing.value("static", []):
            fields: Fields = said.value
            if fields.flawed:
                continue
            to, via, place = fields["to"], fields.get("via"), self.place(said.at)
            if via is None:
                yield Static(to=str(to.value), place=place)
                continue
            for address, wire in hops(self.source, self.every, draft, via):
                if address.version == to.value.version:
                    yield Static(
                        to=str(to.value), via=str(address), interface=wire.name, place=place
                    )
                elif not isinstance(via.value, str):
                    message = f"{address} cannot lead to the IPv{to.value.version} {to.value}"
                    self.source.report("value", message, via.at)

    def _bfd(self, draft: Draft, routing: Fields, ospf: Ospf | None, bgp: Bgp | None) -> Bfd | None:
        said = routing.get("bfd")
        asked = (ospf is not None and ospf.has_bfd) or (
            bgp is not None and any(peer.has_bfd for peer in bgp.peers)
        )
        fields = Fields() if said is None or said.value is None else said.value
        if not asked and (said is None or said.value is None):
            return None
        sessions: list[BfdSession] = []
        for name, neighbour in fields.value("neighbours", Fields()).items():
            for other in self.ends(draft, name, neighbour):
                far = neighbour.value.flag("hops")
                ways = self.ways(draft, other, families(neighbour.value), far=far, hops=far)
                if not ways:
                    self.no_way(draft, other, neighbour)
                sessions += [
                    BfdSession(
                        address=str(way.address),
                        local=str(way.local),
                        # As BGP with `hops` has it, on a segment in common, too.
                        interface=None if far else way.interface,
                        place=self.place(neighbour.key),
                    )
                    for way in ways
                ]
        interval = fields.value("interval", BFD_INTERVAL_S)
        if not 0.01 <= interval <= 60:
            message = "BFD's interval is 10 ms to 60 s"
            self.source.report("value", message, fields["interval"].at)
        return Bfd(
            interval_s=interval,
            multiplier=fields.value("multiplier", BFD_MULTIPLIER),
            sessions=tuple(sessions),
        )

    def ends(self, draft: Draft, name: str, said: Said) -> list[Draft | Address]:
        """Who is meant by a peer's name; empty when that is reported."""
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            pass
        else:
            if any(address == a.address for a in addresses(draft)):
                message = f"{address} is {quoted(draft.name)}'s own address"
                self.source.report("value", message, said.key)
                return []
            return [address]
        if name in self.every:
            if self.every[name] is draft:
                message = f"{quoted(draft.name)} would be its own peer"
                self.source.report("value", message, said.key)
                return []
            return [self.every[name]]
        if name in self.roles:
            return [other for other in self.roles[name] if other is not draft]
        hint = self.source.suggest_or_list(name, [*self.every, *self.roles])
        message = f"there is no node and no role {quoted(name)}"
        self.source.report("unknown-name", message, said.key, hint)
        return []

    def ways(
        self,
        draft: Draft,
        other: Draft | Address,
        wanted: Iterable[int],
        *,
        far: bool,
        hops: bool = False,
        local: Address | None = None,
    ) -> list[_Way]:
        """The two ends of a session in each family that both have."""
        found = []
        for family in wanted:
            if local is not None and local.version != family:
                continue
            if isinstance(other, Draft):
                way = _between_nodes(draft, other, family, far=far, hops=hops)
            else:
                way = _to_address(draft, other, family)
            if way is not None and local is not None:
                way = _Way(local, way.address, way.interface)
            if way is not None:
                found.append(way)
        return found

    def no_way(self, draft: Draft, other: Draft | Address, said: Said) -> None:
        """Report that two nodes have no addresses by which they could speak."""
        if isinstance(other, Draft):
            message = f"{quoted(draft.name)} and {quoted(other.name)} are on no segment together"
            hint = "give the peer `hops` when it is of another AS, else both a `loopback`"
        else:
            message = f"{quoted(draft.name)} has no address to reach {other} from"
            hint = None
        self.source.report("value", message, said.key, hint)

    def _raw(self, routing: Fields) -> tuple[str, bool, Place | None]:
        """The user's own lines, whether they are all there is, and where they begin."""
        said = routing.get("raw")
        if said is None:
            return "", False, None
        fields: Fields = said.value
        replaces = fields.flag("replaces")
        if "file" in fields:
            content = read_input(self.source, self.read_file, fields["file"])
            if content is None:
                return "", replaces, None
            try:
                return content.decode(), replaces, Place(fields["file"].value, 1, 1)
            except UnicodeDecodeError:
                message = f"{quoted(fields['file'].value)} is not UTF-8"
                self.source.report("file", message, fields["file"].at)
                return "", replaces, None
        if "text" not in fields:
            message = "`raw` needs `text` or `file`"
            self.source.report("missing", message, said.key)
            return "", replaces, None
        return fields["text"].value, replaces, self.source.block_place(fields["text"].at)


def addresses(draft: Draft) -> Iterator[Any]:
    """All of a node's, its loopbacks' first."""
    yield from draft.loopbacks
    for wire in draft.wires:
        yield from wire.addresses


def families(fields: Fields) -> list[int]:
    """Those that were said, else both."""
    said = fields.value("families", [])
    return sorted({FAMILIES[each.value] for each in said}) or [4, 6]


def _between_nodes(
    draft: Draft, other: Draft, family: int, *, far: bool, hops: bool
) -> _Way | None:
    """Between loopbacks (`far`, when both have one), else on the first segment in common.

    With `hops` the two need not be on one: then it is between the first address of each.
    """
    if far:
        own, theirs = (
            next((a.address for a in node.loopbacks if a.address.version == family), None)
            for node in (draft, other)
        )
        if own is not None and theirs is not None:
            return _Way(own, theirs, None)
    for wire in draft.wires:
        for their in other.on.get(wire.segment, []):
            for own_address in wire.addresses:
                for address in their.addresses:
                    if address.address.version == family and (
                        address.address in own_address.network
                    ):
                        return _Way(own_address.address, address.address, wire.name)
    if hops:
        firsts = [
            next((a.address for a in addresses(node) if a.address.version == family), None)
            for node in (draft, other)
        ]
        if firsts[0] is not None and firsts[1] is not None:
            return _Way(firsts[0], firsts[1], None)
    return None


def _to_address(draft: Draft, address: Address, family: int) -> _Way | None:
    if address.version != family:
        return None
    for wire in draft.wires:
        for own in wire.addresses:
            if own.address.version == family and address in own.network:
                return _Way(own.address, address, wire.name)
    local = next((a.address for a in addresses(draft) if a.address.version == family), None)
    return None if local is None else _Way(local, address, None)


class _Bgp:
    """One node's BGP."""

    def __init__(
        self, reader: RoutingReader, draft: Draft, routing: Fields, engine: Engine
    ) -> None:
        self.engine = engine
        self.reader = reader
        self.source = reader.source
        self.draft = draft
        self.said: Said | None = routing.get("bgp")

    def read(self) -> Bgp | None:
        said = self.said
        if said is None or said.value.flawed:
            return None
        fields: Fields = said.value
        if "as" not in fields:
            # Not sooner: a part of it may be a role's.
            message = f"`bgp` of {quoted(self.draft.name)} has no `as`"
            self.source.report("missing", message, said.key, "give it a number, as `as: 65001`")
            return None
        self.asn: int = fields.value("as")
        self.is_server = fields.flag("route_server")
        self.hold: int = fields.value("hold", HOLD_S)
        self.has_evpn = self._may_have_evpn(fields)
        peers: dict[str, Peer] = {}
        for name, peer_said in fields.value("peers", Fields()).items():
            if peer_said.value.flawed:
                continue
            for peer in self._peers(name, peer_said):
                if peer.address in peers:
                    message = f"{peer.name} is here twice, as {peer.address}"
                    self.source.report("clash", message, peer_said.key)
                peers.setdefault(peer.address, peer)
        return Bgp(
            asn=self.asn,
            peers=tuple(peers.values()),
            networks=tuple(self._networks(fields)),
            redistribute=self.reader.origins(fields, Origin.BGP),
            installs=fields.flag("install", default=not self.is_server),
            multipath=fields.value("multipath", 1),
            has_evpn=self.has_evpn,
            place=self.reader.place(said.key),
        )

    def _may_have_evpn(self, fields: Fields) -> bool:
        if not fields.flag("evpn"):
            return False
        if self.engine is not Engine.FRR:
            message = "EVPN is FRR's, and the engine is BIRD"
            self.source.report("value", message, fields["evpn"].key, "add `engine: frr`")
            return False
        return True

    def _networks(self, fields: Fields) -> Iterator[Network]:
        for prefix, said in fields.value("networks", Fields()).items():
            yield Network(
                prefix=prefix,
                med=said.value.value("med"),
                communities=_words(said.value, "communities"),
                place=self.reader.place(said.key),
            )

    def _peers(self, name: str, said: Said) -> Iterator[Peer]:
        fields: Fields = said.value
        for other in self.reader.ends(self.draft, name, said):
            asn = self._asn(other, said)
            if asn is None:
                continue
            internal = asn == self.asn
            if internal and not self._may_be_internal(fields, asn):
                continue
            hops = "hops" in fields
            ways = self.reader.ways(
                self.draft,
                other,
                families(fields),
                far=internal or hops,
                hops=hops,
                local=fields.value("local"),
            )
            if not ways:
                self.reader.no_way(self.draft, other, said)
            self._must_be_mutual(other, said)
            for way in ways:
                if way.interface is None and not internal and "hops" not in fields:
                    message = f"{way.address} is on no segment of {quoted(self.draft.name)}"
                    hint = "a peer of another AS that is further away needs `hops`"
                    self.source.report("value", message, said.key, hint)
                label = other.name if isinstance(other, Draft) else str(other)
                speaks = self.has_evpn and (not isinstance(other, Draft) or speaks_evpn(other))
                # One session is enough: what it tells is of any family.
                is_first = way is ways[0]
                yield self._peer(label, asn, way, said, has_evpn=speaks and is_first)

    def _peer(self, label: str, asn: int, way: _Way, said: Said, *, has_evpn: bool) -> Peer:
        fields: Fields = said.value
        taken, given = fields.value("import", Fields()), fields.value("export", Fields())
        for key, part, where in (("prepend", taken, "export"), ("limit", given, "import")):
            if key in part:
                message = f"`{key}` is for `{where}`"
                self.source.report("value", message, part[key].key)
        return Peer(
            name=label,
            address=str(way.address),
            local=str(way.local),
            interface=way.interface,
            asn=asn,
            hold_s=fields.value("hold", self.hold),
            hops=fields.value("hops"),
            is_passive=fields.flag("passive"),
            is_client=fields.flag("client", default=self.is_server and asn != self.asn),
            is_reflected=fields.flag("reflect"),
            is_next_hop=fields.flag("next_hop_self"),
            gets_default=fields.flag("default"),
            has_bfd=fields.flag("bfd"),
            is_awaited=fields.value("await"),
            password=fields.value("password"),
            has_evpn=has_evpn,
            taken=_filter(taken),
            given=_filter(given),
            place=self.reader.place(said.key),
        )

    def _asn(self, other: Draft | Address, said: Said) -> int | None:
        """The peer's AS; None when that is reported."""
        here, node = said.value.get("as"), self.reader.node_of(other)
        there = None if node is None else _own_as(node)
        if here is not None and there is not None and here.value != there:
            assert node is not None, "an AS is a node's"
            message = f"{node.name}'s AS is {there}, not {here.value}"
            self.source.report("clash", message, here.at, "leave `as` out")
            return None
        if here is None and there is None:
            name = other.name if isinstance(other, Draft) else str(other)
            message = f"the AS of {quoted(name)} is not known"
            self.source.report("missing", message, said.key, "give the peer `as`")
            return None
        return there if here is None else here.value

    def _may_be_internal(self, fields: Fields, asn: int) -> bool:
        for key in ("hops", "client"):
            if key in fields and fields.value(key) is not False:
                message = f"`{key}` is for a peer of another AS, and {asn} is this node's own"
                hint = "leave it out, or give one of the two another AS"
                self.source.report("value", message, fields[key].key, hint)
                return False
        return True

    def _must_be_mutual(self, other: Draft | Address, said: Said) -> None:
        """A session that only one side knows never comes up."""
        node = self.reader.node_of(other)
        routing: Fields | None = None if node is None else node.fields.value("routing")
        if node is None or routing is None or "raw" in routing or routing.flawed:
            return
        bgp: Fields | None = routing.value("bgp")
        if bgp is None and "as" in said.value:
            return  # Another program speaks BGP there, beside a daemon that only watches.
        own = {self.draft.name, *self.draft.roles}
        own |= {str(each.address) for each in addresses(self.draft)}
        if bgp is None or (not bgp.flawed and own.isdisjoint(bgp.value("peers", Fields()))):
            message = f"{quoted(node.name)} does not name {quoted(self.draft.name)} as a peer"
            hint = "a session takes both sides: name each in the other's `peers`"
            self.source.report("value", message, said.key, hint)


def _own_as(draft: Draft) -> int | None:
    found: int | None = bgp_of(draft).value("as")
    return found


def _filter(fields: Fields) -> Filter:
    ranges = fields.get("prefixes")
    return Filter(
        prefixes=None if ranges is None else tuple(each.value for each in ranges.value),
        carrying=_words(fields, "carrying"),
        limit=fields.value("limit"),
        med=fields.value("med"),
        local_pref=fields.value("local_pref"),
        communities=_words(fields, "communities"),
        prepend=fields.value("prepend", 0),
    )


def _words(fields: Fields, key: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each.value for each in fields.value(key, [])))
