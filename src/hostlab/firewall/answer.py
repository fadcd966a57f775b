"""What became of a packet: the verdict, the rule that gave it, the way there; values."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from hostlab.errors import Place
from hostlab.firewall.packet import Packet


class Verdict(StrEnum):
    """The end of a packet."""

    ACCEPT = "accept"
    """It reached a socket of the host, or left it."""
    DROP = "drop"
    """Nobody was told."""
    REJECT = "reject"
    """Its sender was told."""
    LOST = "lost"
    """No rule: the host has no route, is not the destination and forwards nothing, or the like."""


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A rule, or a chain's policy, that the packet passed."""

    family: str
    table: str
    chain: str
    rule: str = ""
    """As its tool writes it; empty for a policy."""
    handle: int = 0
    """nft's number of the rule; 0 for a policy, and in legacy iptables."""
    number: int = 0
    """The rule's place in its chain, from 1; 0 for a policy."""
    verdict: str = ""
    """What the rule said: accept, drop, reject, continue, jump CHAIN, goto CHAIN, return."""
    place: Place | None = None
    """Where the user wrote it, as far as that is known."""


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a packet."""

    packet: Packet
    verdict: Verdict
    decided_by: Step | None = None
    """The rule or policy that ended it, or the last that accepted it."""
    steps: tuple[Step, ...] = ()
    left_by: str | None = None
    """The interface it left by; None: it came to the host itself, or to its end."""
    left_as: Packet | None = None
    """What it looked like behind the last rule, where NAT changed it."""
    seen_by: str = "nft trace"
    """How the way is known: nft's trace, or TRACE of legacy iptables."""
