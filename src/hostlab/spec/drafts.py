"""Nodes on their way: named, counted, with their roles merged and their interfaces listed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import msgspec

from hostlab.spec import names
from hostlab.spec.addresses import Net, Wire
from hostlab.spec.forms import ANONYMOUS
from hostlab.spec.model import MAX_NODES
from hostlab.spec.shapes import Fields, Said, merge_fields
from hostlab.spec.source import Mark, Source, Wrong, quoted
from hostlab.spec.units import Prefixed


class Draft(msgspec.Struct, kw_only=True):
    """A node on its way to being one."""

    name: str
    said: str
    """The name in the file; with `count` several nodes have the same."""
    at: Mark
    fields: Fields
    """Its roles' and its own."""
    own: Fields
    roles: tuple[str, ...]
    wires: list[Wire] = msgspec.field(default_factory=list)
    on: dict[str, list[Wire]] = msgspec.field(default_factory=dict)
    """The same wires by their segments."""
    shares_net: str | None = None
    loopbacks: list[Prefixed] = msgspec.field(default_factory=list)


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
    owners = Owners(every)
    for draft in every.values():
        _find_shared(source, owners, every, draft)
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
                wire = _wire(draft, "eth0", only, Fields(), draft.at)
                _plug(draft, only, wire)
            continue
        _attach_listed(source, draft, said.value, nets)


def _attach_listed(source: Source, draft: Draft, listed: Fields, nets: dict[str, Net]) -> None:
    free = (f"eth{n}" for n in itertools.count() if f"eth{n}" not in listed)
    for key, said in listed.items():
        name = next(free) if key.startswith(ANONYMOUS) else key
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
            _plug(draft, net, _wire(draft, name, net, fields, said.key))


def _wire(draft: Draft, name: str, net: Net, fields: Fields, at: Mark) -> Wire:
    return Wire(
        node=draft.name,
        name=name,
        net=net,
        at=at,
        declared=fields.get("addresses"),
        mac=fields.get("mac"),
        mtu=fields.value("mtu"),
        over=fields.get("over"),
        impair=fields.value("impair", Fields()),
    )


def _plug(draft: Draft, net: Net, wire: Wire) -> None:
    draft.wires.append(wire)
    draft.on.setdefault(net.name, []).append(wire)
    net.wires.append(wire)


class Owners:
    """Whose own namespace of a kind each node is in, through any number of steps."""

    def __init__(self, every: Mapping[str, Draft]) -> None:
        self._every = every
        self._found: dict[tuple[str, str], str | None] = {}

    def of(self, name: str, kind: str) -> str | None:
        """The owner; None when the way there is a circle, or leads to no node."""
        way: list[str] = []
        on_way: set[str] = set()
        owner: str | None = None
        while name in self._every and name not in on_way:
            if (name, kind) in self._found:
                owner = self._found[name, kind]
                break
            way.append(name)
            on_way.add(name)
            said = self._every[name].fields.value("namespaces", Fields()).get(kind)
            if said is None:
                owner = name
                break
            name = said.value
        for step in way:
            self._found[step, kind] = owner
        return owner


def _find_shared(source: Source, owners: Owners, every: Mapping[str, Draft], draft: Draft) -> None:
    shared: Fields = draft.fields.value("namespaces", Fields())
    for kind, said in shared.items():
        if kind == "time":
            continue
        owner = owners.of(draft.name, kind)
        if said.value not in every:
            hint = source.suggest_or_list(said.value, every)
            message = f"there is no node {quoted(said.value)}"
            source.report("unknown-name", message, said.at, hint)
        elif owner is None:
            message = f"{quoted(draft.name)} would share its {kind} namespace with itself"
            source.report("clash", message, said.at, "one of them must have its own")
        elif kind == "net":
            draft.shares_net = owner
