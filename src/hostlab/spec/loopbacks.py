"""Addresses of loopback interfaces: those that were said, and those that are assigned.

The Nth node that asks for it has 10.255.0.N (then 10.255.1.0 and so on) and fd00:0:0:ffff::N, so a
node that is added at the end moves none of the others. Several nodes may be told the same address
on purpose, as one service that is in many places (anycast).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Final

from hostlab.spec.addresses import Net
from hostlab.spec.drafts import Draft
from hostlab.spec.shapes import Said
from hostlab.spec.source import Source, quoted
from hostlab.spec.units import Address, Network, Prefixed

RESERVED: Final[tuple[Network, ...]] = (
    ipaddress.IPv4Network("10.255.0.0/16"),
    ipaddress.IPv6Network("fd00:0:0:ffff::/64"),
)


def reserved(every: Mapping[str, Draft]) -> tuple[Network, ...]:
    """What no segment is assigned, since loopbacks are."""
    asked = any(draft.fields.value("loopback") is True for draft in every.values())
    return RESERVED if asked else ()


def assign_loopbacks(source: Source, every: Mapping[str, Draft], nets: Iterable[Net]) -> None:
    """Fill in every node's loopbacks."""
    said_addresses: set[Address] = set()
    for draft in every.values():
        if isinstance(draft.fields.value("loopback"), Prefixed | list):
            draft.loopbacks = _said(source, draft)
            said_addresses.update(each.address for each in draft.loopbacks)
    number = 0
    for draft in every.values():
        if draft.fields.value("loopback") is True and not _shares(source, draft):
            found: list[Address] = []
            while not found or not said_addresses.isdisjoint(found):
                number += 1
                found = [net.network_address + number for net in RESERVED]
            draft.loopbacks = [Prefixed(each, each.max_prefixlen) for each in found]
    if not any(draft.loopbacks for draft in every.values()):
        return
    used = {a.address: wire for net in nets for wire in net.wires for a in wire.addresses}
    for draft in every.values():
        for each in draft.loopbacks:
            if each.address in used:
                wire = used[each.address]
                message = f"{wire.node}'s {wire.name} has {each.address}, {draft.name}'s loopback"
                at = draft.fields["loopback"].at
                source.report("clash", message, at, "several loopbacks may share one, no interface")


def _shares(source: Source, draft: Draft) -> bool:
    if draft.shares_net is None:
        return False
    message = f"{quoted(draft.name)} shares a network namespace: its owner has the loopback"
    source.report("clash", message, draft.fields["loopback"].key, "leave out one of the two")
    return True


def _said(source: Source, draft: Draft) -> list[Prefixed]:
    said = draft.fields["loopback"]
    if _shares(source, draft):
        return []
    listed: list[Said] = said.value if isinstance(said.value, list) else [said]
    found: dict[Address, Prefixed] = {}
    for each in listed:
        address, length = each.value
        if length not in (None, address.max_prefixlen):
            message = f"{address}/{length} is a subnet; a loopback is one address"
            source.report("value", message, each.at, f"write `{address}`")
        elif address in found:
            source.report("clash", f"{address} is here twice", each.at)
        else:
            found[address] = Prefixed(address, address.max_prefixlen)
    return list(found.values())
