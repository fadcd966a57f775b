"""A node's firewall from what was said: names become interfaces and addresses, or an error."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from hostlab.errors import Place
from hostlab.spec.drafts import Draft
from hostlab.spec.firewall import Ends, Firewall, Forward, Rule, Service, Verdict, Zone
from hostlab.spec.forms import Target
from hostlab.spec.parts import forwards
from hostlab.spec.shapes import Fields, Said
from hostlab.spec.source import Mark, Source, quoted
from hostlab.spec.units import Address, Network, address

HOST: Final = "host"
ANY: Final = "any"
_FORWARDING: Final = (
    "net.ipv4.ip_forward",
    "net.ipv4.conf.all.forwarding",
    "net.ipv6.conf.all.forwarding",
)
_BRACES: Final = re.compile(r'"[^"\n]*"|#[^\n]*|[{}]')
_UNQUOTABLE: Final = re.compile(r'["\\*]')


def firewall(source: Source, every: Mapping[str, Draft], draft: Draft) -> Firewall | None:
    """The node's packet filter; None when the description asks for none."""
    said = draft.fields.get("firewall")
    if said is None or said.value.flawed:
        return None
    if draft.shares_net is not None:
        message = f"{quoted(draft.name)} shares a network namespace: its owner has the firewall"
        source.report("clash", message, said.key, "leave out one of the two")
        return None
    return _Reader(source, every, draft).read(said.value)


class _Reader:
    def __init__(self, source: Source, every: Mapping[str, Draft], draft: Draft) -> None:
        self.source = source
        self.every = every
        self.draft = draft
        self.zones: dict[str, Zone] = {}

    def read(self, fields: Fields) -> Firewall:
        for name, said in fields.value("zones", Fields()).items():
            self.zones[name] = self._zone(name, said)
        masquerade = fields.value("masquerade", [])
        self._check_forwarding(fields)
        raw = fields.get("raw")
        is_closed = bool({"zones", "allow"} & fields.keys())
        usual = Verdict.DROP if is_closed else Verdict.ACCEPT
        return Firewall(
            default=Verdict(fields.value("default", usual)),
            zones=tuple(self.zones.values()),
            deny=tuple(self._rules("deny", fields)),
            allow=tuple(self._rules("allow", fields)),
            masquerade=tuple(i for each in masquerade for i in self._zone_interfaces(each)),
            publish=tuple(self._forwards(fields)),
            raw="" if raw is None else self._raw(raw),
            raw_place=None if raw is None else self.source.block_place(raw.at),
        )

    def _place(self, at: Mark) -> Place:
        return self.source.place(at)

    def _zone(self, name: str, said: Said) -> Zone:
        fields: Fields = said.value
        if name in (HOST, ANY):
            self.source.report("clash", f"{quoted(name)} cannot be a zone's name", said.key)
        words = fields.value("interfaces", [Said(name, said.key, said.key)])
        found = [i for each in words for i in self._interfaces(each)]
        for other in self.zones.values():
            for both in set(found) & set(other.interfaces):
                message = f"{quoted(both)} is in the zone {quoted(other.name)} already"
                self.source.report("clash", message, said.key)
        verdict = fields.value("default")
        default = None if verdict is None else Verdict(verdict)
        return Zone(name=name, interfaces=tuple(found), default=default)

    def _interfaces(self, said: Said) -> list[str]:
        """Of this name, or else on the segment of this name."""
        wires = self.draft.wires
        named = [wire.name for wire in wires if wire.name == said.value]
        found = named or [wire.name for wire in wires if wire.segment == said.value]
        if not found:
            known = [wire.name for wire in wires] + [wire.segment for wire in wires]
            hint = self.source.suggest_or_list(said.value, known)
            message = (
                f"{quoted(self.draft.name)} has no interface {quoted(said.value)},"
                " and is on no such segment"
            )
            self.source.report("unknown-name", message, said.at, hint)
        for name in found:
            if _UNQUOTABLE.search(name):
                message = f"nft cannot name the interface {quoted(name)}"
                self.source.report("value", message, said.at, 'it has `"`, `*` or `\\` in it')
        return found

    def _zone_interfaces(self, said: Said) -> tuple[str, ...]:
        zone = self.zones.get(said.value)
        if zone is None:
            hint = self.source.suggest_or_list(said.value, self.zones)
            hint = hint or "declare it under `zones`"
            message = f"there is no zone {quoted(said.value)}"
            self.source.report("unknown-name", message, said.at, hint)
            return ()
        return zone.interfaces

    def _check_forwarding(self, fields: Fields) -> None:
        sysctls = self.draft.fields.value("sysctls", Fields())
        if forwards(self.draft.fields) or any(key in sysctls for key in _FORWARDING):
            return
        for key in ("masquerade", "publish"):
            if key in fields:
                message = f"`{key}` is for packets that {quoted(self.draft.name)} does not forward"
                self.source.report("value", message, fields[key].key, "add `forwarding: true`")

    def _rules(self, action: str, fields: Fields) -> Iterator[Rule]:
        for said in fields.value(action, []):
            entry: Fields = said.value
            if entry.flawed:
                continue
            services = entry.value("services", [])
            found: list[Service] = []
            words = []
            for each in services:
                word, meant = each.value
                words.append(word)
                found += meant
            is_any = any(not each.value[1] for each in services)
            sources = self._ends(entry, "from")
            is_own = sources.host
            if is_own and sources != Ends(host=True):
                message = "`host` stands alone in `from`: what it sends has rules of its own"
                self.source.report("value", message, entry["from"].at)
            targets = self._ends(entry, "to", host=not is_own)
            if is_own and (targets.host or targets.own):
                message = "what the node sends to itself always passes"
                self.source.report("value", message, entry["to"].at)
            yield Rule(
                said=" ".join([action, ", ".join(words) or ANY, *_spoken(entry)]),
                services=() if is_any else tuple(dict.fromkeys(found)),
                sources=sources,
                targets=targets,
                place=self._place(said.at),
            )

    def _ends(self, entry: Fields, key: str, *, host: bool = False) -> Ends:
        """What `from` or `to` names; left out, anywhere or the node itself."""
        if key not in entry:
            return Ends(host=True) if host else Ends(anywhere=True)
        interfaces: list[str] = []
        addresses: list[str] = []
        words: set[str] = set()
        for said in entry[key].value:
            if said.value in (ANY, HOST):
                words.add(said.value)
            elif isinstance(said.value, str) and said.value in self.zones:
                interfaces += self.zones[said.value].interfaces
            elif said.value == self.draft.name:
                words.add(HOST)
            else:
                addresses += self._addresses(said)
        own = {str(a.address) for wire in self.draft.wires for a in wire.addresses}
        mine = [a for a in addresses if key == "to" and a.partition("/")[0] in own and _is_one(a)]
        return Ends(
            anywhere=ANY in words,
            host=HOST in words,
            interfaces=tuple(dict.fromkeys(interfaces)),
            addresses=tuple(dict.fromkeys(a for a in addresses if a not in mine)),
            own=tuple(dict.fromkeys(mine)),
        )

    def _addresses(self, said: Said) -> list[str]:
        if not isinstance(said.value, str):
            network: Network = said.value
            return [str(network)]
        other = self.every.get(said.value)
        if other is None:
            known = [*self.zones, *self.every, HOST, ANY]
            hint = self.source.suggest_or_list(said.value, known)
            message = f"there is no zone or node {quoted(said.value)}"
            self.source.report("unknown-name", message, said.at, hint)
            return []
        owner = self.every[other.shares_net] if other.shares_net else other
        found = [a.address for wire in owner.wires for a in wire.addresses]
        if not found:
            message = f"{quoted(said.value)} has no address"
            self.source.report("value", message, said.at)
        return [f"{each}/{each.max_prefixlen}" for each in found]

    def _forwards(self, fields: Fields) -> Iterator[Forward]:
        taken: dict[tuple[object, ...], Mark] = {}
        for said in fields.value("publish", []):
            entry: Fields = said.value
            if entry.flawed:
                continue
            endpoint, target = entry.value("port"), entry.value("to")
            if target.protocol == "udp" and endpoint.protocol != "udp":
                hint = f"write `{endpoint.port}/udp`"
                self.source.report("value", "the protocol stands with the port", said.at, hint)
            interfaces = [i for z in entry.value("from", []) for i in self._zone_interfaces(z)]
            for each in interfaces or [""]:
                if (first := taken.setdefault((each, *endpoint), said.at)) is not said.at:
                    message = f"{endpoint.port}/{endpoint.protocol} leads elsewhere already"
                    self.source.report("clash", f"{message}, at {self._place(first)}", said.at)
            zones = [z.value for z in entry.value("from", [])]
            words = [f"publish {endpoint.port}/{endpoint.protocol}"]
            words += ["from", ", ".join(zones)] if zones else []
            inner = target.port or endpoint.port
            yield Forward(
                said=" ".join([*words, "to", f"{target.host}:{inner}"]),
                protocol=endpoint.protocol,
                port=endpoint.port,
                interfaces=tuple(interfaces),
                addresses=tuple(map(str, self._published_to(target, entry["to"]))),
                inner=inner,
                place=self._place(said.at),
            )

    def _published_to(self, target: Target, said: Said) -> list[Address]:
        """The host's address, one a family; on a segment of this node if it is on one."""
        if re.fullmatch(r"[0-9.]+|.*:.*", target.host):
            return [address(target.host)]
        other = self.every.get(target.host)
        if other is None:
            hint = self.source.suggest_or_list(target.host, self.every)
            message = f"there is no node {quoted(target.host)}"
            self.source.report("unknown-name", message, said.at, hint)
            return []
        owner = self.every[other.shares_net] if other.shares_net else other
        near = {wire.segment for wire in self.draft.wires}
        wires = sorted(owner.wires, key=lambda wire: wire.segment not in near)
        found: dict[int, Address] = {}
        for wire in wires:
            for each in wire.addresses:
                found.setdefault(each.address.version, each.address)
        if not found:
            self.source.report("value", f"{quoted(target.host)} has no address", said.at)
        return list(found.values())

    def _raw(self, said: Said) -> str:
        depth = 0
        text: str = said.value
        for found in _BRACES.finditer(text):
            depth += {"{": 1, "}": -1}.get(found[0], 0)
            if depth < 0:
                break
        if depth:
            what = "closes more braces than it opens" if depth < 0 else "leaves a brace open"
            hint = "it stands inside `table inet hostlab { … }`"
            self.source.report("value", f"this {what}", said.at, hint)
        return text.strip("\n")


def _is_one(prefix: str) -> bool:
    return prefix.endswith("/128" if ":" in prefix else "/32")


def _spoken(entry: Fields) -> Iterator[str]:
    for key in ("from", "to"):
        if key in entry:
            yield key
            yield ", ".join(_word(said.value) for said in entry[key].value)


def _word(value: Any) -> str:
    text = str(value)
    return text.partition("/")[0] if not isinstance(value, str) and _is_one(text) else text
