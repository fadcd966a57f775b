"""A node's `firewall:` as values: who may reach what, and what NAT makes of it.

Zones, nodes and services are names only while the description is read; here they are interfaces,
addresses and ports, so that two firewalls are compared by what they do. Where each part was said
is kept for the kernel's complaints, and counts for nothing in that comparison.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec
from msgspec.structs import replace

from hostlab.errors import Place


class Value(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of everything in a firewall."""


class Verdict(StrEnum):
    """What becomes of a packet that no rule is about."""

    DROP = "drop"
    REJECT = "reject"
    ACCEPT = "accept"


class Service(Value, frozen=True, kw_only=True, order=True):
    """One protocol, and its ports where it has any."""

    protocol: str
    """As nft takes it (`tcp`, `50`, …), or `ping`: an echo request of either family."""
    first: int = 0
    """The first port; 0: the whole protocol."""
    last: int = 0


class Ends(Value, frozen=True, kw_only=True):
    """Where packets come from, or go to: any of these."""

    anywhere: bool = False
    host: bool = False
    """The node itself."""
    interfaces: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    """Prefixes beyond the node."""
    own: tuple[str, ...] = ()
    """Addresses of the node's own."""


class Rule(Value, frozen=True, kw_only=True):
    """Something that is allowed or denied."""

    said: str
    """In the description's words."""
    services: tuple[Service, ...] = ()
    """Empty: any packet."""
    sources: Ends
    targets: Ends
    place: Place


class Forward(Value, frozen=True, kw_only=True):
    """A port of the node that leads to a port of another host."""

    said: str
    protocol: str
    port: int
    interfaces: tuple[str, ...] = ()
    """Where the packets come in; empty: anywhere."""
    addresses: tuple[str, ...]
    """Of the other host, one a family."""
    inner: int
    place: Place


class Zone(Value, frozen=True, kw_only=True):
    """Interfaces behind which everybody is treated alike."""

    name: str
    interfaces: tuple[str, ...]
    default: Verdict | None = None
    """Of what comes from there and no rule is about; None: the firewall's."""


class Firewall(Value, frozen=True, kw_only=True):
    """The packet filter that a node's description asks for."""

    default: Verdict
    zones: tuple[Zone, ...] = ()
    deny: tuple[Rule, ...] = ()
    allow: tuple[Rule, ...] = ()
    masquerade: tuple[str, ...] = ()
    """Interfaces: what leaves there over IPv4 has the node's address."""
    publish: tuple[Forward, ...] = ()
    raw: str = ""
    """nft's own words, for the inside of the table."""
    raw_place: Place | None = None
    """Of the first of its lines."""


_NOWHERE = Place("", 0, 0)


def same_but_places(one: Firewall | None, other: Firewall | None) -> bool:
    """Whether two firewalls do the same, wherever it was said."""
    if one is None or other is None:
        return one is other
    return placeless(one) == placeless(other)


def placeless(firewall: Firewall) -> Firewall:
    """The same without the places where it was said."""
    return replace(
        firewall,
        deny=tuple(replace(rule, place=_NOWHERE) for rule in firewall.deny),
        allow=tuple(replace(rule, place=_NOWHERE) for rule in firewall.allow),
        publish=tuple(replace(each, place=_NOWHERE) for each in firewall.publish),
        raw_place=None,
    )
