"""Descriptions of any size, and what is in them: the same for `validate`, `up` and `reach.py`.

Addresses are written out, so that the benchmark knows where everybody is without asking hostlab.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

BASE = 10 << 24
SEGMENT_BITS = 12
"""A segment's subnet is a /20: 4,094 nodes, and 1,023 segments below 10.63.255.255."""


@dataclass(frozen=True, slots=True)
class Expected:
    """A node as the description has it."""

    name: str
    segment: str
    address: str


def expected(nodes: int, segments: int) -> tuple[Expected, ...]:
    """The nodes of `description(nodes, segments)`, dealt out to the segments in turn."""
    return tuple(
        Expected(f"n{at}", f"s{at % segments}", address(at % segments, at // segments + 1))
        for at in range(nodes)
    )


def address(segment: int, host: int) -> str:
    """The address of a segment's host, without its prefix."""
    return socket.inet_ntoa((BASE + (segment << SEGMENT_BITS) + host).to_bytes(4, "big"))


def description(name: str, nodes: int, segments: int, *, job: str | None = None) -> str:
    """A lab as YAML; with `job`, every node runs that command."""
    lines = [f"name: {name}", "segments:"]
    prefix = 32 - SEGMENT_BITS
    lines += [f"  s{at}: {{subnets: [{address(at, 0)}/{prefix}]}}" for at in range(segments)]
    lines.append("nodes:")
    for node in expected(nodes, segments):
        lines += [
            f"  {node.name}:",
            "    interfaces:",
            f"      eth0: {{segment: {node.segment}, addresses: [{node.address}/{prefix}]}}",
        ]
        if job is not None:
            lines += ["    jobs:", f"      work: {{exec: {job}}}"]
    return "\n".join(lines) + "\n"


def write(directory: Path, name: str, nodes: int, segments: int, *, job: str | None = None) -> Path:
    """The description as a file in `directory`."""
    path = directory / f"{name}.yaml"
    path.write_text(description(name, nodes, segments, job=job), encoding="utf-8")
    return path
