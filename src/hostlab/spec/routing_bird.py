"""A node's routing as a configuration of BIRD 2.

    networks, defaults ─┐
    BGP sessions ───────┤ bgp4, bgp6 ══ pipe ══ master4, master6 ── kernel
                                     OSPF, static, connected ┘

BGP has tables of its own, so that what it announces or does not install never stands in the way of
a route of the kernel's. What is connected is known to the tables and left to the kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hostlab.spec.routing import (
    CONNECT_RETRY_S,
    METRIC,
    RETRANSMIT_S,
    Bfd,
    Bgp,
    Origin,
    Ospf,
    Peer,
    RawUse,
    Routing,
)
from hostlab.spec.routing_lines import Line, Writer

CONFIG: Final = "/run/bird/bird.conf"
SOCKET: Final = "/run/bird/bird.ctl"
_LOG: Final = 'log "/dev/stderr" { info, remote, warning, error, auth, fatal, bug };'
"""Opened as the file is read; `log stderr` would be lost when BIRD goes to the background. What it
traces is for who listens at its socket: hundreds of lines a router."""
_ANY: Final = {4: "0.0.0.0/0", 6: "::/0"}
_EXTERNAL_METRIC: Final = 20
_DEFAULT_METRIC: Final = 10
_LOOPBACK_COST: Final = 0
_SOURCES: Final = {
    Origin.CONNECTED: "RTS_DEVICE",
    Origin.STATIC: "RTS_STATIC",
    Origin.OSPF: "RTS_OSPF, RTS_OSPF_IA, RTS_OSPF_EXT1, RTS_OSPF_EXT2",
    Origin.BGP: "RTS_BGP",
}
_FAMILIES: Final = (4, 6)


def render(node: str, loopbacks: Sequence[str], routing: Routing) -> list[Line]:
    """The configuration, line by line."""
    config = _Config(loopbacks, routing)
    config.out.add(f"# The routing of {node}, as its description says: hostlab makes it anew.")
    if routing.raw_use is RawUse.EXTEND:
        config.write()
    config.out.raw(routing)
    return config.out.lines


def session_name(peer: Peer) -> str:
    """The name of a peer's protocol."""
    word = "".join(c if c.isalnum() and c.isascii() else "_" for c in peer.name)
    return f"bgp{peer.family}_{word}"


class _Config:
    def __init__(self, loopbacks: Sequence[str], routing: Routing) -> None:
        self.loopbacks = loopbacks
        self.routing = routing
        self.out = Writer(" {", "}", "};")

    def write(self) -> None:
        routing, out = self.routing, self.out
        with out.at(routing.place):
            # Who waits for a session is told by the log when it is up.
            out.add(_LOG, "debug protocols { states, events };")
            out.add(f"router id {routing.router_id};", "")
            out.add("protocol device {}", "")
            with out.block("protocol direct connected"):
                out.add("ipv4;", "ipv6;")
            out.add("")
            for family in _FAMILIES:
                self._kernel(family)
            if routing.bfd is not None:
                self._bfd(routing.bfd)
            for family in _FAMILIES:
                self._statics(family)
            if routing.ospf is not None:
                self._ospf(routing.ospf)
            if routing.bgp is not None:
                self._bgp(routing.bgp)

    def _kernel(self, family: int) -> None:
        with self.out.block(f"protocol kernel kernel{family}"):
            self.out.add(f"metric {METRIC};")
            if limit := self._paths():
                self.out.add(f"merge paths on limit {limit};")
            with self.out.block(f"ipv{family}"):
                self.out.add("import none;")
                self.out.add(f'export where source != RTS_DEVICE && proto != "default{family}";')
        self.out.add("")

    def _paths(self) -> int:
        bgp = self.routing.bgp
        return bgp.multipath if bgp is not None and bgp.multipath > 1 else 0

    def _bfd(self, bfd: Bfd) -> None:
        out = self.out
        timers = f"interval {round(bfd.interval_s * 1000)} ms; multiplier {bfd.multiplier};"
        with out.block("protocol bfd"):
            out.add(f'interface "*" {{ {timers} }};', f"multihop {{ {timers} }};")
            for session in bfd.sessions:
                with out.at(session.place):
                    way = f'dev "{session.interface}" ' if session.interface else ""
                    far = "" if session.interface else " multihop on"
                    out.add(f"neighbor {session.address} {way}local {session.local}{far};")
        out.add("")

    def _statics(self, family: int) -> None:
        routes = [each for each in self.routing.statics if (":" in each.to) == (family == 6)]
        if not routes:
            return
        with self.out.block(f"protocol static static{family}"):
            self.out.add(f"ipv{family};")
            for each in routes:
                with self.out.at(each.place):
                    way = "blackhole"
                    if each.via is not None:
                        way = f"via {each.via}"
                        way += f"%{each.interface}" if each.via.startswith("fe80:") else ""
                    self.out.add(f"route {each.to} {way};")
        self.out.add("")

    def _ospf(self, ospf: Ospf) -> None:
        with self.out.at(ospf.place):
            for version in ospf.versions:
                family = 4 if version == 2 else 6
                if ospf.originates_default:
                    self._default(family, table="")
                with self.out.block(f"protocol ospf v{version} ospf{family}"):
                    self._ospf_channel(ospf, family)
                    self._ospf_area(ospf, family)
                self.out.add("")

    def _default(self, family: int, *, table: str) -> None:
        """A default route to tell others of, which yields to any other one."""
        name = f"origin{family}" if table else f"default{family}"
        with self.out.block(f"protocol static {name}"):
            channel = f" {{ table {table}; preference 1; }};" if table else " { preference 1; };"
            self.out.add(f"ipv{family}{channel}", f"route {_ANY[family]} blackhole;")
        self.out.add("")

    def _ospf_channel(self, ospf: Ospf, family: int) -> None:
        out = self.out
        with out.block(f"ipv{family}"):
            out.add("import all;")
            if not ospf.redistribute and not ospf.originates_default:
                out.add("export none;")
                return
            with out.block("export filter"):
                if ospf.originates_default:
                    out.add(f"if net = {_ANY[family]} then {{")
                    out.add(f"  ospf_metric2 = {_DEFAULT_METRIC};", "  accept;", "}")
                if ospf.redistribute:
                    out.add(f"if source ~ [{_sources(ospf.redistribute)}] then {{")
                    out.add(f"  ospf_metric2 = {_EXTERNAL_METRIC};", "  accept;", "}")
                out.add("reject;")

    def _ospf_area(self, ospf: Ospf, family: int) -> None:
        out = self.out
        with out.block(f"area {ospf.area}"):
            for each in ospf.interfaces:
                with out.at(each.place), out.block(f'interface "{each.name}"'):
                    out.add(f"cost {each.cost};")
                    if each.is_passive:
                        out.add("stub;")
                        continue
                    out.add(f"type {'ptp' if each.is_point_to_point else 'broadcast'};")
                    out.add(f"hello {ospf.hello_s};", f"dead {ospf.dead_s};")
                    out.add(f"retransmit {RETRANSMIT_S};")
                    if ospf.has_bfd:
                        out.add("bfd;")
            # Version 3 speaks on no interface without an address of the link, as `lo` is.
            for address in self.loopbacks:
                if (":" in address) == (family == 6):
                    out.add(f"stubnet {address} {{ cost {_LOOPBACK_COST}; }};")

    def _bgp(self, bgp: Bgp) -> None:
        with self.out.at(bgp.place):
            for family in _FAMILIES:
                self._bgp_table(bgp, family)
            for peer in bgp.peers:
                with self.out.at(peer.place):
                    self._peer(bgp, peer)

    def _bgp_table(self, bgp: Bgp, family: int) -> None:
        out = self.out
        out.add(f"ipv{family} table bgp{family};", "")
        networks = [n for n in bgp.networks if (":" in n.prefix) == (family == 6)]
        if networks:
            with out.block(f"protocol static networks{family}"):
                out.add(f"ipv{family} {{ table bgp{family}; }};")
                for each in networks:
                    with out.at(each.place):
                        changes = _changes(each.med, None, each.communities)
                        tail = f" {{ {' '.join(changes)} }}" if changes else ""
                        out.add(f"route {each.prefix} blackhole{tail};")
            out.add("")
        if any(peer.gets_default and peer.family == family for peer in bgp.peers):
            self._default(family, table=f"bgp{family}")
        with out.block(f"protocol pipe pipe{family}"):
            out.add(f"table master{family};", f"peer table bgp{family};")
            out.add(f"import {'where source = RTS_BGP' if bgp.installs else 'none'};")
            shared = f"where source ~ [{_sources(bgp.redistribute)}]" if bgp.redistribute else ""
            if shared:
                shared += f' && proto != "default{family}"'
            out.add(f"export {shared or 'none'};")
        out.add("")

    def _peer(self, bgp: Bgp, peer: Peer) -> None:
        out = self.out
        internal = peer.asn == bgp.asn
        with out.block(f"protocol bgp {session_name(peer)}"):
            out.add(f"local {peer.local} as {bgp.asn};")
            out.add(f"neighbor {peer.address} as {peer.asn};")
            if peer.hops is not None:
                out.add(f"multihop {peer.hops};")
            out.add(f"hold time {peer.hold_s};")
            # A lab's daemons start together: who called too early is to call again at once. One
            # failure after another doubles the wait; what was a while ago is forgotten.
            out.add("connect delay time 1;", f"connect retry time {CONNECT_RETRY_S};")
            out.add("error wait time 1, 4;", "error forget time 10;")
            options = {
                "passive on;": peer.is_passive,
                "rs client;": peer.is_client,
                "rr client;": peer.is_reflected,
                "bfd on;": peer.has_bfd,
                f'password "{peer.password}";': peer.password is not None,
                "deterministic med on;": True,
            }
            out.add(*(text for text, wanted in options.items() if wanted))
            with out.block(f"ipv{peer.family}"):
                out.add(f"table bgp{peer.family};", f"igp table master{peer.family};")
                if peer.family == 6 and peer.interface is not None:
                    # Of a neighbour's two next hops the link's own, which FRR takes, too.
                    out.add("gateway recursive;")
                if peer.is_next_hop:
                    out.add(f"next hop self{' ebgp' if internal else ''};")
                if peer.taken.limit is not None:
                    out.add(f"import limit {peer.taken.limit} action disable;")
                self._filter("import", peer, bgp)
                self._filter("export", peer, bgp)
        out.add("")

    def _filter(self, side: str, peer: Peer, bgp: Bgp) -> None:
        out, rules = self.out, peer.taken if side == "import" else peer.given
        first = []
        if side == "export" and peer.gets_default:
            first.append(f'if proto = "origin{peer.family}" then accept;')
        elif side == "export" and any(
            other.gets_default and other.family == peer.family for other in bgp.peers
        ):
            first.append(f'if proto = "origin{peer.family}" then reject;')
        withheld = [p for p in bgp.withheld if (":" in p) == (peer.family == 6)]
        if side == "export" and withheld:
            first.insert(0, f"if net ~ [{', '.join(withheld)}] then reject;")
        refused = []
        if rules.prefixes is not None:
            ranges = ", ".join(
                f"{r.prefix}{{{r.low},{r.high}}}"
                for r in rules.prefixes
                if (":" in r.prefix) == (peer.family == 6)
            )
            refused.append(f"net !~ [{ranges}]" if ranges else "true")
        if rules.carrying:
            refused.append(f"!({' || '.join(map(_carries, rules.carrying))})")
        changes = _changes(rules.med, rules.local_pref, rules.communities)
        changes += [f"bgp_path.prepend({bgp.asn});"] * rules.prepend
        if not (first or refused or changes):
            out.add(f"{side} all;")
            return
        with out.block(f"{side} filter"):
            out.add(*first, *(f"if {condition} then reject;" for condition in refused))
            out.add(*changes, "accept;")


def _sources(origins: Sequence[Origin]) -> str:
    return ", ".join(_SOURCES[origin] for origin in origins)


def _pair(community: str) -> tuple[str, str]:
    parts = community.split(":")
    kind = "bgp_community" if len(parts) == 2 else "bgp_large_community"
    return kind, f"({','.join(parts)})"


def _carries(community: str) -> str:
    kind, value = _pair(community)
    return f"{value} ~ {kind}"


def _changes(med: int | None, local_pref: int | None, communities: Sequence[str]) -> list[str]:
    found = []
    if med is not None:
        found.append(f"bgp_med = {med};")
    if local_pref is not None:
        found.append(f"bgp_local_pref = {local_pref};")
    for community in communities:
        kind, value = _pair(community)
        found.append(f"{kind}.add({value});")
    return found
