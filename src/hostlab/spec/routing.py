"""A node's `routing:` as values: what its routing daemon speaks, with whom, and about what.

Names of nodes and roles are addresses here, and what was left out is filled in, so that a renderer
(`routing_bird`, `routing_frr`) needs nothing but these. Prefixes and addresses are canonical
strings, times are seconds. Places are kept for the daemon's complaints.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from hostlab.errors import Place

HELLO_S: Final = 1
DEAD_S: Final = 4
"""OSPF's timers where none are said: a lab is small and is to notice soon. RFC 2328 has 10, 40."""
RETRANSMIT_S: Final = 3
"""Until what has not been acknowledged is sent again: the least that FRR can be told."""
HOLD_S: Final = 90
"""BGP's hold time where none is said (RFC 4271, section 10)."""
BFD_INTERVAL_S: Final = 0.3
BFD_MULTIPLIER: Final = 3
METRIC: Final = 20
"""Of what a daemon puts into the kernel, whichever it is: zebra's own, which cannot be changed."""


class Value(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of everything in a node's routing."""


class Engine(StrEnum):
    """Whose daemons speak."""

    BIRD = "bird"
    FRR = "frr"


class Origin(StrEnum):
    """Where a route that is handed on comes from."""

    CONNECTED = "connected"
    STATIC = "static"
    OSPF = "ospf"
    BGP = "bgp"


class OspfInterface(Value, frozen=True, kw_only=True):
    """An interface that OSPF speaks on, or only tells of."""

    name: str
    cost: int = 10
    is_passive: bool = False
    """Its prefixes are told; nobody is spoken to there."""
    is_point_to_point: bool = False
    """There are two on the segment: no designated router, and no waiting for one."""
    place: Place | None = None


class Ospf(Value, frozen=True, kw_only=True):
    """OSPF version 2 for IPv4 and version 3 for IPv6, on the same interfaces."""

    versions: tuple[int, ...] = (2, 3)
    area: str = "0.0.0.0"
    interfaces: tuple[OspfInterface, ...] = ()
    hello_s: int = HELLO_S
    dead_s: int = DEAD_S
    has_bfd: bool = False
    redistribute: tuple[Origin, ...] = ()
    originates_default: bool = False
    place: Place | None = None


class PimEngine(StrEnum):
    """Whose daemon routes multicast."""

    PIMD = "pimd"
    """Debian's package pimd: elects its rendez-vous point."""
    FRR = "frr"
    """FRR's pimd, which is told it."""


ALL_GROUPS: Final = "224.0.0.0/4"


class Pim(Value, frozen=True, kw_only=True):
    """PIM sparse mode (RFC 7761) and IGMP, for IPv4."""

    engine: PimEngine
    interfaces: tuple[str, ...] = ()
    candidate: int | None = None
    """How much it wants to be the rendez-vous point; the most is elected."""
    address: str = ""
    """Of a candidate: by which it offers itself."""
    elected: tuple[str, ...] = ()
    """The networks of the others that offer themselves."""
    rp: str | None = None
    """The rendez-vous point's address, which FRR is told; None when it is elected."""
    groups: tuple[str, ...] = (ALL_GROUPS,)
    """That this candidate, or that rendez-vous point, is for."""
    place: Place | None = None


class PrefixRange(Value, frozen=True, kw_only=True):
    """Prefixes within one, of these lengths."""

    prefix: str
    low: int
    high: int


class Filter(Value, frozen=True, kw_only=True):
    """What of a peer's routes is taken, or given to it, and what is changed in them."""

    prefixes: tuple[PrefixRange, ...] | None = None
    """None: any."""
    carrying: tuple[str, ...] = ()
    """Only routes with one of these communities; empty: any."""
    limit: int | None = None
    """With more prefixes than these the session is ended."""
    med: int | None = None
    local_pref: int | None = None
    communities: tuple[str, ...] = ()
    """Added."""
    prepend: int = 0
    """How often one's own AS stands before the path beside the usual once."""

    @property
    def is_open(self) -> bool:
        """Whether every route passes as it is."""
        return msgspec.structs.replace(self, limit=None) == Filter()


class Network(Value, frozen=True, kw_only=True):
    """A prefix that BGP announces as its own."""

    prefix: str
    med: int | None = None
    communities: tuple[str, ...] = ()
    place: Place | None = None


class Peer(Value, frozen=True, kw_only=True):
    """One BGP session."""

    name: str
    """The other node's, or the address."""
    address: str
    local: str
    """One's own address of the session."""
    interface: str | None = None
    """On which the peer is; None: behind others."""
    asn: int
    hold_s: int = HOLD_S
    hops: int | None = None
    """How far an external peer may be; None: on a segment in common."""
    is_passive: bool = False
    is_client: bool = False
    """Of this route server: the path and the next hop are left as they came."""
    is_reflected: bool = False
    """A client of this route reflector (RFC 4456)."""
    is_next_hop: bool = False
    """What it is told has this node for its next hop."""
    gets_default: bool = False
    has_bfd: bool = False
    password: str | None = None
    has_evpn: bool = False
    """EVPN is spoken in this session, too."""
    taken: Filter = Filter()
    given: Filter = Filter()
    place: Place | None = None

    @property
    def family(self) -> int:
        """4 or 6: of the session, and of what is told in it."""
        return 6 if ":" in self.address else 4


class Bgp(Value, frozen=True, kw_only=True):
    """BGP."""

    asn: int
    peers: tuple[Peer, ...] = ()
    networks: tuple[Network, ...] = ()
    redistribute: tuple[Origin, ...] = ()
    installs: bool = True
    """Whether what is learnt gets into the kernel."""
    multipath: int = 1
    """How many equally good routes are used at once."""
    has_evpn: bool = False
    """Whether hosts behind VXLANs are told of (RFC 8365), in the sessions over IPv4 or IPv6."""
    place: Place | None = None


class Static(Value, frozen=True, kw_only=True):
    """A static route of the daemon's, which it can hand on."""

    to: str
    via: str | None = None
    interface: str | None = None
    """Where `via` is."""
    place: Place | None = None


class BfdSession(Value, frozen=True, kw_only=True):
    """One that no other protocol asks for."""

    address: str
    local: str
    interface: str | None = None
    """None: over several hops."""
    place: Place | None = None


class Bfd(Value, frozen=True, kw_only=True):
    """Bidirectional forwarding detection (RFC 5880)."""

    interval_s: float = BFD_INTERVAL_S
    multiplier: int = BFD_MULTIPLIER
    sessions: tuple[BfdSession, ...] = ()


class RawUse(StrEnum):
    """What becomes of a configuration of the user's own."""

    EXTEND = "extend"
    REPLACE = "replace"


class Routing(Value, frozen=True, kw_only=True):
    """What a node's routing daemon does."""

    engine: Engine = Engine.BIRD
    router_id: str
    ospf: Ospf | None = None
    bgp: Bgp | None = None
    statics: tuple[Static, ...] = ()
    pim: Pim | None = None
    bfd: Bfd | None = None
    """None: nothing asks for it."""
    daemons: tuple[str, ...] = ()
    """FRR's, beside those that the rest needs."""
    raw: str = ""
    raw_use: RawUse = RawUse.EXTEND
    raw_place: Place | None = None
    """Where its first line stands."""
    place: Place | None = None
