"""What a routing daemon says of its sessions, whichever it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from hostlab.errors import Failed
from hostlab.routing.expected import Adjacency, Expected

ANSWER_S: Final = 30.0
"""A daemon answers at once; one that has not by then is broken."""


class Neighbour(NamedTuple):
    """One that OSPF hears."""

    router_id: str
    state: str
    """In the daemon's words."""
    is_full: bool
    is_two_way: bool
    """Both hear each other; enough between two that are neither designated router nor backup."""


@dataclass(slots=True)
class Sessions:
    """Every session of one node."""

    neighbours: dict[Adjacency, dict[str, Neighbour]] = field(default_factory=dict)
    """On each interface by the router id."""
    peers: dict[str, str] = field(default_factory=dict)
    """BGP: the state of the session with an address."""
    bfd: dict[str, str] = field(default_factory=dict)
    """BFD: the same; an address of the link itself has `%` and the interface."""


def with_interface(address: str, interface: str) -> str:
    """An address of BFD; one of the link itself is only one along with its interface."""
    bare = address.partition("%")[0]
    return f"{bare}%{interface}" if bare.startswith("fe80:") else bare


class Gone(Failed):
    """A daemon has hung up: it ended, and may come again."""


class Daemons(Protocol):
    """The control sockets of one node's daemons."""

    def filenos(self) -> tuple[int, ...]:
        """Readable when something may have changed."""

    def hear(self) -> bool:
        """Read what was told; False when a daemon has hung up."""

    def has_told(self) -> bool:
        """Whether something was told among the answers of `sessions`, so that nothing will be
        readable for it.
        """

    def sessions(self, *, answer_s: float) -> Sessions:
        """How the sessions are now; Failed when a daemon does not answer within `answer_s`."""

    def close(self) -> None:
        """Hang up."""


ESTABLISHED = "Established"
UP = "up"


def missing(expected: Expected, now: Sessions) -> list[str]:
    """The sessions that are not up, a phrase each."""
    found = []
    for where, neighbours in expected.neighbours.items():
        heard = now.neighbours.get(where, {})
        # Before a segment has a designated router nobody on it is full.
        any_full = any(neighbour.is_full for neighbour in heard.values())
        for router_id, node in neighbours.items():
            neighbour = heard.get(router_id)
            if neighbour is not None and (
                neighbour.is_full or (neighbour.is_two_way and any_full and len(neighbours) > 1)
            ):
                continue
            state = "not heard" if neighbour is None else neighbour.state
            found.append(f"OSPF for IPv{where.family} with {node} on {where.interface}: {state}")
    for address, node in expected.peers.items():
        state = now.peers.get(address, "not there")
        if state != ESTABLISHED:
            who = node if node == address else f"{node} ({address})"
            found.append(f"BGP with {who}: {state}")
    return found + missing_bfd(expected, now)


def missing_bfd(expected: Expected, now: Sessions) -> list[str]:
    """Those of BFD alone."""
    states = {address: now.bfd.get(address, "not there") for address in expected.bfd}
    return [
        f"BFD with {expected.bfd[address]} ({address}): {state}"
        for address, state in states.items()
        if state != UP
    ]
