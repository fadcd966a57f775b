"""Ports as people write them: `80`, `80,443`, `8000-8010`, and a host before them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple, Self

from hostlab.probes.names import is_address

_TARGET = re.compile(r"(?:\[([^\]]+)\]|([^:\[\]\s/]+)):([0-9,-]+)")
_PART = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")


class Ports(NamedTuple):
    """Some ports of a host."""

    host: str
    ports: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """`HOST:PORTS`, an IPv6 address in brackets; ValueError for anything else."""
        found = _TARGET.fullmatch(text)
        if found is None or (found[1] and not is_address(found[1])):
            raise ValueError(f"{text!r} is not HOST:PORTS, as web1:80 or [fd00::1]:22,8000-8010")
        return cls(found[1] or found[2], parse_ports(found[3]))


def parse_ports(text: str) -> tuple[int, ...]:
    """`22,80,8000-8010` in order, each once; ValueError."""
    found: dict[int, None] = {}
    for part in text.split(","):
        words = _PART.fullmatch(part)
        first, last = (int(words[1]), int(words[2] or words[1])) if words else (0, 0)
        if not 0 < first <= last < 65536:
            raise ValueError(f"{part!r} is no port and no range of ports, as 80 or 8000-8010")
        found.update(dict.fromkeys(range(first, last + 1)))
    return tuple(found)


def ranges(ports: Iterable[int]) -> str:
    """`22,80,8000-8010`."""
    texts: list[str] = []
    first = last = -2
    for port in sorted(ports):
        if port == last + 1:
            last = port
            texts[-1] = f"{first}-{last}"
        else:
            first = last = port
            texts.append(str(port))
    return ",".join(texts)
