"""What the publisher is told and what it answers: one packet each on a SOCK_SEQPACKET pair.

A packet is one JSON object; the descriptors it speaks of come with it by SCM_RIGHTS, in the order
in which they are named. Every command is answered before the next one is read, so that there are
never more than one command's descriptors under way (the kernel bounds them, ETOOMANYREFS).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from hostlab import typed

MAX_PACKET_BYTES = 1 << 17
"""Below the kernel's bound for one packet, `net.core.wmem_default` less its overhead."""

MAX_FDS = 200
"""Descriptors of one packet; the kernel's own bound is SCM_MAX_FD, 253."""

BATCH = 100
"""Nodes or publishes of one command; two descriptors each at most."""


PortNumber = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class Protocol(StrEnum):
    """What a published port speaks."""

    TCP = "tcp"
    UDP = "udp"


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A node as the publisher sees it."""

    name: str
    addresses: tuple[str, ...] = ()
    """The node's addresses with their prefix lengths, first one first."""
    reserved: tuple[int, ...] = ()
    """Ports that the node's own services take; nothing of ours listens on them in there."""


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """A published port; protocol, port and address together are its identity."""

    node: str
    port: PortNumber
    inner: PortNumber
    protocol: Protocol = Protocol.TCP
    address: str | None = None

    @property
    def id(self) -> str:
        """For messages and for `remove`: `tcp/9000`, `udp/192.0.2.1:53`, `tcp/[::1]:80`."""
        if self.address is None:
            return f"{self.protocol}/{self.port}"
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.protocol}/{host}:{self.port}"


class Nodes(msgspec.Struct, frozen=True, tag_field="do", tag="nodes"):
    """Nodes that are new or were restarted; a descriptor each: a network namespace or a pidfd."""

    nodes: tuple[Target, ...]


class Change(msgspec.Struct, frozen=True, tag_field="do", tag="change"):
    """Other addresses or reserved ports of nodes whose namespace stays; connections stay."""

    nodes: tuple[Target, ...]


class Gone(msgspec.Struct, frozen=True, tag_field="do", tag="gone"):
    """These nodes are no more; what they published stays, and refuses."""

    names: tuple[str, ...]


class Add(msgspec.Struct, frozen=True, tag_field="do", tag="add"):
    """Ports to publish; `counts[i]` descriptors of bound sockets belong to `publishes[i]`."""

    publishes: tuple[Published, ...]
    counts: tuple[int, ...]


class Remove(msgspec.Struct, frozen=True, tag_field="do", tag="remove"):
    """Ports to publish no more; their connections end."""

    ids: tuple[str, ...]


class Machine(msgspec.Struct, frozen=True, tag_field="do", tag="machine"):
    """The machine's own addresses, on which published ports answer inside the nodes too."""

    addresses: tuple[str, ...]


class Stat(msgspec.Struct, frozen=True, tag_field="do", tag="stat"):
    """Ask for numbers; `start` counts publishes, an answer holds at most `BATCH` of them."""

    start: int = 0


Command = Nodes | Change | Gone | Add | Remove | Machine | Stat


class PublishStat(msgspec.Struct, frozen=True, kw_only=True):
    """One published port in numbers, since it was added."""

    publish: Published
    open: int
    """Connections now; for UDP, clients heard of within the idle timeout."""
    connections: int
    refused: int
    """Connections that no address of the node took."""
    bytes_in: int
    """From clients to the node."""
    bytes_out: int
    inside: int
    """Listening sockets inside nodes."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What every command is answered with."""

    error: str = ""
    publishes: tuple[PublishStat, ...] = ()
    total: int = 0
    """Published ports, of which `publishes` is a part."""
    settled: bool = True
    """Every listening socket inside the nodes that can be made is made."""
    warnings: tuple[str, ...] = ()


encode = msgspec.json.Encoder().encode
decode_command = typed.decoder(Command).decode
decode_answer = typed.decoder(Answer).decode
