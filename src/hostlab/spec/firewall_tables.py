"""Every key of a node's firewall, and its rules in one line: part of `tables.py`."""

from __future__ import annotations

import re
from typing import Any, Final

from hostlab.spec import forms, names, units
from hostlab.spec.firewall import Verdict
from hostlab.spec.scalars import ENDPOINT, NAME
from hostlab.spec.services import SERVICES, service
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
from hostlab.spec.units import Network

_ADDRESS: Final = re.compile(r"[0-9.]+(/[0-9]+)?|.*:.*|.*/.*")


def end(word: str) -> Network | str:
    """Where packets come from or go to: a prefix, or a name that is looked up later."""
    return units.prefix(word) if _ADDRESS.fullmatch(word) else names.name(word)


SERVICE: Final = Text(
    "a service", service, {"type": ["string", "integer"]}, [*SERVICES, "PORT", "PORT/udp"]
)
END: Final = Text("a zone, a node, an address, a prefix, `host` or `any`", end, {"type": "string"})
_WIRE: Final = Text("an interface or a segment", units.text, {"type": "string"})
_ZONE_NAME: Final = Text("a zone", names.name, {"type": "string"})
_VERDICT: Final = choice("drop, reject or accept", tuple(Verdict))
_HINT: Final = "write `SERVICE[, SERVICE] [from WHOM] [to WHOM]`"


def _flawed() -> Fields:
    fields = Fields()
    fields.flawed = True
    return fields


def _said(value: Any, like: Said) -> Said:
    return Said(value, like.at, like.at)


def _parts(words: list[str], keys: tuple[str, ...]) -> dict[str, list[str]]:
    """Words by the keyword before them; those before any are under the first key."""
    parts: dict[str, list[str]] = {keys[0]: []}
    key = keys[0]
    for word in words:
        if word in keys[1:]:
            if word in parts:
                raise Wrong(f"{quoted(word)} is here twice", _HINT)
            key = word
            parts[key] = []
        else:
            parts[key].append(word)
    for key, found in parts.items():
        if not found:
            raise Wrong(f"nothing stands for `{key}`", _HINT)
    return parts


def rule_text(source: Source, said: Said) -> Fields:
    """`SERVICES [from WHOM] [to WHOM]`, lists with commas or blanks."""
    fields = Fields()
    shapes = {"services": SERVICE, "from": END, "to": END}
    try:
        parts = _parts(said.value.replace(",", " ").split(), tuple(shapes))
    except Wrong as wrong:
        source.report("value", wrong.message, said.at, wrong.hint)
        return _flawed()
    for key, words in parts.items():
        found = []
        for word in words:
            try:
                found.append(_said(shapes[key].parse(word), said))
            except Wrong as wrong:
                hint = wrong.hint or source.suggest(word, SERVICES) or _HINT
                source.report("value", wrong.message, said.at, hint)
                return _flawed()
        fields[key] = _said(found, said)
    return fields


def forward_text(source: Source, said: Said) -> Fields:
    """`PORT[/udp] [from ZONE] to HOST[:PORT]`."""
    try:
        parts = _parts(said.value.replace(",", " ").split(), ("port", "from", "to"))
        if any(len(parts.get(key, ["one"])) != 1 for key in ("port", "to")):
            raise Wrong(f"{quoted(said.value)} is not one port that leads to one other")
        if "to" not in parts:
            raise Wrong(f"{quoted(said.value)} leads nowhere")
        port, target = units.endpoint(parts["port"][0]), forms.target(parts["to"][0])
    except Wrong as wrong:
        hint = wrong.hint or "write `PORT[/udp] [from ZONE] to HOST[:PORT]`"
        source.report("value", wrong.message, said.at, hint)
        return _flawed()
    fields = Fields(port=_said(port, said), to=_said(target, said))
    if "from" in parts:
        fields["from"] = _said([_said(word, said) for word in parts["from"]], said)
    return fields


_SERVICES: Final = ", ".join(f"`{name}`" for name in sorted(SERVICES))
RULE: Final = Table(
    "firewall rule",
    "What is allowed or denied. In one line: `ssh, http from lan to dmz`. `host` is the node "
    "itself, `any` is everybody; a zone stands before a node of its name, a node is its addresses. "
    f"A service is a port (`8080`, `53/udp`, `6000-6010/tcp`) or one of {_SERVICES}.",
    (
        Key("services", ListOf(SERVICE), "What.", "[ssh, 8080]", "any", aliases=("service",)),
        Key("from", ListOf(END), "From where; `host` is what the node itself sends.",
            "[wan, 203.0.113.0/24]", "any"),
        Key("to", ListOf(END), "To where; beyond the node unless it is `host` or an address of "
            "its own.", "[dmz]", "host; any for what comes from the host"),
    ),
)  # fmt: skip
FORWARD: Final = Table(
    "firewall port",
    "A port of the node that leads to another host's (DNAT), and is allowed there. In one line: "
    "`8080 from wan to web:80`.",
    (
        Key("port", ENDPOINT, "The node's port, at each of its addresses.", "53/udp"),
        Key("from", ListOf(_ZONE_NAME), "The zones it is there for.", "[wan]", "everybody"),
        Key("to", Text("`HOST` or `HOST:PORT`", forms.target, {"type": "string"}),
            "A node or an address, and its port.", "web:80", ""),
    ),
    required=("port", "to"),
)  # fmt: skip
ZONE: Final = Table(
    "zone",
    "Interfaces behind which everybody is treated alike.",
    (
        Key("interfaces", ListOf(_WIRE), "Interfaces of the node, or segments it is on.",
            "[eth0]", "the zone's name", aliases=("interface",)),
        Key("default", _VERDICT, "What becomes of packets from there that no rule is about.",
            "reject", "the firewall's"),
    ),
)  # fmt: skip


def _interfaces(_source: Source, said: Said) -> Fields:
    return Fields(interfaces=said._replace(value=[said]))


_ZONES: Final = Forms(
    scalar=(NAME, lambda s, said: names_only(s, said._replace(value=[said]))),
    sequence=(ListOf(NAME, alone=False), names_only),
    mapping=(
        MapOf(
            NAME,
            Forms(
                scalar=(_WIRE, _interfaces),
                sequence=(ListOf(_WIRE), under("interfaces")),
                mapping=(ZONE, None),
                null=Fields,
            ),
        ),
        None,
    ),
    words="a list or a mapping of zones",
)
_LINE: Final = Text("a line of words", units.text, {"type": ["string", "integer"]})
_RULES: Final = ListOf(Forms(scalar=(_LINE, rule_text), mapping=(RULE, None)))
FIREWALL: Final = Table(
    "firewall",
    "The node's packet filter: a table `inet hostlab` of nft's, loaded before its jobs start, "
    "changed in one transaction; other tables are not touched. Answers to what was allowed, "
    "loopback and IPv6's neighbour discovery always pass. A text alone is `raw`.",
    (
        Key("zones", _ZONES, "Names for interfaces: a list of segments, or a mapping from each "
            "name to interfaces or segments of the node.", "{wan: eth0, lan: [eth1, eth2]}",
            aliases=("zone",)),
        Key("default", _VERDICT, "What becomes of packets to and through the node that no rule is "
            "about.", "reject", "drop with zones or `allow`, else accept"),
        Key("deny", _RULES, "What is not allowed, whatever `allow` says: dropped, or rejected "
            "where `default` is reject.", "[smtp from lan to wan]"),
        Key("allow", _RULES, "What is allowed.", "[ssh from lan, any from lan to wan]"),
        Key("masquerade", ListOf(_ZONE_NAME), "Zones; what leaves there over IPv4 gets the node's "
            "address (SNAT).", "wan"),
        Key("publish", ListOf(Forms(scalar=(_LINE, forward_text), mapping=(FORWARD, None))),
            "Ports of the node that lead to other hosts (DNAT).", "[8080 from wan to web:80]"),
        Key("raw", Text("lines of nft", units.text, {"type": "string"}), "nft's own words, inside "
            "the table: chains and sets of your own; `chain input`, `forward`, `output`, "
            "`prerouting` and `postrouting` add to the end of those that are made here.",
            "'chain input { tcp dport 113 reject; }'"),
    ),
)  # fmt: skip
