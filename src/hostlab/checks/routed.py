"""Checks of sessions that a node's routing daemon has, as the daemon itself tells."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, Literal

from hostlab.checks.access import NodeAccess
from hostlab.checks.bgp import Speaker, daemons_are_here
from hostlab.checks.kind import OutsideExpectation
from hostlab.checks.patience import Seen
from hostlab.errors import Failed, Unsupported

if TYPE_CHECKING:
    from hostlab.routing.sessions import Sessions


class _Session(OutsideExpectation, frozen=True, kw_only=True):
    """Sessions of one protocol."""

    def attempt(self, access: NodeAccess, timeout_s: float) -> Seen:
        with daemons_are_here():
            from hostlab.routing.asking import sessions_of
        try:
            sessions = sessions_of(access.pid)
        except (Unsupported, Failed) as error:
            return Seen(ok=False, text=error.message)
        return self.judged(sessions)

    def judged(self, sessions: Sessions) -> Seen:
        """Whether they are as said."""
        raise NotImplementedError

    def words(self) -> tuple[str, ...]:
        """What is behind `hostlab probe PROTOCOL NODE`."""
        raise NotImplementedError

    def by_hand(self, within_s: float) -> tuple[str, ...]:
        protocol = self.kind.partition("_")[0]
        return ("sh", "-c", f"birdc show protocols || vtysh -c 'show {protocol} summary'")

    def repeat(self, lab: str | None, node: str, within_s: float) -> str:
        place = f"{lab}/{node}" if lab else node
        protocol = self.kind.partition("_")[0]
        return shlex.join(("hostlab", "probe", protocol, place, *self.words()))


class BgpSession(_Session, frozen=True, kw_only=True):
    """Every session of BGP with a peer is up, or none is."""

    kind = "bgp_session"

    peer: Speaker | None = None
    """None: whoever there is, at least one."""
    state: Literal["up", "down"] = "up"

    def text(self) -> str:
        return f"{self.peer or 'any'}: {self.state}"

    def expected(self) -> str:
        return f"BGP with {self.peer or 'every peer'} to be {self.state}"

    def words(self) -> tuple[str, ...]:
        peer = (self.peer.addresses[0],) if self.peer else ()
        return (*peer, *(("--down",) if self.state == "down" else ()))

    def judged(self, sessions: Sessions) -> Seen:
        peers = sessions.peers
        facts = {"peers": dict(peers)}
        mine = {
            peer: state
            for peer, state in peers.items()
            if self.peer is None or peer in self.peer.addresses
        }
        if not mine:
            known = f"; there are {', '.join(peers)}" if peers else ""
            who = f"with {self.peer}" if self.peer else "of BGP"
            return Seen(ok=False, text=f"no session {who}{known}", facts=facts)
        ok = all((state == "Established") is (self.state == "up") for state in mine.values())
        text = ", ".join(f"{peer}: {state}" for peer, state in mine.items())
        return Seen(ok=ok, text=text, facts=facts)


class Ospf(_Session, frozen=True, kw_only=True):
    """A neighbour of OSPF is full, or two-way between two that are not designated."""

    kind = "ospf"

    neighbour: str | None = None
    """Its router id; None: all there are, at least one."""

    def text(self) -> str:
        return self.neighbour or "any"

    def expected(self) -> str:
        who = self.neighbour or "every neighbour of OSPF"
        return f"{who} to be full"

    def words(self) -> tuple[str, ...]:
        return (self.neighbour,) if self.neighbour else ()

    def judged(self, sessions: Sessions) -> Seen:
        rows: list[dict[str, Any]] = []
        bad = 0
        for where, heard in sessions.neighbours.items():
            any_full = any(each.is_full for each in heard.values())
            for router_id, each in heard.items():
                if self.neighbour not in (None, router_id):
                    continue
                ok = each.is_full or (each.is_two_way and any_full)
                bad += not ok
                rows.append(
                    {"router_id": router_id, "interface": where.interface, "state": each.state,
                     "family": where.family}
                )  # fmt: skip
        facts = {"neighbours": rows}
        if not rows:
            who = self.neighbour or "anybody"
            return Seen(ok=False, text=f"the daemon does not hear {who}", facts=facts)
        text = ", ".join(
            f"{row['router_id']} on {row['interface']} (IPv{row['family']}): {row['state']}"
            for row in rows
        )
        return Seen(ok=not bad, text=text, facts=facts)
