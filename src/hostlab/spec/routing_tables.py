"""Every key of a node's routing: part of `tables.py`."""

from __future__ import annotations

import ipaddress
import re
from functools import partial
from typing import Any, Final

from hostlab.spec import forms, names, units
from hostlab.spec.routing import ALL_GROUPS, Engine, Origin, PimEngine, PrefixRange
from hostlab.spec.scalars import ADDRESS, DURATION, FILE_PATH, FLAG, IFNAME, TEXT
from hostlab.spec.shapes import (
    Fields,
    Forms,
    Key,
    ListOf,
    MapOf,
    Said,
    Table,
    Text,
    choice,
    names_only,
    under,
)
from hostlab.spec.source import Source, Wrong, quoted

MAX_LIMIT: Final = 2**24
DAEMONS: Final = (
    "babeld", "bfdd", "bgpd", "eigrpd", "fabricd", "isisd", "ldpd", "nhrpd", "ospf6d", "ospfd",
    "pathd", "pbrd", "pim6d", "pimd", "ripd", "ripngd", "staticd", "vrrpd",
)  # fmt: skip
"""Of FRR, beside zebra, which always runs."""
_COMMUNITY: Final = re.compile(r"([0-9]{1,10}):([0-9]{1,10})(?::([0-9]{1,10}))?")
_PASSWORD: Final = re.compile(r"[!-~]{1,80}")


def community(word: str) -> str:
    """`65001:100`, or a large one (RFC 8092) of three numbers."""
    found = _COMMUNITY.fullmatch(word)
    most = 65535 if found and found[3] is None else 2**32 - 1
    if not found or any(int(part) > most for part in found.groups() if part is not None):
        raise Wrong(
            f"{quoted(word)} is not a community", "write `65001:100`, or a large one `65001:1:2`"
        )
    return ":".join(str(int(part)) for part in found.groups() if part is not None)


def prefix_range(word: str) -> PrefixRange:
    """`PREFIX [ge LENGTH] [le LENGTH]`; without them the prefix and nothing else."""
    prefix, *rest = word.split() or [""]
    net = units.prefix(prefix)
    said = dict(zip(rest[::2], rest[1::2], strict=False))
    if len(rest) % 2 or set(said) - {"ge", "le"} or len(said) != len(rest) // 2:
        raise Wrong(f"{quoted(word)} is not understood", "write `PREFIX [ge LENGTH] [le LENGTH]`")
    length = partial(units.between, net.prefixlen, net.max_prefixlen)
    low = length(said["ge"]) if "ge" in said else net.prefixlen
    high = length(said["le"]) if "le" in said else net.max_prefixlen if "ge" in said else low
    if low > high:
        raise Wrong(f"{quoted(word)}: no length is both {low} or more and {high} or less")
    return PrefixRange(prefix=str(net), low=low, high=high)


def multicast(word: str) -> str:
    """A prefix of IPv4 multicast groups."""
    found = units.prefix(word)
    if found.version != 4 or not found.is_multicast:
        raise Wrong(f"{quoted(word)} is no prefix of IPv4 groups", "as `239.0.0.0/8`")
    return str(found)


def peer_name(word: str) -> str:
    """An address in its usual form, or the name of a node or role."""
    try:
        return str(units.address(word))
    except Wrong:
        return names.name(word)


def area(word: str) -> str:
    """An area's number, in either form, as four numbers."""
    try:
        return str(ipaddress.IPv4Address(units.integer(word) if word.isdigit() else word))
    except ValueError:
        raise Wrong(f"{quoted(word)} is not an OSPF area", "write `0` or `0.0.0.1`") from None


def static_text(source: Source, said: Said) -> Fields:
    """`PREFIX [via HOP]`."""
    words = said.value.split()
    try:
        if len(words) not in (1, 3) or words[1:2] not in ([], ["via"]):
            raise Wrong(f"{quoted(said.value)} is not understood", "write `PREFIX [via HOP]`")
        found: dict[str, Any] = {"to": units.prefix(words[0])}
        if len(words) == 3:
            found["via"] = forms.hop(words[2])
    except Wrong as wrong:
        source.report("value", wrong.message, said.at, wrong.hint)
        fields = Fields()
        fields.flawed = True
        return fields
    return Fields({key: Said(value, said.at, said.at) for key, value in found.items()})


def password(word: str) -> str:
    """What both engines can be told."""
    if not _PASSWORD.fullmatch(word) or set(word) & set('"\\#!'):
        raise Wrong('a password is 1 to 80 printable characters, no blank and none of `"\\#!`')
    return word


def whole_seconds(word: str) -> int:
    """OSPF's hello and dead intervals and BGP's hold time are whole seconds."""
    seconds = units.duration(word)
    if seconds != int(seconds) or not 1 <= seconds <= 65535:
        raise Wrong(f"{quoted(word)} is not a whole number of seconds, 1 to 65535")
    return int(seconds)


def hold_seconds(word: str) -> int:
    """RFC 4271, section 4.2: no less than three."""
    seconds = whole_seconds(word)
    if seconds < 3:
        raise Wrong(f"a hold time of {seconds} s is refused by BGP", "3s or more")
    return seconds


def flag_or_table(_source: Source, said: Said) -> Any:
    """`true` stands for the mapping in which nothing is said, `false` for nothing."""
    return Fields() if said.value else None


def _with_flag(table: Table) -> Forms:
    return Forms(scalar=(FLAG, flag_or_table), mapping=(table, None))


_AS: Final = Text("an AS number", partial(units.between, 1, 2**32 - 1), {"type": "integer"})
_COST: Final = Text("a cost", partial(units.between, 1, 65535), {"type": "integer"})
_MED: Final = Text("a number", partial(units.between, 0, 2**32 - 1), {"type": "integer"})
_COMMUNITY_TEXT: Final = Text("a community", community, {"type": "string"})
_SECONDS: Final = Text("whole seconds", whole_seconds, {"type": ["integer", "string"]})
_HOLD: Final = Text("whole seconds", hold_seconds, {"type": ["integer", "string"]})
_PREFIX: Final = Text("a prefix", lambda word: str(units.prefix(word)), {"type": "string"})
_PEER: Final = Text("a node, a role or an address", peer_name, {"type": "string"})
_ORIGINS: Final = ListOf(choice("an origin", tuple(Origin)))
_RANGE: Final = Text("`PREFIX [ge LENGTH] [le LENGTH]`", prefix_range, {"type": "string"})

FILTER: Final = Table(
    "route filter",
    "Which routes pass, and what is changed in them. A list of prefixes alone are those that pass.",
    (
        Key("prefixes", ListOf(_RANGE), "Only these. A prefix alone is that one; with `ge` and "
            "`le` those within it of such lengths.", "['2001:db8:30::/64 ge 128']", "any"),
        Key("carrying", ListOf(_COMMUNITY_TEXT), "Only those that carry one of these communities.",
            "['65001:100']", "any"),
        Key("limit", Text("a number", partial(units.between, 1, MAX_LIMIT), {"type": "integer"}),
            "With more prefixes than these from the peer the session is ended; only in `import`.",
            "10", "none"),
        Key("med", _MED, "The multi-exit discriminator they get.", "100", "as it is"),
        Key("local_pref", _MED, "The local preference they get.", "200", "as it is"),
        Key("communities", ListOf(_COMMUNITY_TEXT), "Communities they get beside their own.",
            "['65001:100', '65001:7:7']", aliases=("community",)),
        Key("prepend", Text("a number", partial(units.between, 1, 16), {"type": "integer"}),
            "How often the own AS is put before the path, beside the usual once; only in `export`.",
            "3", "0"),
    ),
)  # fmt: skip

_FILTER: Final = Forms(
    scalar=(ListOf(_RANGE), under("prefixes")),
    sequence=(ListOf(_RANGE), under("prefixes")),
    mapping=(FILTER, None),
    words="prefixes, or a mapping (route filter)",
)

PEER: Final = Table(
    "BGP peer",
    "With whom BGP speaks. The other side has to say so, too.",
    (
        Key("as", _AS, "Its AS.", "65002", "the node's own `as`"),
        Key("families", ListOf(choice("ipv4 or ipv6", ("ipv4", "ipv6"))), "A session each, which "
            "tells of that family's routes.", "[ipv6]", "those that both have",
            aliases=("family",)),
        Key("local", ADDRESS, "The own address of the session.", "10.255.0.1",
            "on the segment in common; the loopbacks' with `hops`, or within an AS"),
        Key("hops", Text("a number", partial(units.between, 1, 255), {"type": "integer"}),
            "How far away a peer of another AS may be.", "10", "on a segment in common"),
        Key("hold", _HOLD, "After how long without a word the session is given up.", "6s",
            "`hold` of `bgp`"),
        Key("passive", FLAG, "Whether it is waited for instead of called.", "true", "false"),
        Key("client", FLAG, "Whether it is a client of this route server: path and next hop "
            "are told as they came.", "true", "`route_server` of `bgp`"),
        Key("reflect", FLAG, "Whether it is a client of this route reflector.", "true", "false"),
        Key("next_hop_self", FLAG, "Whether what came from other ASes is told to it with this node "
            "as the next hop.", "true", "false"),
        Key("default", FLAG, "Whether it is told a default route.", "true", "false"),
        Key("bfd", FLAG, "Whether BFD watches over the session.", "true", "false"),
        Key("password", Text("a password", password, {"type": "string"}),
            "Of the TCP sessions (RFC 2385).", "secret", "none"),
        Key("import", _FILTER, "What is taken of it.", "{prefixes: [10.9.0.0/16], limit: 10}",
            "everything"),
        Key("export", _FILTER, "What it is told.", "{med: 100}", "everything"),
    ),
)  # fmt: skip

NETWORK: Final = Table(
    "BGP network",
    "A prefix that is announced.",
    (
        Key("med", _MED, "Its multi-exit discriminator.", "100", "none"),
        Key("communities", ListOf(_COMMUNITY_TEXT), "Its communities.", "['65001:100']",
            aliases=("community",)),
    ),
)  # fmt: skip


BGP: Final = Table(
    "BGP",
    "The border gateway protocol. Sessions within an AS are between loopbacks where both have one.",
    (
        Key("as", _AS, "The own AS; needed, in the node or a role of it.", "65001"),
        Key(
            "peers",
            Forms(
                sequence=(ListOf(_PEER, alone=False), names_only),
                mapping=(MapOf(_PEER,
                               Forms(mapping=(PEER, None), null=Fields)), None),
                words="a list or a mapping of nodes, roles and addresses",
            ),
            "With whom it speaks. A role is all nodes that have it.",
            "{r2: {hold: 6s}, upstream: {as: 65010}}", aliases=("peer",)),
        Key(
            "networks",
            Forms(
                scalar=(ListOf(_PREFIX), names_only),
                sequence=(ListOf(_PREFIX), names_only),
                mapping=(MapOf(_PREFIX, Forms(mapping=(NETWORK, None), null=Fields)), None),
                words="a list or a mapping of prefixes",
            ),
            "What is announced, whether there is a route to it or not.",
            "{10.9.0.0/16: {med: 10}}", aliases=("network",)),
        Key("redistribute", _ORIGINS, "Whose routes are announced, too.", "[connected]", "none"),
        Key("install", FLAG, "Whether what is learnt gets into the kernel.", "false",
            "true; false of a route server"),
        Key("route_server", FLAG, "Whether the peers are its clients.", "true", "false"),
        Key("multipath", Text("a number", partial(units.between, 1, 64), {"type": "integer"}),
            "How many equally good routes are used at once.", "4", "1"),
        Key("hold", _HOLD, "The hold time of its sessions.", "6s", "90s"),
        Key("evpn", FLAG, "Whether peers that say so, too, are told who is behind this node's "
            "VXLANs (RFC 8365); FRR only.", "true", "false"),
    ),
)  # fmt: skip

OSPF: Final = Table(
    "OSPF",
    "OSPF version 2 for IPv4, version 3 for IPv6. `true` alone is every interface, cost 10.",
    (
        Key("versions", ListOf(Text("2 or 3", partial(units.between, 2, 3), {"enum": [2, 3]})),
            "Which of the two.", "[2]", "[2, 3]", aliases=("version",)),
        Key("interfaces", ListOf(IFNAME), "On which it speaks.", "[eth0, eth1]", "all",
            aliases=("interface",)),
        Key("passive", ListOf(IFNAME), "Whose prefixes it tells without speaking there.", "[eth2]"),
        Key("costs", MapOf(IFNAME, _COST), "The cost of an interface, where it is not 10.",
            "{eth0: 100}", aliases=("cost",)),
        Key("area", Text("an area, as `0` or `0.0.0.1`", area,
                         {"type": ["integer", "string"]}), "The area of all of them.", "1", "0"),
        Key("hello", _SECONDS, "How often it says hello.", "10s", "1s"),
        Key("dead", _SECONDS, "After how long without a hello a neighbour is gone.", "40s",
            "four times `hello`"),
        Key("bfd", FLAG, "Whether BFD watches over the neighbours.", "true", "false"),
        Key("redistribute", _ORIGINS, "Whose routes are told, too.", "[static, bgp]", "none"),
        Key("default", FLAG, "Whether a default route is told.", "true", "false"),
    ),
)  # fmt: skip

PIM: Final = Table(
    "PIM",
    "Multicast routing for IPv4: PIM sparse mode, and IGMP. `true` alone is every interface that "
    "is no tunnel, and a rendez-vous point that others offer to be.",
    (
        Key("engine", choice("an engine", tuple(PimEngine)), "Whose daemon: Debian's `pimd`, which "
            "elects the rendez-vous point, or FRR's, which is told it.", "pimd",
            "`frr` where `rp` is said, else `pimd`"),
        Key("interfaces", ListOf(IFNAME), "On which it speaks.", "[eth0, eth1]",
            "all that are no tunnels", aliases=("interface",)),
        Key("candidate", Text("a number", partial(units.between, 0, 255), {"type": "integer"}),
            "That it would be the rendez-vous point; of several the highest number is elected.",
            "10", "it would not"),
        Key("rp", Text("a node or an address", peer_name, {"type": "string"}),
            "The rendez-vous point, for FRR.", "c3", "elected"),
        Key("groups", ListOf(Text("a prefix of groups", multicast, {"type": "string"})),
            "Of a candidate, or with `rp`: the groups that it is for.", "[239.0.0.0/8]",
            ALL_GROUPS, aliases=("group",)),
    ),
    exclusive=(("candidate", "rp"),),
)  # fmt: skip

BFD_NEIGHBOUR: Final = Table(
    "BFD neighbour",
    "Another that is watched though no protocol here asks for it.",
    (
        Key("hops", FLAG, "Whether it is behind others: the loopbacks' addresses are used.", "true",
            "false"),
        Key("families", ListOf(choice("ipv4 or ipv6", ("ipv4", "ipv6"))), "A session each.",
            "[ipv6]", "those that both have", aliases=("family",)),
    ),
)  # fmt: skip

BFD: Final = Table(
    "BFD",
    "Bidirectional forwarding detection: notices within `interval` × `multiplier`.",
    (
        Key("interval", DURATION, "How often a packet is sent, and expected.", "100ms", "300ms"),
        Key("multiplier", Text("a number", partial(units.between, 2, 255), {"type": "integer"}),
            "After how many that are missing the other is gone.", "5", "3"),
        Key(
            "neighbours",
            Forms(
                sequence=(ListOf(_PEER, alone=False), names_only),
                mapping=(MapOf(_PEER,
                               Forms(mapping=(BFD_NEIGHBOUR, None), null=Fields)), None),
                words="a list or a mapping of nodes, roles and addresses",
            ),
            "Whom it watches beside those that OSPF and BGP ask for.", "[rs4]",
            aliases=("neighbour",)),
    ),
)  # fmt: skip

RAW: Final = Table(
    "raw routing configuration",
    "Lines in the daemon's own language. A text alone is added to what is made of the rest.",
    (
        Key("text", TEXT, "The lines.", '"protocol rip { ipv4 { import all; }; }"'),
        Key("file", FILE_PATH, "A file with them, relative to the description.", "bird.conf"),
        Key("replaces", FLAG, "Whether they are all of the configuration.", "true", "false"),
    ),
    exclusive=(("text", "file"),),
)  # fmt: skip

_STATIC: Final = ListOf(
    Forms(
        scalar=(TEXT, static_text),
        mapping=(
            Table(
                "static route",
                "A static route of the routing daemon. In one line: `10.2.0.0/16 via r2`; without "
                "`via`, packets to it are dropped.",
                (
                    Key("to", Text("a prefix", units.prefix, {"type": "string"}),
                        "Where it leads.", "10.2.0.0/16"),
                    Key("via", Text("an address or a node", forms.hop, {"type": "string"}),
                        "The next hop.", "r2", "none: dropped"),
                ),
                required=("to",),
            ),
            None,
        ),
        words="a route, as `10.2.0.0/16 via 10.1.0.1`",
    )
)  # fmt: skip

ROUTING: Final = Table(
    "routing",
    "What the node's routing daemon does. It implies `forwarding: true`.",
    (
        Key("engine", choice("an engine", tuple(Engine)), "Whose daemons: BIRD 2 or FRR. The same "
            "description gives the same routes under both.", "frr", "bird"),
        Key("router_id", ADDRESS, "Its name among routers, written as an IPv4 address.",
            "10.255.0.1", "its first IPv4 address, a loopback's before others"),
        Key("ospf", _with_flag(OSPF), "OSPF.", "true", "none"),
        Key("bgp", BGP, "BGP.", "{as: 65001, peers: [r2]}", "none"),
        Key("pim", _with_flag(PIM), "PIM, for multicast.", "{candidate: 10}", "none"),
        Key("static", _STATIC, "Routes of the daemon's own, which it can hand on. `routes` of the "
            "node are the kernel's, and no daemon's.", "[10.9.0.0/16 via r2]", "none"),
        Key("bfd", _with_flag(BFD), "BFD.", "{interval: 100ms}", "where OSPF or BGP ask for it"),
        Key("daemons", ListOf(choice("a daemon of FRR", DAEMONS)), "Daemons of FRR that run beside "
            "those that the rest needs.", "[pimd]", "none", aliases=("daemon",)),
        Key("raw", Forms(scalar=(TEXT, under("text")), mapping=(RAW, None)),
            "Lines in the daemon's own language.", '"debug protocols all;"', "none"),
    ),
)  # fmt: skip

LOOPBACK: Final = Forms(
    scalar=(Text("true, false or an address", lambda w: _loopback(w),
                 {"type": ["boolean", "string"]}), None),
    sequence=(ListOf(Text("an address", units.prefixed, {"type": "string"})), None),
    words="true, or addresses",
)  # fmt: skip


def _loopback(word: str) -> Any:
    try:
        return units.flag(word)
    except Wrong:
        return units.prefixed(word)
