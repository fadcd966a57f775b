"""Checks of sessions that a node's routing daemon has, as the daemon itself tells."""

from __future__ import annotations

import shlex
from typing import Any

from hostlab.checks.access import NodeAccess
from hostlab.checks.base import OutsideExpectation
from hostlab.checks.patience import Seen
from hostlab.errors import Failed, Unsupported
from hostlab.routing.asking import sessions_of
from hostlab.routing.sessions import ESTABLISHED, Sessions


class _Session(OutsideExpectation, frozen=True, kw_only=True):
    """Sessions of one protocol."""

    def attempt(self, access: NodeAccess, timeout_s: float) -> Seen:
        try:
            sessions = sessions_of(access.pid)
        except (Unsupported, Failed) as error:
            return Seen(ok=False, text=error.message)
        return self.judged(sessions)

    def judged(self, sessions: Sessions) -> Seen:
        """Whether they are as said."""
        raise NotImplementedError

    def repeat(self, lab: str | None, node: str, within_s: float) -> str:
        words = () if self.text() == "any" else (self.text(),)
        place = f"{lab}/{node}" if lab else node
        return shlex.join(("hostlab", "probe", self.kind, place, *words))


class Bgp(_Session, frozen=True, kw_only=True):
    """A session of BGP is in a state."""

    kind = "bgp"

    peer: str | None = None
    """Its address; None: all there are, at least one."""
    state: str = ESTABLISHED

    def text(self) -> str:
        return self.peer or "any"

    def expected(self) -> str:
        who = f"the session with {self.peer}" if self.peer else "every session of BGP"
        return f"{who} {self.state}"

    def judged(self, sessions: Sessions) -> Seen:
        peers = sessions.peers
        facts = {"peers": dict(peers)}
        if self.peer is not None and self.peer not in peers:
            known = f"; there are {', '.join(peers)}" if peers else ""
            return Seen(ok=False, text=f"no session with {self.peer}{known}", facts=facts)
        mine = {peer: state for peer, state in peers.items() if self.peer in (None, peer)}
        if not mine:
            return Seen(ok=False, text="the daemon has no session of BGP", facts=facts)
        ok = all(state.lower() == self.state.lower() for state in mine.values())
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
