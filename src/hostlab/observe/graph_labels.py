"""What every picture of a lab says about its parts, as lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from hostlab.spec.model import Interface, Lab, Node, Publish, Segment, SegmentKind


class State(StrEnum):
    """How a node is, for its colour."""

    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"


States = Mapping[str, State]
"""The states of the nodes that are known, by name."""

_MAX_TEXT: Final = 200
"""Characters of one label; more is cut with an ellipsis."""


def clean(text: str) -> str:
    """One printable line: what XML and terminals do not take becomes U+FFFD."""
    shown = "".join(c if c.isprintable() else "\ufffd" for c in text)
    return shown if len(shown) <= _MAX_TEXT else shown[: _MAX_TEXT - 1] + "…"


def segment_details(segment: Segment) -> list[str]:
    """Its subnets and what is unusual about it."""
    details = [clean(subnet) for subnet in segment.subnets]
    if segment.kind is not SegmentKind.BRIDGE:
        details.append(segment.kind.value)
    if segment.mtu != 1500:
        details.append(f"mtu {segment.mtu}")
    return details


def published(publish: Publish) -> str:
    """One published port: `127.0.0.1:8080 -> 80/udp`."""
    address = publish.address or "*"
    host = f"[{address}]" if ":" in address else address
    tail = "/udp" if publish.protocol == "udp" else ""
    return clean(f"{host}:{publish.port} -> {publish.inner}{tail}")


def node_notes(node: Node) -> list[str]:
    """What a picture says of a node beside its interfaces."""
    shared = [f"shares {kind} of {other}" for kind, other in node.namespaces]
    return [clean(text) for text in (*shared, *(published(p) for p in node.publish))]


def attachments(lab: Lab) -> dict[str, list[tuple[Node, Interface]]]:
    """By segment, in the lab's order: its nodes with the interface that is there."""
    found: dict[str, list[tuple[Node, Interface]]] = {segment.name: [] for segment in lab.segments}
    for node in lab.nodes:
        for interface in node.interfaces:
            # An interface of a segment that is not in the lab is drawn nowhere.
            if interface.segment in found:
                found[interface.segment].append((node, interface))
    return found
