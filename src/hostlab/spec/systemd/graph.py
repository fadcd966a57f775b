"""Which units start together, in which order, and how a cycle in that order is broken.

Starting X pulls in what X wants and requires, and what those do: its *pull*. Within the pull, units
are ordered by `After=` and `Before=`. When that order goes round in a circle, systemd drops a job
that nothing requires; here the weakest *edge* of the circle goes, and every unit stays:

1. an ordering that nobody wrote (default dependencies),
2. one between units of which neither needs the other,
3. one beside a `Wants=`,
4. one beside a `Requires=` or `BindsTo=`.

Of several equal ones the last in the order of names goes, so that the same units always give the
same result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum

import msgspec


class Strength(IntEnum):
    """How much an ordering matters."""

    DEFAULT = 1
    PLAIN = 2
    WANTED = 3
    REQUIRED = 4


class Edge(msgspec.Struct, frozen=True, order=True):
    """`later` starts after `earlier`."""

    later: str
    earlier: str
    strength: Strength = Strength.PLAIN

    def __str__(self) -> str:
        return f"{self.later} after {self.earlier}"


class Cycle(msgspec.Struct, frozen=True):
    """Units that wait for each other in a circle, and the ordering that was given up."""

    units: tuple[str, ...]
    """Each after the next one, the last after the first."""
    dropped: Edge

    def __str__(self) -> str:
        circle = " after ".join((*self.units, self.units[0]))
        return f"ordering cycle: {circle}; `{self.dropped}` is ignored"


def pull(start: str, pulls: Mapping[str, Iterable[str]]) -> frozenset[str]:
    """Every unit that starting one brings in, without itself."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for name in pulls.get(waiting.pop(), ()):
            if name not in found and name != start:
                found.add(name)
                waiting.append(name)
    return frozenset(found)


def behind(start: str, edges: Mapping[str, Iterable[str]], within: frozenset[str]) -> set[str]:
    """The units among `within` that come after one; `edges` lead from earlier to later."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for name in edges.get(waiting.pop(), ()):
            if name in within and name not in found:
                found.add(name)
                waiting.append(name)
    return found


def break_cycles(edges: Iterable[Edge]) -> tuple[frozenset[Edge], tuple[Cycle, ...]]:
    """The edges without those that close a circle, and every circle that was found."""
    left = _strongest(edges)
    cycles: list[Cycle] = []
    for _ in range(len(left) + 1):
        after: dict[str, list[str]] = {}
        for later, earlier in left:
            after.setdefault(later, []).append(earlier)
        circle = find_cycle({name: sorted(each) for name, each in sorted(after.items())})
        if circle is None:
            break
        pairs = list(zip(circle, (*circle[1:], circle[0]), strict=True))
        weakest = min(left[pair].strength for pair in pairs)
        pair = max(pair for pair in pairs if left[pair].strength == weakest)
        cycles.append(Cycle(circle, left.pop(pair)))
    return frozenset(left.values()), tuple(cycles)


def _strongest(edges: Iterable[Edge]) -> dict[tuple[str, str], Edge]:
    """One edge for each pair."""
    found: dict[tuple[str, str], Edge] = {}
    for edge in edges:
        pair = (edge.later, edge.earlier)
        known = found.get(pair)
        if known is None or known.strength < edge.strength:
            found[pair] = edge
    return found


def find_cycle(after: Mapping[str, Iterable[str]]) -> tuple[str, ...] | None:
    """A circle, each after the next, beginning with the least name; None when there is none.

    A depth-first walk without recursion: a chain of units may be as long as it likes.
    """
    done: set[str] = set()
    for root in after:
        if root in done:
            continue
        path: list[str] = [root]
        on_path = {root}
        walks = [iter(after.get(root, ()))]
        while walks:
            name = next(walks[-1], None)
            if name is None:
                walks.pop()
                done.add(last := path.pop())
                on_path.discard(last)
            elif name in on_path:
                circle = path[path.index(name) :]
                least = circle.index(min(circle))
                return (*circle[least:], *circle[:least])
            elif name not in done:
                path.append(name)
                on_path.add(name)
                walks.append(iter(after.get(name, ())))
    return None
