"""Nodes on their way: named, counted, with their roles merged and their interfaces listed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hostlab.spec import names
from hostlab.spec.addresses import Net, Wire
from hostlab.spec.forms import ANONYMOUS
from hostlab.spec.shapes import Fields, Said, merge_fields
from hostlab.spec.source import Mark, Source, Wrong, quoted

MAX_NODES = 65_536


@dataclass(kw_only=True)
class Draft:
    """A node on its way to being one."""

    name: str
    said: str
    """The name in the file; with `count` several nodes have the same."""
    at: Mark
    fields: Fields
    """Its roles' and its own."""
    own: Fields
    roles: tuple[str, ...]
    wires: list[Wire] = field(default_factory=list)
    shares_net: str | None = None


def drafts(source: Source, top: Fields, seed: str) -> dict[str, Draft]:
    """Every node by its name, in the order of the file."""
    said_nodes: Fields = top.value("nodes", Fields())
    roles: Fields = top.value("roles", Fields())
    for role, said in roles.items():
        if "roles" in said.value:
            hint = "list all of them in the node"
            source.report("value", f"the role {quoted(role)} cannot have roles", said.key, hint)
    result: dict[str, Draft] = {}
    lower: dict[str, Draft] = {}
    taken = set(said_nodes)
    for name, said in said_nodes.items():
        merged, played = _with_roles(source, roles, said)
        base = name
        if name.startswith(ANONYMOUS):
            base = names.generated(seed, len(result), taken)
            taken.add(base)
        count = said.value.value("count")
        many = [base] if count is None else [f"{base}{n}" for n in range(1, count + 1)]
        if len(result) + len(many) > MAX_NODES:
            source.report("too-many", f"more than {MAX_NODES:,} nodes", said.key)
            break
        for each in many:
            draft = Draft(
                name=each, said=base, at=said.key, fields=merged, own=said.value, roles=played
            )
            if _is_free(source, lower, draft):
                result[each] = lower[each.lower()] = draft
    return result


def _is_free(source: Source, lower: dict[str, Draft], draft: Draft) -> bool:
    try:
        names.label(draft.name)
    except Wrong as wrong:
        source.report("value", wrong.message, draft.at, wrong.hint)
        return False
    other = lower.get(draft.name.lower())
    if other is None:
        return True
    first = source.place(other.at)
    message = f"two nodes would be called {quoted(draft.name)}, the first at {first}"
    source.report("clash", message, draft.at, "capital and small letters are the same in names")
    return False


def _with_roles(source: Source, roles: Fields, said: Said) -> tuple[Fields, tuple[str, ...]]:
    own: Fields = said.value
    merged = Fields()
    played: list[str] = []
    for role in own.value("roles", []):
        if role.value in roles:
            if role.value not in played:
                # What holds for a role as a whole is told there, not in each of its nodes.
                part: Fields = roles[role.value].value
                merged = merge_fields(merged, part)
                played.append(role.value)
            continue
        hint = source.suggest_or_list(role.value, roles)
        source.report("unknown-name", f"there is no role {quoted(role.value)}", role.at, hint)
    return merge_fields(merged, own), tuple(played)


def attach(source: Source, every: Mapping[str, Draft], nets: dict[str, Net]) -> None:
    """List each node's interfaces and put them on their segments."""
    for draft in every.values():
        _find_shared(source, every, draft)
    for draft in every.values():
        said = draft.fields.get("interfaces")
        if draft.shares_net is not None:
            if said is not None and said.value:
                message = f"{quoted(draft.name)} shares a network namespace: it has no interfaces"
                source.report("clash", message, said.key, "leave out one of the two")
            continue
        if said is None:
            if len(nets) == 1 and not draft.fields.flawed:
                only = next(iter(nets.values()))
                wire = _wire(draft, "eth0", only.name, Fields(), draft.at)
                _plug(draft, only, wire)
            continue
        _attach_listed(source, draft, said.value, nets)


def _attach_listed(source: Source, draft: Draft, listed: Fields, nets: dict[str, Net]) -> None:
    number = 0
    for key, said in listed.items():
        name = key
        if key.startswith(ANONYMOUS):
            while f"eth{number}" in listed or any(w.name == f"eth{number}" for w in draft.wires):
                number += 1
            name = f"eth{number}"
        fields: Fields = said.value
        segment = fields.get("segment")
        if "name" in fields and not key.startswith(ANONYMOUS) and fields["name"].value != key:
            source.report("clash", f"this interface is {quoted(key)} already", fields["name"].key)
        if segment is None and len(nets) == 1:
            segment = Said(next(iter(nets)), said.key, said.key)
        if segment is None:
            if not fields.flawed:
                hint = "segments: " + ", ".join(nets) if nets else "declare it under `segments`"
                source.report("missing", f"{quoted(name)} has no `segment`", said.key, hint)
        elif segment.value not in nets:
            hint = source.suggest_or_list(segment.value, nets) or "declare it under `segments`"
            message = f"there is no segment {quoted(segment.value)}"
            source.report("unknown-name", message, segment.at, hint)
        else:
            net = nets[segment.value]
            _plug(draft, net, _wire(draft, name, net.name, fields, said.key))


def _wire(draft: Draft, name: str, segment: str, fields: Fields, at: Mark) -> Wire:
    return Wire(
        node=draft.name,
        name=name,
        segment=segment,
        at=at,
        declared=fields.get("addresses"),
        mac=fields.get("mac"),
        mtu=fields.value("mtu"),
    )


def _plug(draft: Draft, net: Net, wire: Wire) -> None:
    draft.wires.append(wire)
    net.wires.append(wire)


def _find_shared(source: Source, every: Mapping[str, Draft], draft: Draft) -> None:
    """Whose network namespace it is in the end; round in a circle is nobody's."""
    shared: Fields = draft.fields.value("namespaces", Fields())
    for kind, said in shared.items():
        if kind == "time":
            continue
        owner = owner_of(every, draft.name, kind)
        if said.value not in every:
            hint = source.suggest_or_list(said.value, every)
            message = f"there is no node {quoted(said.value)}"
            source.report("unknown-name", message, said.at, hint)
        elif owner is None:
            message = f"{quoted(draft.name)} would share its {kind} namespace with itself"
            source.report("clash", message, said.at)
        elif kind == "net":
            draft.shares_net = owner


def owner_of(every: Mapping[str, Draft], name: str, kind: str) -> str | None:
    """The node whose own namespace of a kind this node is in; None when nobody's."""
    seen = set()
    while name in every and name not in seen:
        seen.add(name)
        said = every[name].fields.value("namespaces", Fields()).get(kind)
        if said is None:
            return name
        name = said.value
    return None
