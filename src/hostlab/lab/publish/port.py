"""A published port while it is served: its sockets, its connections, its numbers."""

from __future__ import annotations

import socket
from typing import Protocol

import msgspec

from hostlab.lab.publish.messages import Published, PublishStat


class Conversation(Protocol):
    """A TCP connection, or a UDP client that was heard of lately."""

    node: str

    def abort(self) -> None:
        """End it now; the client sees a reset where the protocol has one."""
        ...


class Port(msgspec.Struct, eq=False):
    """One published port."""

    publish: Published
    outside: tuple[socket.socket, ...]
    """The machine's sockets, made by the command line."""
    inside: dict[tuple[str, str], socket.socket] = msgspec.field(default_factory=dict)
    """Those in nodes, by node and address."""
    conversations: set[Conversation] = msgspec.field(default_factory=set)
    connections: int = 0
    refused: int = 0
    bytes_in: int = 0
    bytes_out: int = 0

    def abort(self, node: str | None = None) -> None:
        """End every conversation, or those with one incarnation of a node."""
        for conversation in tuple(self.conversations):
            if node is None or conversation.node == node:
                conversation.abort()

    def stat(self) -> PublishStat:
        """The numbers so far."""
        return PublishStat(
            publish=self.publish,
            open=len(self.conversations),
            connections=self.connections,
            refused=self.refused,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            inside=len(self.inside),
        )
