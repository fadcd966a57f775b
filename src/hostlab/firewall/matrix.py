"""Who may reach what: what is meant of zones and services beside what packets do; pure.

A cell is a service from one zone to another. Its packets go from each host of the one to each of
the other. What the file does not allow is meant to be denied, also between zones that it says
nothing of; ports that are no service of the file stand together in a column of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from hostlab.errors import Place
from hostlab.firewall.answer import Answer
from hostlab.firewall.packet import Packet
from hostlab.firewall.zones import (
    DENY,
    ENDS,
    Asked,
    Line,
    Service,
    Zones,
    ports_beside,
    ports_of,
)

OTHER: Final = "any other"
"""The column of what is no service of the file."""
ACCEPT: Final = "accept"


class State(StrEnum):
    """What a cell comes to."""

    OPEN = "open"
    """Reached, as it is meant."""
    SHUT = "shut"
    """Denied, as it is meant."""
    PARTLY = "partly"
    """Some are meant to be reached and others not, and so it is."""
    LEAK = "leak"
    """Something is reached that is not meant to be."""
    BROKEN = "broken"
    """Something is not reached that is meant to be, or is denied in another way."""


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """A packet, what it was meant to end as, and its end."""

    end: str
    """A word of the expectations file."""
    answer: Answer

    @property
    def is_as_meant(self) -> bool:
        """Whether the packet ended so."""
        return self.answer.verdict in ENDS[self.end]


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """A service from one zone to another."""

    source: str
    destination: str
    service: str
    place: Place | None
    """Where the file speaks of the two zones; None: it does not, so all is denied."""
    probes: tuple[Probe, ...]

    @property
    def state(self) -> State:
        """The worst of its packets."""
        wrong = [each for each in self.probes if not each.is_as_meant]
        if any(each.answer.verdict == ACCEPT for each in wrong):
            return State.LEAK
        if wrong:
            return State.BROKEN
        reached = {each.answer.verdict == ACCEPT for each in self.probes}
        if len(reached) == 2:
            return State.PARTLY
        return State.OPEN if True in reached else State.SHUT

    @property
    def is_difference(self) -> bool:
        """Whether packets do other than is meant."""
        return self.state in (State.LEAK, State.BROKEN)

    @property
    def told(self) -> tuple[Probe, ...]:
        """The packets that tell most: those that are not as meant, else all."""
        return tuple(each for each in self.probes if not each.is_as_meant) or self.probes


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """Packets that are not as meant, by one rule."""

    sample: Probe
    count: int


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Services from one zone to another that are not as meant, in the same way."""

    cells: tuple[Cell, ...]

    @property
    def first(self) -> Cell:
        """One of them, which tells zones, state and place of all."""
        return self.cells[0]

    @property
    def services(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(each.service for each in self.cells)

    @property
    def causes(self) -> tuple[Cause, ...]:
        """For each rule that decided one packet of it, and how many there are."""
        found: dict[tuple[object, ...], list[Probe]] = {}
        for cell in self.cells:
            for probe in cell.told:
                key = (probe.end, probe.answer.verdict, probe.answer.decided_by)
                found.setdefault(key, []).append(probe)
        return tuple(Cause(sample=each[0], count=len(each)) for each in found.values())


class Matrix(msgspec.Struct, frozen=True, kw_only=True):
    """Everything asked of a ruleset."""

    zones: tuple[str, ...]
    services: tuple[str, ...]
    cells: Mapping[tuple[str, str, str], Cell]
    """By source, destination and service; a pair of zones that cannot speak has none."""

    @property
    def wrong(self) -> tuple[Cell, ...]:
        """What is not as meant."""
        return tuple(each for each in self.cells.values() if each.is_difference)

    @property
    def differences(self) -> tuple[Difference, ...]:
        """What is not as meant by its zones, that which is open and should not be first."""
        found: dict[tuple[str, str, State], list[Cell]] = {}
        for cell in self.wrong:
            found.setdefault((cell.source, cell.destination, cell.state), []).append(cell)
        together = [Difference(cells=tuple(each)) for each in found.values()]
        return tuple(sorted(together, key=lambda each: each.first.state is not State.LEAK))

    @property
    def packets(self) -> int:
        """How many were sent."""
        return sum(len(each.probes) for each in self.cells.values())


Ask = Callable[[Iterable[Packet]], Sequence[Answer]]


def made(zones: Zones, lines: Iterable[Line], ask: Ask) -> Matrix:
    """The matrix of a file; `ask` sends packets through the ruleset."""
    said = _Said(zones, tuple(lines))
    wanted = [
        (source, destination, service, end, packet)
        for source, destination in said.pairs()
        for service, ports in said.columns.items()
        for port in ports
        for end in (said.end(source, destination, port),)
        for packet in zones.packets(source, destination, port)
    ]
    answers = ask(each[4] for each in wanted)
    probes: dict[tuple[str, str, str], list[Probe]] = {}
    for (source, destination, service, end, _), answer in zip(wanted, answers, strict=True):
        key = (source, destination, service)
        probes.setdefault(key, []).append(Probe(end=end, answer=answer))
    cells = {
        key: Cell(
            source=key[0],
            destination=key[1],
            service=key[2],
            place=said.place(key[0], key[1]),
            probes=tuple(found),
        )
        for key, found in probes.items()
    }
    return Matrix(zones=zones.names, services=tuple(said.columns), cells=cells)


class _Said:
    """The lines of a file by their zones; a later line adds to an earlier one."""

    def __init__(self, zones: Zones, lines: tuple[Line, ...]) -> None:
        self._zones = zones
        self._lines: dict[tuple[str, str], list[Line]] = {}
        services: dict[str, tuple[Service, ...]] = dict(zones.services)
        for line in lines:
            self._lines.setdefault((line.source, line.destination), []).append(line)
            services |= {each.label: each.services for each in line.named}
        every = [service for each in services.values() for service in each]
        self.columns: dict[str, tuple[Asked, ...]] = {
            **{label: tuple(ports_of(each)) for label, each in services.items()},
            OTHER: tuple(ports_beside(every)),
        }

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Zones that are asked for; within one only where the file speaks of it."""
        for source in self._zones.names:
            for destination in self._zones.names:
                if source != destination or (source, source) in self._lines:
                    yield source, destination

    def end(self, source: str, destination: str, asked: Asked) -> str:
        """What is meant to become of a packet."""
        found = self._lines.get((source, destination), ())
        named = (each.end(asked.protocol, asked.port) for each in found)
        return next((end for end in named if end is not None), DENY)

    def place(self, source: str, destination: str) -> Place | None:
        """Where the file speaks of two zones."""
        found = self._lines.get((source, destination))
        return found[0].place if found else None
