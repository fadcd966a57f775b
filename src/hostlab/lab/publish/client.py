"""Whoever tells the publisher what to do: commands as calls, split into packets as needed."""

from __future__ import annotations

import array
import itertools
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from hostlab.errors import Failed
from hostlab.lab.publish import messages
from hostlab.lab.publish.messages import Answer, Command, Published, Target
from hostlab.lab.publish.sockets import PublishedSocket

ANSWER_TIMEOUT_S = 10.0

Item = TypeVar("Item")


def _batches(items: Iterable[Item]) -> Iterator[tuple[Item, ...]]:
    iterator = iter(items)
    while batch := tuple(itertools.islice(iterator, messages.BATCH)):
        yield batch


class PublisherClient:
    """The other end of the publisher's control socket.

    Every call waits for its answer and raises `Failed` (code `publisher`) with what the publisher
    said when it could not; OSError when it is gone or does not answer in time.
    """

    def __init__(self, control: socket.socket) -> None:
        control.settimeout(ANSWER_TIMEOUT_S)
        self._control = control

    def close(self) -> None:
        """Close the control socket; if it is the last copy, the publisher ends."""
        self._control.close()

    def nodes(self, nodes: Mapping[Target, int]) -> None:
        """New or restarted nodes, each with a descriptor: its network namespace, or a pidfd.

        With a pidfd the publisher notices by itself when the node ends. Connections to an
        earlier incarnation of the node end. The descriptors stay the caller's.
        """
        for batch in _batches(nodes.items()):
            self._call(messages.Nodes(tuple(one for one, _ in batch)), [fd for _, fd in batch])

    def change(self, nodes: Iterable[Target]) -> None:
        """Other addresses or reserved ports of nodes that run on; connections stay."""
        for batch in _batches(nodes):
            self._call(messages.Change(batch))

    def gone(self, names: Iterable[str]) -> None:
        """These nodes are no more."""
        for batch in _batches(names):
            self._call(messages.Gone(batch))

    def add(self, sockets: Sequence[PublishedSocket]) -> None:
        """Publish; a port that is published already is replaced. Sockets stay the caller's."""
        by_port: dict[Published, list[int]] = {}
        for one in sockets:
            by_port.setdefault(one.published, []).append(one.sock.fileno())
        for batch in _batches(by_port.items()):
            command = messages.Add(
                tuple(published for published, _ in batch), tuple(len(fds) for _, fds in batch)
            )
            self._call(command, [fd for _, fds in batch for fd in fds])

    def remove(self, published: Iterable[Published]) -> None:
        """Publish these no more; their connections are reset."""
        for batch in _batches(published):
            self._call(messages.Remove(tuple(one.id for one in batch)))

    def machine(self, addresses: tuple[str, ...]) -> None:
        """The machine's own addresses (`machine_addresses`), to be answered inside nodes too."""
        self._call(messages.Machine(addresses))

    def stat(self) -> Answer:
        """The numbers of every published port, and what does not answer where and why."""
        answer = self._call(messages.Stat())
        publishes = list(answer.publishes)
        while answer.publishes and len(publishes) < answer.total:
            answer = self._call(messages.Stat(len(publishes)))
            publishes += answer.publishes
        return Answer(
            publishes=tuple(publishes),
            total=answer.total,
            settled=answer.settled,
            warnings=answer.warnings,
        )

    def _call(self, command: Command, fds: Sequence[int] = ()) -> Answer:
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
        self._control.sendmsg([messages.encode(command)], [rights] if fds else [])
        packet = self._control.recv(messages.MAX_PACKET_BYTES)
        if not packet:
            raise ConnectionResetError("the publisher has ended")
        answer = messages.decode_answer(packet)
        if answer.error:
            raise Failed("publisher", f"publishing: {answer.error}")
        return answer
