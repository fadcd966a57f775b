"""What is expected of BGP on a node: read from the routing daemon's own socket.

Who tells of a prefix, with which multi-exit discriminator, and which path is chosen. The announcing
side is not asked: what counts is what has arrived.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import msgspec

from hostlab.checks.kind import InsideExpectation
from hostlab.checks.patience import Seen
from hostlab.errors import Failed, Unsupported

if TYPE_CHECKING:
    from hostlab.routing.rib import Path


@contextmanager
def daemons_are_here() -> Iterator[None]:
    """Around the import of what talks to daemons, which is not sent to hosts outside of a lab."""
    try:
        yield
    except ImportError:
        raise Unsupported("routing", "only the daemons of a lab's nodes are asked") from None


class Speaker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who tells of a route, or where one leads."""

    name: str
    """As the description has it."""
    addresses: tuple[str, ...]
    """Any of them."""
    med: int | None = None
    """What it must say; None: anything."""

    def __str__(self) -> str:
        return self.name if self.med is None else f"{self.name} {self.med}"


class BgpPaths(InsideExpectation, frozen=True, kw_only=True):
    """The daemon has these paths to a prefix, and prefers the one that is said."""

    kind = "bgp"

    prefix: str
    paths: tuple[Speaker, ...] | None = None
    """These and no others; None: whichever."""
    best: Speaker | None = None
    """Who told of the one that is used."""
    next_hop: Speaker | None = None
    """Where the one that is used leads."""
    med: int | None = None
    """Of the one that is used."""

    def text(self) -> str:
        return ", ".join([self.prefix, *self._wanted()])

    def expected(self) -> str:
        wanted = self._wanted() or ["a path"]
        return f"{self.prefix} with {', '.join(wanted)}"

    def _wanted(self) -> list[str]:
        found = []
        if self.paths is not None:
            told = ", ".join(str(each) for each in self.paths)
            found.append(f"paths from {told}" if told else "no path")
        if self.best is not None:
            found.append(f"best from {self.best}")
        if self.next_hop is not None:
            found.append(f"next hop {self.next_hop}")
        if self.med is not None:
            found.append(f"med {self.med}")
        return found

    def by_hand(self, within_s: float) -> tuple[str, ...]:
        family = "ipv6" if ":" in self.prefix else "ipv4"
        bird = f"birdc show route {self.prefix} table bgp{family[3]} all"
        frr = f"vtysh -c 'show bgp {family} unicast {self.prefix}'"
        return ("sh", "-c", f"if test -S /run/bird/bird.ctl; then {bird}; else {frr}; fi")

    def attempt(self, timeout_s: float) -> Seen:
        with daemons_are_here():
            from hostlab.routing.rib import Rib
        try:
            with closing(Rib()) as rib:
                found = rib.paths(self.prefix)
        except (Failed, Unsupported) as error:
            return Seen(ok=False, text=error.message)
        return Seen(ok=self._holds(found), text=self._shown(found))

    def _holds(self, found: tuple[Path, ...]) -> bool:
        if self.paths is None and not found:
            return False
        if self.paths is not None:
            heard = [each for each in self.paths if any(_is_of(each, path) for path in found)]
            if len(heard) != len(self.paths) or len(found) != len(self.paths):
                return False
        best = next((path for path in found if path.is_best), None)
        if best is None:
            return self.best is None and self.next_hop is None and self.med is None
        return (
            (self.best is None or _is_of(self.best, best))
            and (self.next_hop is None or best.next_hop in self.next_hop.addresses)
            and self.med in {None, best.med}
        )

    def _shown(self, found: tuple[Path, ...]) -> str:
        if not found:
            return f"no path to {self.prefix}"
        names = {
            address: each.name
            for each in (*(self.paths or ()), *filter(None, (self.best, self.next_hop)))
            for address in each.addresses
        }
        return "; ".join(
            f"{'best ' if path.is_best else ''}from {names.get(path.peer, path.peer)}"
            f" via {names.get(path.next_hop, path.next_hop)}"
            + ("" if path.med is None else f", med {path.med}")
            for path in found
        )


def _is_of(speaker: Speaker, path: Path) -> bool:
    return path.peer in speaker.addresses and speaker.med in {None, path.med}
