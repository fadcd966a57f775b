"""Zones, services, and what is said of both in an expectations file (`expectations.py`); pure."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator
from ipaddress import ip_interface
from itertools import product
from typing import Final

import msgspec

from hostlab.errors import Place
from hostlab.firewall.answer import Verdict
from hostlab.firewall.packet import Packet, Protocol
from hostlab.firewall.target import Target
from hostlab.spec.shapes import Fields, Said
from hostlab.spec.source import Source, Wrong, quoted

HOST: Final = "host"
"""The zone that is the target itself."""
DENY: Final = "deny"
ENDS: Final = {
    **{each.value: (each,) for each in Verdict},
    DENY: (Verdict.DROP, Verdict.REJECT, Verdict.LOST),
}
"""A word of the file -> the verdicts that it allows."""
WELL_KNOWN: Final = {
    Protocol.TCP: (22, 80, 443, 3306, 8080, 40000),
    Protocol.UDP: (53, 123, 161, 5353, 40000),
}
"""What `else` asks for beside the neighbours of what is named."""
_SERVICE: Final = re.compile(r"(tcp|udp)/([^\s-]+)(?:-(\d+))?")


class Service(msgspec.Struct, frozen=True):
    """A protocol and a range of ports; all of ICMP is one."""

    protocol: Protocol
    first: int = 0
    last: int = 0

    def has(self, protocol: Protocol, port: int) -> bool:
        """Whether a port of a protocol is of it."""
        return self.protocol is protocol and self.first <= port <= self.last

    @property
    def ports(self) -> tuple[int, ...]:
        """Its first and its last one."""
        return tuple(sorted({self.first, self.last}))


def parse_service(word: str) -> Service:
    """`tcp/22`, `udp/domain`, `tcp/8000-8010`, `icmp`; Wrong for anything else."""
    if word == "icmp":
        return Service(Protocol.ICMP)
    found = _SERVICE.fullmatch(word)
    if found is None:
        raise Wrong(f"{quoted(word)} is no service", "as tcp/22, udp/domain, tcp/8000-8010, icmp")
    protocol, name = Protocol(found[1]), found[2]
    try:
        first = int(name) if name.isascii() and name.isdigit() else None
        if first is None:
            first = socket.getservbyname(name, protocol.value)
    except (OSError, UnicodeError):
        raise Wrong(f"{quoted(name)} is no {protocol} service of /etc/services") from None
    last = int(found[3]) if found[3] else first
    if not 0 < first <= last <= 0xFFFF:
        raise Wrong(f"{quoted(word)} has no port between 1 and 65535, the lower one first")
    return Service(protocol, first, last)


def _by_name(name: str) -> Service:
    if "/" in name or name == "icmp" or name.isdigit():
        return parse_service(name)
    for protocol in (Protocol.TCP, Protocol.UDP):
        try:
            port = socket.getservbyname(name, protocol.value)
        except (OSError, UnicodeError):
            continue
        return Service(protocol, port, port)
    raise Wrong(
        f"{quoted(name)} is neither one of `services` nor one of /etc/services",
        "as tcp/22, udp/domain, tcp/8000-8010, icmp, ssh",
    )


class Named(msgspec.Struct, frozen=True):
    """A service between two zones."""

    end: str
    """A word of `ENDS`."""
    label: str
    """As it was written."""
    services: tuple[Service, ...]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of the services between two zones."""

    source: str
    destination: str
    place: Place
    named: tuple[Named, ...] = ()
    otherwise: str | None = None
    """The end of what is not named; None: nothing is said of it."""

    def end(self, protocol: Protocol, port: int) -> str | None:
        """What a packet is expected to end as."""
        for each in self.named:
            if any(service.has(protocol, port) for service in each.services):
                return each.end
        return self.otherwise


class Zones:
    """The zones of a file, and the lines that say what goes on between them."""

    def __init__(self, source: Source, fields: Fields, target: Target) -> None:
        self._source = source
        self._items: list[Said] = fields.value("expect", [])
        self._zones: Fields = fields.value("zones", Fields())
        self._own = [each.value for each in fields.value(HOST, [])]
        self._target = target
        self.services: dict[str, tuple[Service, ...]] = {
            name: tuple(each.value for each in said.value)
            for name, said in fields.value("services", Fields()).items()
        }
        """Those with names of the file's own."""

    @property
    def names(self) -> tuple[str, ...]:
        """All zones in the order of the file, and the host behind them."""
        return (*(name for name in self._zones if name != HOST), HOST)

    def interface(self, name: str) -> str | None:
        """Where a zone's packets arrive; None for the host itself."""
        found: str | None = None if name == HOST else self._zones[name].value.value("interface")
        return found

    def lines(self) -> Iterator[list[Line]]:
        """For each item of zones what it says; errors are reported."""
        for item in self._items:
            if not isinstance(item.value, Fields):
                yield self.lines_of(item)

    def lines_of(self, item: Said) -> list[Line]:
        """What one item says."""
        found = (self._line(names, fields) for names, fields in item.value)
        return [line for line in found if line is not None]

    def _line(self, names: Said, fields: Fields) -> Line | None:
        for name in names.value:
            if name != HOST and name not in self._zones:
                hint = self._source.suggest_or_list(name, [*self._zones, HOST])
                self._source.report("no-zone", f"there is no zone {quoted(name)}", names.at, hint)
                return None
        here, there = names.value
        if here == there == HOST:
            self._source.report("no-zone", "from the host to itself", names.at)
            return None
        if not fields.flawed and not self.ends(here, there):
            hint = "`hosts` of a zone, `host:` or the target's interfaces have addresses"
            message = f"{here} and {there} have no addresses of one family"
            self._source.report("no-host", message, names.at, hint)
        return Line(
            source=here,
            destination=there,
            place=self._source.place(names.at),
            named=tuple(self._named(fields)),
            otherwise=fields.value("else"),
        )

    def _named(self, fields: Fields) -> Iterator[Named]:
        for word in ENDS:
            for said in fields.value(word, []):
                services = self.services.get(said.value)
                try:
                    yield Named(word, said.value, services or (_by_name(said.value),))
                except Wrong as wrong:
                    self._source.report("value", wrong.message, said.at, wrong.hint)

    def ends(self, here: str, there: str) -> list[tuple[str, str]]:
        """The addresses that packets between two zones have, source and destination."""
        return [
            (source, destination)
            for source, destination in product(self._hosts(here, there), self._hosts(there, here))
            if (":" in source) == (":" in destination) and source != destination
        ]

    def packets(self, here: str, there: str, asked: Asked) -> Iterator[Packet]:
        """One for each pair of hosts."""
        for source, destination in self.ends(here, there):
            yield Packet(
                protocol=asked.protocol,
                source=source,
                destination=destination,
                source_port=0 if asked.protocol is Protocol.ICMP else 40001,
                destination_port=asked.port,
                interface=self.interface(here),
            )

    def _hosts(self, name: str, other: str) -> list[str]:
        """A zone's hosts; of the target itself those that face the other zone."""
        if name != HOST:
            return [each.value for each in self._zones[name].value.value("hosts", [])]
        if self._own:
            return self._own
        facing = self.interface(other)
        return [
            str(ip_interface(address).ip)
            for each in self._target.interfaces
            if each.name == facing
            for address in each.addresses
        ]


class Asked(msgspec.Struct, frozen=True):
    """What a packet asks for."""

    protocol: Protocol
    port: int


def ports_of(services: Iterable[Service]) -> Iterator[Asked]:
    """The first and the last port of each."""
    for service in services:
        yield from (Asked(service.protocol, port) for port in service.ports)


def ports_beside(services: Iterable[Service]) -> Iterator[Asked]:
    """What is none of these services: their neighbours, a few well known, ICMP."""
    all_of_them = tuple(services)
    if not any(each.protocol is Protocol.ICMP for each in all_of_them):
        yield Asked(Protocol.ICMP, 0)
    for protocol, ports in WELL_KNOWN.items():
        ours = [each for each in all_of_them if each.protocol is protocol]
        near = {port for each in ours for port in (each.first - 1, each.last + 1)}
        for port in sorted(near.union(ports)):
            if 0 < port <= 0xFFFF and not any(each.has(protocol, port) for each in ours):
                yield Asked(protocol, port)
