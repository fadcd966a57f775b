"""Routes and gateways: each next hop an address that the node has a neighbour at."""

from __future__ import annotations

from collections.abc import Mapping

from hostlab.spec.addresses import Wire
from hostlab.spec.drafts import Draft
from hostlab.spec.model import Route
from hostlab.spec.shapes import Fields, Said
from hostlab.spec.source import Source, quoted
from hostlab.spec.units import Address

DEFAULTS = {4: "0.0.0.0/0", 6: "::/0"}


def routes(source: Source, every: Mapping[str, Draft], draft: Draft) -> tuple[Route, ...]:
    """All of a node's routes, its gateways' first."""
    found: list[Route] = []
    for said in draft.fields.value("gateway", []):
        for via, wire in hops(source, every, draft, said):
            to = DEFAULTS[via.version]
            if any(route.to == to for route in found):
                message = f"a second gateway for IPv{via.version}"
                source.report("clash", message, said.at, "give `routes` with a `metric` instead")
            else:
                found.append(Route(to=to, via=str(via), interface=wire.holder))
    for said in draft.fields.value("routes", []):
        if not said.value.flawed:
            found += _route(source, every, draft, said)
    return tuple(found)


def _route(source: Source, every: Mapping[str, Draft], draft: Draft, said: Said) -> list[Route]:
    fields: Fields = said.value
    to, via = fields["to"], fields.get("via")
    interface, metric = fields.get("interface"), fields.value("metric")
    wires = draft.wires
    if interface is not None:
        wires = [wire for wire in draft.wires if wire.name == interface.value]
        if not wires:
            hint = source.suggest_or_list(interface.value, [wire.name for wire in draft.wires])
            message = f"{quoted(draft.name)} has no interface {quoted(interface.value)}"
            source.report("unknown-name", message, interface.at, hint)
            return []
    if via is None:
        if interface is None:
            message = "a route needs `via` or `interface`"
            source.report("missing", message, said.at)
            return []
        tos = DEFAULTS.values() if to.value == "default" else [str(to.value)]
        return [Route(to=t, interface=wires[0].holder, metric=metric) for t in tos]
    wanted = None if to.value == "default" else to.value.version
    found = hops(source, every, draft, via, wires, wanted)
    name = wires[0].holder if interface else None
    result = []
    for hop, _ in found:
        if wanted is not None and hop.version != wanted:
            source.report("value", f"{hop} cannot lead to the IPv{wanted} {to.value}", via.at)
            continue
        target = DEFAULTS[hop.version] if wanted is None else str(to.value)
        result.append(Route(to=target, via=str(hop), interface=name, metric=metric))
    return result


def hops(
    source: Source,
    every: Mapping[str, Draft],
    draft: Draft,
    said: Said,
    wires: list[Wire] | None = None,
    family: int | None = None,
) -> list[tuple[Address, Wire]]:
    """Where a next hop is: the address and the interface that reaches it, one a family."""
    wires = draft.wires if wires is None else wires
    if not isinstance(said.value, str):
        wire = _on_link(wires, said.value)
        if wire is not None:
            if any(said.value == own.address for w in draft.wires for own in w.addresses):
                message = f"{said.value} is {quoted(draft.name)}'s own address"
                source.report("value", message, said.at)
                return []
            return [(said.value, wire)]
        networks = [str(a.network) for w in wires for a in w.addresses]
        hint = "it must be in " + " or ".join(networks[:8]) if networks else None
        message = f"{said.value} is not on a segment of {quoted(draft.name)}"
        source.report("value", message, said.at, hint)
        return []
    other = every.get(said.value)
    if other is None:
        hint = source.suggest_or_list(said.value, every)
        source.report("unknown-name", f"there is no node {quoted(said.value)}", said.at, hint)
        return []
    found: dict[int, tuple[Address, Wire]] = {}
    for wire in wires:
        on_it = [w for name in wire.net.joined for w in other.on.get(name, [])]
        for theirs in on_it if other is not draft else []:
            for address in theirs.addresses:
                if _on_link([wire], address.address):
                    found.setdefault(address.address.version, (address.address, wire))
    result = [hop for version, hop in sorted(found.items()) if family in (None, version)]
    if not result:
        message = f"{quoted(draft.name)} has no segment and subnet in common with {said.value}"
        where = ", ".join(wire.segment for wire in other.wires)
        source.report("value", message, said.at, f"{said.value} is on {where}" if where else None)
    return result


def _on_link(wires: list[Wire], address: Address) -> Wire | None:
    for wire in wires:
        if address.version == 6 and address.is_link_local and wire.addresses:
            return wire
        for own in wire.addresses:
            if address.version == own.address.version and address in own.network:
                return wire
    return None
