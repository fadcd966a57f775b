"""A node's `pim` from what was said: its interfaces, and who its rendez-vous point is or may be."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from hostlab.spec.addresses import Wire
from hostlab.spec.drafts import Draft
from hostlab.spec.overlays import TUNNELS
from hostlab.spec.routing import ALL_GROUPS, Engine, Pim, PimEngine
from hostlab.spec.shapes import Fields
from hostlab.spec.source import quoted
from hostlab.spec.units import Prefixed

if TYPE_CHECKING:
    from hostlab.spec.routing_meaning import RoutingReader

_SAY_ONE: Final = "give those that may be one `candidate: 10`"


def read_pim(reader: RoutingReader, draft: Draft, routing: Fields, engine: Engine) -> Pim | None:
    """What the node's daemon for multicast does; None when there is none, or that is reported."""
    said = routing.get("pim")
    if said is None or said.value is None or said.value.flawed:
        return None
    return _Reader(reader, draft, routing, engine).read()


def _said(draft: Draft) -> Fields | None:
    """What a node says of PIM; None: it does not speak it."""
    routing: Fields = draft.fields.value("routing") or Fields()
    found: Fields | None = routing.value("pim")
    return None if found is None or found.flawed else found


def _engine(fields: Fields) -> PimEngine:
    return PimEngine(fields.value("engine", PimEngine.FRR if "rp" in fields else PimEngine.PIMD))


def _ipv4(wire: Wire) -> Prefixed | None:
    return next((a for a in wire.addresses if a.address.version == 4), None)


def _wires(draft: Draft, fields: Fields) -> Iterator[Wire]:
    """The interfaces that PIM speaks on."""
    names = {said.value for said in fields.value("interfaces", [])}
    for wire in draft.wires:
        is_tunnel = wire.net.kind in TUNNELS or wire.bridge
        if wire.name in names or (not names and not is_tunnel and _ipv4(wire) is not None):
            yield wire


def _offered(draft: Draft, fields: Fields) -> Prefixed | None:
    """The address by which a node is the rendez-vous point."""
    if _engine(fields) is PimEngine.FRR:
        # pimd has no use for an address that no interface of its own has.
        for each in draft.loopbacks:
            if each.address.version == 4:
                return each
    return next((a for wire in _wires(draft, fields) if (a := _ipv4(wire)) is not None), None)


class _Reader:
    def __init__(
        self, reader: RoutingReader, draft: Draft, routing: Fields, engine: Engine
    ) -> None:
        self.reader = reader
        self.source = reader.source
        self.draft = draft
        self.routing = routing
        self.said = routing["pim"]
        self.fields: Fields = self.said.value
        self.node_engine = engine

    def read(self) -> Pim | None:
        engine = _engine(self.fields)
        if not self._are_there():
            return None
        own = _offered(self.draft, self.fields)
        if own is None or not self._may_have(engine):
            if own is None:
                message = f"{quoted(self.draft.name)} has no interface to speak PIM on"
                self.source.report("missing", message, self.said.key)
            return None
        candidate = self.fields.value("candidate")
        return Pim(
            engine=engine,
            interfaces=tuple(wire.name for wire in _wires(self.draft, self.fields)),
            candidate=candidate,
            address="" if candidate is None else str(own.address),
            elected=tuple(self._others()),
            rp=self._rp(),
            groups=tuple(s.value for s in self.fields.value("groups", [])) or (ALL_GROUPS,),
            place=self.reader.place(self.said.key),
        )

    def _are_there(self) -> bool:
        """Whether the interfaces that were named are the node's, and speak IPv4."""
        wrong = False
        for said in self.fields.value("interfaces", []):
            wire = self.reader.wire(self.draft, said)
            if wire is not None and _ipv4(wire) is None:
                message = f"{quoted(wire.name)} has no IPv4 address to speak PIM from"
                self.source.report("value", message, said.at)
            wrong |= wire is None or _ipv4(wire) is None
        return not wrong

    def _may_have(self, engine: PimEngine) -> bool:
        """Whether that engine can do what is asked for; else that is reported."""
        at = self.fields["engine"].at if "engine" in self.fields else self.said.key
        if engine is PimEngine.FRR and self.node_engine is not Engine.FRR:
            message, hint = "FRR's PIM takes FRR's zebra, and the engine is BIRD", "engine: frr"
        elif engine is PimEngine.FRR and "rp" not in self.fields:
            message = "FRR's pimd elects no rendez-vous point"
            hint = "say `rp`, or `engine: pimd` within `pim`"
        elif engine is PimEngine.PIMD and "rp" in self.fields:
            at = self.fields["rp"].key
            message = "pimd elects its rendez-vous point"
            hint = "make that one the only `candidate`, or take `engine: frr`"
        elif engine is PimEngine.PIMD and not self._candidates():
            message, hint = "no router offers to be the rendez-vous point", _SAY_ONE
        elif engine is PimEngine.PIMD and self._runs_frrs():
            at = self.routing["daemons"].key
            message, hint = "FRR's pimd and Debian's route multicast both", "leave out one of them"
        elif "groups" in self.fields and not {"rp", "candidate"} & self.fields.keys():
            at = self.fields["groups"].key
            message, hint = "`groups` are a rendez-vous point's", "leave it out"
        else:
            return True
        self.source.report("value", message, at, hint)
        return False

    def _runs_frrs(self) -> bool:
        return any(said.value == "pimd" for said in self.routing.value("daemons", []))

    def _candidates(self) -> list[tuple[Draft, Fields]]:
        found = ((each, _said(each)) for each in self.reader.every.values())
        return [(each, f) for each, f in found if f is not None and "candidate" in f]

    def _others(self) -> Iterator[str]:
        """The networks of the other candidates' addresses that are none of the node's own."""
        own = {a.network for wire in self.draft.wires for a in wire.addresses}
        for other, fields in self._candidates():
            offered = None if other is self.draft else _offered(other, fields)
            if offered is not None and offered.network not in own:
                yield str(offered.network)

    def _rp(self) -> str | None:
        said = self.fields.get("rp")
        if said is None:
            return None
        try:
            return str(ipaddress.IPv4Address(said.value))
        except ValueError:
            pass
        other = self.reader.every.get(said.value)
        fields = None if other is None else _said(other)
        offered = None if other is None or fields is None else _offered(other, fields)
        if offered is not None:
            return str(offered.address)
        if other is None:
            message = f"there is no node {quoted(said.value)}"
        else:
            message = f"{quoted(said.value)} does not speak PIM for IPv4"
        known = [each.name for each in self.reader.every.values() if _said(each) is not None]
        hint = self.source.suggest_or_list(said.value, known)
        self.source.report("unknown-name", message, said.at, hint)
        return None
