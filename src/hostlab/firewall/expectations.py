"""What a firewall is expected to do, as a file says it; pure.

    zones:
      wan: {interface: eth0, hosts: 198.51.100.7}
      lan: {interface: eth1, hosts: [10.0.0.9, "fd00::9"]}
    expect:
      - accept: tcp 198.51.100.7 -> 203.0.113.10:22 in eth0
        by: SSH
      - accept: tcp 198.51.100.7 -> 203.0.113.10:81 in eth0
        nat: to 10.0.0.9:80
        leaves: eth1
      - wan -> host: {accept: [tcp/22, icmp], else: drop}
      - lan -> host: [ssh, dns]        # these are accepted, and all else is denied
    services:
      dns: [udp/53, tcp/53]

A packet is expected to end as `accept`, `drop`, `reject`, `lost` (no rule, but no way either), or
`deny`, which is any of the last three. `host` is a zone of its own: the addresses that the target
has on the other zone's interface, or those under the key `host`. What stands in a zone's line for
services is asked from each of its hosts to each of the other's, of one family; `else` is asked with
ports that are near those named, and a few well known. A service's bare name is one of `services`,
or of /etc/services: its port of TCP, or of UDP where TCP has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Final

import msgspec

from hostlab.errors import Place, SpecError
from hostlab.firewall.answer import Answer
from hostlab.firewall.packet import Packet, parse_packet, print_packet
from hostlab.firewall.target import Target
from hostlab.firewall.zones import (
    ENDS,
    HOST,
    Line,
    Zones,
    parse_service,
    ports_beside,
    ports_of,
)
from hostlab.spec.shapes import Fields, Key, ListOf, MapOf, Said, Shape, Table, Text, choice
from hostlab.spec.source import START, Source, Wrong, quoted
from hostlab.spec.tree import Mapping, Scalar, Tree, kind
from hostlab.spec.yaml_text import compose

MAX_PACKETS: Final = 100_000
_ARROW: Final = re.compile(r"\s*(\S+)\s*(?:->|→)\s*(\S+)\s*")
_NAT: Final = re.compile(r"none|(?:from (\S+))?\s*(?:to (\S+))?")


class Nat(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What NAT is expected to have made of a packet; None is not looked at, port 0 neither."""

    source: str | None = None
    source_port: int = 0
    destination: str | None = None
    destination_port: int = 0
    is_none: bool = False
    """Nothing may have changed."""


class Expected(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One packet, and what is expected of it."""

    packet: Packet
    end: str
    """A word of `ENDS`."""
    place: Place
    nat: Nat | None = None
    by: str = ""
    """Something that stands in the rule that decides, its chain or its place."""
    leaves: str = ""
    """The interface by which it goes."""


def failure(expected: Expected, answer: Answer) -> str:
    """What is not as expected, in words; empty when all is."""
    if answer.verdict not in ENDS[expected.end]:
        return f"expected {expected.end}, got {answer.verdict}"
    if expected.by and not any(expected.by in text for text in _names(answer)):
        return f"expected a rule with {expected.by!r} to decide"
    if expected.leaves and answer.left_by != expected.leaves:
        found = answer.left_by or "it did not leave"
        return f"expected to leave by {expected.leaves}, got {found}"
    if expected.nat is not None and (wrong := _nat_failure(expected.nat, answer)):
        return wrong
    return ""


def _names(answer: Answer) -> Iterator[str]:
    step = answer.decided_by
    if step is not None:
        yield f"{step.family} {step.table} {step.chain} {step.rule}"
        if step.place is not None:
            yield str(step.place)


def _nat_failure(nat: Nat, answer: Answer) -> str:
    left = answer.left_as or answer.packet
    if nat.is_none:
        return "" if answer.left_as is None else f"expected no NAT, got {print_packet(left)}"
    pairs = (
        (nat.source, left.source),
        (nat.destination, left.destination),
        (nat.source_port or None, left.source_port),
        (nat.destination_port or None, left.destination_port),
    )
    if all(wanted is None or wanted == got for wanted, got in pairs):
        return ""
    return f"expected other NAT, got {print_packet(left)}"


def _address(word: str) -> str:
    try:
        return str(ip_address(word))
    except ValueError:
        raise Wrong(f"{quoted(word)} is no address", "as 203.0.113.10 or 2001:db8::10") from None


def _host(word: str) -> str:
    """An address, or the first one of a prefix."""
    if "/" not in word:
        return _address(word)
    try:
        network = ip_network(word)
    except ValueError as error:
        raise Wrong(f"{quoted(word)} is no prefix: {error}", "as 10.0.0.0/24") from None
    return str(network[min(1, network.num_addresses - 1)])


def _nat(text: str) -> Nat:
    found = _NAT.fullmatch(text.strip())
    if found is None or not text.strip():
        raise Wrong(f"{quoted(text)} is no NAT", "as `to 10.0.0.9:80`, `from 203.0.113.10`, `none`")
    if text.strip() == "none":
        return Nat(is_none=True)
    source, source_port = _endpoint(found[1])
    destination, destination_port = _endpoint(found[2])
    return Nat(
        source=source,
        source_port=source_port,
        destination=destination,
        destination_port=destination_port,
    )


def _endpoint(text: str | None) -> tuple[str | None, int]:
    if text is None:
        return None, 0
    bare, _, port = text.rpartition(":")
    if text.startswith("[") and bare.endswith("]"):
        return _address(bare[1:-1]), _port(port)
    if text.count(":") == 1:
        return _address(bare), _port(port)
    return _address(text.strip("[]")), 0


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 0xFFFF):
        raise Wrong(f"{quoted(text)} is no port")
    return int(text)


_NAME: Final = Text("a name", str, {"type": "string"})
_ADDRESS: Final = Text("an address or a prefix", _host, {"type": "string"})
_SERVICES: Final = ListOf(Text("a service", str, {"type": "string"}))
_DEFINED: Final = ListOf(Text("a service", parse_service, {"type": "string"}))
_PACKET: Final = Text("a packet", str, {"type": "string"})
_ZONE: Final = Table(
    "zone",
    "A part of the network, and hosts in it that packets are sent from and to.",
    (
        Key("interface", _NAME, "Where its packets arrive.", "eth0"),
        Key("hosts", ListOf(_ADDRESS), "Hosts of it; a prefix stands for its first.", "10.0.0.9"),
    ),
    required=("interface", "hosts"),
)
_SINGLE: Final = Table(
    "expectation",
    "A packet, under the word for its end.",
    (
        *(Key(word, _PACKET, f"The packet that ends as {word}.", "") for word in ENDS),
        Key("nat", Text("NAT", _nat, {"type": "string"}), "What NAT does.", "to 10.0.0.9:80"),
        Key("by", _NAME, "Something of the rule that decides, or of its place.", "SSH"),
        Key("leaves", _NAME, "The interface by which it goes.", "eth1"),
    ),
    exclusive=(tuple(ENDS),),
)
_PAIR: Final = Table(
    "expectation of zones",
    "Services under the word for their end, and the end of all others.",
    (
        *(
            Key(word, _SERVICES, f"Services whose packets end as {word}.", "tcp/22")
            for word in ENDS
        ),
        Key("else", choice("an end", tuple(ENDS)), "The end of what is not named.", "drop"),
    ),
)


class _Services(Shape):
    """What is accepted between two zones, all else being denied; or every end by its word."""

    words = "a list of services, or `accept:` and the like"

    def read(self, source: Source, tree: Tree) -> Said | None:
        """The fields of `_PAIR` for both."""
        if isinstance(tree, Mapping):
            return _PAIR.read(source, tree)
        said = _SERVICES.read(source, tree)
        if said is None:
            return None
        return Said(Fields({"accept": said, "else": Said("deny", tree.at, tree.at)}), *said[1:])


class _Item(Shape):
    """A packet's line or that of two zones."""

    words = "an expectation"

    def read(self, source: Source, tree: Tree) -> Said | None:
        """The fields of either; of zones under `zones` their two names."""
        pairs = tree.pairs if isinstance(tree, Mapping) else []
        if not any(_ARROW.fullmatch(key.value) for key, _ in pairs):
            return _SINGLE.read(source, tree)
        found = []
        for key, value in pairs:
            names = _ARROW.fullmatch(key.value)
            if names is None:
                hint = "a line of its own: `- accept: PACKET`"
                source.report("unknown-key", f"{quoted(key.value)} among zones", key.at, hint)
                continue
            said = _Services().read(source, value)
            if said is not None:
                found.append((Said((names[1], names[2]), key.at, key.at), said.value))
        return Said(found, tree.at, tree.at)


_FILE: Final = Table(
    "expectations file",
    "What a firewall is expected to do.",
    (
        Key("zones", MapOf(_NAME, _ZONE), "Parts of the network.", ""),
        Key("services", MapOf(_NAME, _DEFINED), "Services by a name of one's own.", ""),
        Key(HOST, ListOf(_ADDRESS), "The target's addresses, for the zone of that name.", ""),
        Key("expect", ListOf(_Item(), alone=False), "The expectations.", ""),
    ),
    required=("expect",),
)


def read_expectations(text: str, *, file: str, target: Target) -> tuple[Expected, ...]:
    """Every packet of a file with its expectation; SpecErrors with all that is wrong."""
    source, fields = _read(text, file)
    found = tuple(Expander(source, fields, target).all())
    source.raise_errors()
    return found


def read_zones(text: str, *, file: str, target: Target) -> tuple[Zones, tuple[Line, ...]]:
    """A file's zones, and what it says of services between them; what it says else is left out."""
    source, fields = _read(text, file)
    zones = Zones(source, fields, target)
    lines = tuple(line for each in zones.lines() for line in each)
    if not fields.value("zones") and not fields.flawed:
        source.report("missing", "there are no zones in it", START, "see `zones:`")
    source.raise_errors()
    return zones, lines


def _read(text: str, file: str) -> tuple[Source, Fields]:
    source = Source(text.removeprefix("\ufeff"), file)
    tree = compose(source)
    if tree is None:
        source.raise_errors()
        source.report("missing", "there is no expectation in it", START, "see `expect:`")
        source.raise_errors()
    assert tree is not None
    if isinstance(tree, Scalar):
        source.report("type", f"expectations belong here, not {kind(tree)}", tree.at)
        source.raise_errors()
    if isinstance(tree, Mapping):
        said = _FILE.read(source, tree)
        return source, said.value if said is not None else Fields()
    items = ListOf(_Item(), alone=False).read(source, tree)
    return source, Fields({"expect": items}) if items is not None else Fields()


class Expander:
    """Makes packets of what was read."""

    def __init__(self, source: Source, fields: Fields, target: Target) -> None:
        self._source = source
        self._items: list[Said] = fields.value("expect", [])
        self._zones = Zones(source, fields, target)
        self._count = 0

    def all(self) -> Iterator[Expected]:
        """Every packet with its expectation; errors are reported."""
        for item in self._items:
            found = self._single(item) if isinstance(item.value, Fields) else self._between(item)
            for expected in found:
                self._count += 1
                if self._count > MAX_PACKETS:
                    message = f"more than {MAX_PACKETS:,} packets"
                    self._source.report("too-many", message, item.at)
                    return
                yield expected

    def _between(self, item: Said) -> Iterator[Expected]:
        for line in self._zones.lines_of(item):
            asked = [(each.end, ports_of(each.services)) for each in line.named]
            if line.otherwise is not None:
                services = [service for each in line.named for service in each.services]
                asked.append((line.otherwise, ports_beside(services)))
            for end, ports in asked:
                for port in ports:
                    for packet in self._zones.packets(line.source, line.destination, port):
                        yield Expected(packet=packet, end=end, place=line.place)

    def _single(self, item: Said) -> Iterator[Expected]:
        fields: Fields = item.value
        word = next((each for each in ENDS if each in fields), None)
        if word is None:
            if not fields.flawed:
                known = ", ".join(ENDS)
                self._source.report("missing", "no end is expected", item.at, f"one of {known}")
            return
        said = fields[word]
        place = self._source.place(said.at)
        shift = int(place.text[place.column - 1 : place.column] in ("'", '"'))
        try:
            packet = parse_packet(
                said.value,
                file=place.file,
                line=place.line,
                column=place.column + shift,
                whole=place.text,
            )
        except SpecError as error:
            self._source.report_elsewhere(error)
            return
        yield Expected(
            packet=packet,
            end=word,
            place=self._source.place(fields[word].key),
            nat=fields.value("nat"),
            by=fields.value("by", ""),
            leaves=fields.value("leaves", ""),
        )
