"""A node's routing as configurations of FRR, a file for each daemon.

FRR's usual single file is read by every daemon, which complains of the others' lines; and what one
does not know it may take for something else. `vtysh` shows all of it together anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from hostlab.spec.routing import (
    CONNECT_RETRY_S,
    DEAD_S,
    HELLO_S,
    RETRANSMIT_S,
    Bfd,
    Bgp,
    Filter,
    Origin,
    Ospf,
    Peer,
    Pim,
    PimEngine,
    RawUse,
    Routing,
    Static,
)
from hostlab.spec.routing_lines import Line, Writer

DIRECTORY: Final = "/etc/frr"
RUN: Final = "/run/frr"
ZEBRA: Final = "zebra"
PROFILE: Final = "hostlab"
_FAMILIES: Final = {4: "ip", 6: "ipv6"}
_EXTERNAL_METRIC: Final = 20
_DEFAULT_METRIC: Final = 10
_QUERY_S: Final = 10
_ANSWER_DS: Final = 10
"""How often IGMP asks who is in a group, and tenths of a second within which to answer."""


def daemons(routing: Routing) -> tuple[str, ...]:
    """Those that run, zebra first."""
    ospf = routing.ospf
    wanted = {
        "staticd": bool(routing.statics),
        "bfdd": routing.bfd is not None,
        "ospfd": ospf is not None and 2 in ospf.versions,
        "ospf6d": ospf is not None and 3 in ospf.versions,
        "bgpd": routing.bgp is not None,
        "pimd": _pim(routing) is not None,
    }
    found = [name for name, is_wanted in wanted.items() if is_wanted]
    return (ZEBRA, *dict.fromkeys([*found, *routing.daemons]))


def _pim(routing: Routing) -> Pim | None:
    pim = routing.pim
    return pim if pim is not None and pim.engine is PimEngine.FRR else None


def render(node: str, routing: Routing) -> dict[str, list[Line]]:
    """Each daemon's configuration, line by line."""
    return {daemon: _render(node, routing, daemon) for daemon in daemons(routing)}


def _render(node: str, routing: Routing, daemon: str) -> list[Line]:
    out = Writer("", "exit")
    out.add(
        f"! The routing of {node}, as its description says: hostlab makes it anew.",
        f"hostname {node}",
    )
    if routing.raw_use is RawUse.EXTEND:
        with out.at(routing.place):
            _write(out, routing, daemon)
    out.raw(routing)
    return out.lines


def _write(out: Writer, routing: Routing, daemon: str) -> None:
    ospf, bgp = routing.ospf, routing.bgp
    pim = _pim(routing)
    match daemon:
        case "pimd" if pim is not None:
            _write_pim(out, pim)
        case "zebra":
            # BIRD resolves next hops by any route, the default one too.
            out.add(f"ip router-id {routing.router_id}")
            out.add("ip nht resolve-via-default", "ipv6 nht resolve-via-default")
        case "staticd":
            for each in routing.statics:
                with out.at(each.place):
                    out.add(_static(each))
        case "bfdd" if routing.bfd is not None:
            _bfd(out, routing.bfd)
        case "ospfd" if ospf is not None:
            _ospf(out, ospf, 4, routing.router_id)
        case "ospf6d" if ospf is not None:
            _ospf(out, ospf, 6, routing.router_id)
        case "bgpd" if bgp is not None:
            _Bgp(out, bgp).write(routing.router_id)


def _write_pim(out: Writer, pim: Pim) -> None:
    with out.at(pim.place):
        out.add(*(f"ip pim rp {pim.rp} {prefix}" for prefix in pim.groups))
        for name in pim.interfaces:
            with out.block(f"interface {name}"):
                out.add("ip pim", f"ip pim hello {HELLO_S} {DEAD_S}")
                out.add(f"ip igmp query-interval {_QUERY_S}")
                out.add(f"ip igmp query-max-response-time {_ANSWER_DS}", "ip igmp")
        # A rendez-vous point whose address is a loopback's has to speak there, too.
        with out.block("interface lo"):
            out.add("ip pim")


def _static(each: Static) -> str:
    word = _FAMILIES[6 if ":" in each.to else 4]
    if each.via is None:
        return f"{word} route {each.to} blackhole"
    return f"{word} route {each.to} {each.via} {each.interface}"


def _bfd(out: Writer, bfd: Bfd) -> None:
    milliseconds = round(bfd.interval_s * 1000)
    with out.block("bfd"):
        with out.block(f"profile {PROFILE}"):
            out.add(f"detect-multiplier {bfd.multiplier}")
            out.add(f"receive-interval {milliseconds}", f"transmit-interval {milliseconds}")
        for each in bfd.sessions:
            way = f" interface {each.interface}" if each.interface else ""
            far = "" if each.interface else " multihop"
            head = f"peer {each.address}{far} local-address {each.local}{way}"
            with out.at(each.place), out.block(head):
                out.add(f"profile {PROFILE}")


def _ospf(out: Writer, ospf: Ospf, family: int, router_id: str) -> None:
    word, name = ("ip ospf", "ospf") if family == 4 else ("ipv6 ospf6", "ospf6")
    with out.at(ospf.place):
        for each in ospf.interfaces:
            with out.at(each.place), out.block(f"interface {each.name}"):
                out.add(f"{word} area {ospf.area}", f"{word} cost {each.cost}")
                if each.is_passive:
                    out.add(f"{word} passive")
                    continue
                kind = "point-to-point" if each.is_point_to_point else "broadcast"
                out.add(f"{word} network {kind}")
                out.add(f"{word} hello-interval {ospf.hello_s}")
                out.add(f"{word} dead-interval {ospf.dead_s}")
                out.add(f"{word} retransmit-interval {RETRANSMIT_S}")
                if ospf.has_bfd:
                    out.add(f"{word} bfd", f"{word} bfd profile {PROFILE}")
        with out.block("interface lo"):
            out.add(f"{word} area {ospf.area}", f"{word} passive")
        with out.block(f"router {name}"):
            out.add(f"{name} router-id {router_id}", "log-adjacency-changes")
            # What comes sooner than a second after the last would be sent again seconds later;
            # BIRD has it so and cannot be told otherwise.
            out.add("timers throttle spf 10 50 1000", "timers lsa min-arrival 0")
            if family == 4:
                out.add("timers throttle lsa all 1000")
            for origin in ospf.redistribute:
                out.add(f"redistribute {origin} metric {_EXTERNAL_METRIC} metric-type 2")
            if ospf.originates_default:
                out.add(f"default-information originate always metric {_DEFAULT_METRIC}")


class _Bgp:
    def __init__(self, out: Writer, bgp: Bgp) -> None:
        self.out = out
        self.bgp = bgp

    def write(self, router_id: str) -> None:
        out, bgp = self.out, self.bgp
        with out.at(bgp.place):
            for number, network in enumerate(bgp.networks, 1):
                with out.at(network.place):
                    changes = _changes(network.med, None, network.communities)
                    if changes:
                        self._permit(f"network-{number}", 10, changes)
            for number, peer in enumerate(bgp.peers, 1):
                with out.at(peer.place):
                    self._policy(f"peer-{number}-in", peer, peer.taken)
                    self._policy(f"peer-{number}-out", peer, peer.given)
            with out.block(f"router bgp {bgp.asn}"):
                self._router(router_id)

    def _router(self, router_id: str) -> None:
        out, bgp = self.out, self.bgp
        out.add(
            f"bgp router-id {router_id}",
            "bgp log-neighbor-changes",
            "no bgp ebgp-requires-policy",
            "no bgp network import-check",
            "no bgp default ipv4-unicast",
            "bgp deterministic-med",
            "bgp bestpath compare-routerid",
            # Else what is learnt is told a second later, and more under load.
            "coalesce-time 0",
        )
        if any(peer.hops is not None for peer in bgp.peers):
            # Until such a peer's connection has been accepted it passes for one that may be one hop
            # away only, and its next hops stay unreachable (FRR's issue 12025).
            out.add("bgp disable-ebgp-connected-route-check")
        if bgp.multipath > 1:
            out.add("bgp bestpath as-path multipath-relax")
        for peer in bgp.peers:
            with out.at(peer.place):
                self._neighbour(peer)
        for family in _FAMILIES:
            with self._address_family(f"ipv{family} unicast"):
                self._family(family)
        if bgp.has_evpn:
            with self._address_family("l2vpn evpn"):
                self._evpn()

    def _neighbour(self, peer: Peer) -> None:
        out, name = self.out, f"neighbor {peer.address}"
        out.add(f"{name} remote-as {peer.asn}", f"{name} update-source {peer.local}")
        out.add(f"{name} timers {max(1, peer.hold_s // 3)} {peer.hold_s}")
        out.add(f"{name} timers connect {CONNECT_RETRY_S}")
        if peer.hops is not None:
            out.add(f"{name} ebgp-multihop {peer.hops}")
        if peer.is_passive:
            out.add(f"{name} passive")
        if peer.password is not None:
            out.add(f"{name} password {peer.password}")
        if peer.has_bfd:
            out.add(f"{name} bfd", f"{name} bfd profile {PROFILE}")

    @contextmanager
    def _address_family(self, family: str) -> Iterator[None]:
        self.out.add(f"address-family {family}")
        yield
        self.out.add("exit-address-family")

    def _family(self, family: int) -> None:
        out, bgp = self.out, self.bgp
        for number, network in enumerate(bgp.networks, 1):
            if (":" in network.prefix) == (family == 6):
                has_map = network.med is not None or network.communities
                tail = f" route-map network-{number}" if has_map else ""
                with out.at(network.place):
                    out.add(f" network {network.prefix}{tail}")
        for origin in bgp.redistribute:
            name = "ospf6" if origin is Origin.OSPF and family == 6 else origin.value
            out.add(f" redistribute {name} metric 0")
        out.add(f" maximum-paths {bgp.multipath}", f" maximum-paths ibgp {bgp.multipath}")
        for number, peer in enumerate(bgp.peers, 1):
            if peer.family == family:
                with out.at(peer.place):
                    self._activate(number, peer)

    def _evpn(self) -> None:
        for peer in self.bgp.peers:
            if peer.has_evpn:
                name = f" neighbor {peer.address}"
                with self.out.at(peer.place):
                    self.out.add(f"{name} activate")
                    if peer.is_reflected:
                        self.out.add(f"{name} route-reflector-client")
        self.out.add(" advertise-all-vni")

    def _activate(self, number: int, peer: Peer) -> None:
        out, name = self.out, f" neighbor {peer.address}"
        options = {
            "activate": True,
            "next-hop-self": peer.is_next_hop,
            "route-server-client": peer.is_client,
            "route-reflector-client": peer.is_reflected,
            "default-originate": peer.gets_default,
            f"maximum-prefix {peer.taken.limit}": peer.taken.limit is not None,
            f"route-map peer-{number}-in in": not peer.taken.is_open,
            f"route-map peer-{number}-out out": not peer.given.is_open,
        }
        out.add(*(f"{name} {word}" for word, is_wanted in options.items() if is_wanted))

    def _policy(self, name: str, peer: Peer, rules: Filter) -> None:
        """A route map that lets pass what the filter lets pass; nothing for one that is open."""
        if rules.is_open:
            return
        out, word = self.out, _FAMILIES[peer.family]
        matches = []
        if rules.prefixes is not None:
            matches.append(f"match {word} address prefix-list {name}")
            ranges = [r for r in rules.prefixes if (":" in r.prefix) == (peer.family == 6)]
            for number, each in enumerate(ranges, 1):
                length = int(each.prefix.partition("/")[2])
                low = f" ge {each.low}" if each.low > length else ""
                high = f" le {each.high}" if each.high > length else ""
                out.add(
                    f"{word} prefix-list {name} seq {5 * number} permit {each.prefix}{low}{high}"
                )
            if not ranges:
                out.add(f"{word} prefix-list {name} seq 5 deny any")
        changes = _changes(rules.med, rules.local_pref, rules.communities)
        if rules.prepend:
            changes.append(f"set as-path prepend {' '.join([str(self.bgp.asn)] * rules.prepend)}")
        kinds = _by_kind(rules.carrying)
        for kind, listed in kinds.items():
            for community in listed:
                out.add(f"bgp {kind}-list standard {name} permit {community}")
        carried = [[f"match {kind} {name}"] for kind in kinds] or [[]]
        for number, carries in enumerate(carried, 1):
            self._permit(name, 10 * number, [*matches, *carries, *changes])

    def _permit(self, name: str, number: int, lines: Sequence[str]) -> None:
        with self.out.block(f"route-map {name} permit {number}"):
            self.out.add(*lines)


def _by_kind(communities: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in communities:
        kind = "community" if each.count(":") == 1 else "large-community"
        found.setdefault(kind, []).append(each)
    return found


def _changes(med: int | None, local_pref: int | None, communities: Sequence[str]) -> list[str]:
    found = []
    if med is not None:
        found.append(f"set metric {med}")
    if local_pref is not None:
        found.append(f"set local-preference {local_pref}")
    for kind, listed in _by_kind(communities).items():
        found.append(f"set {kind} {' '.join(listed)} additive")
    return found
