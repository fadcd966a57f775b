"""From the dependencies of units to what the job machine has: the whole theory is in
docs/decisions/systemd-units.md.

For a unit U, with X going through the units whose pull U is in:

    start on    starting X              for X that U is not after
                started X               for X that U is after (stopped X when X is a task)
                stopped X RESULT=failed for X with OnFailure=U
                timer NAME=X, path NAME=X for X that triggers U
    stop on     stopping X RESULT=ok    for X that U requires or is part of
                stopping X              for X that U is bound to
                starting X              for X that conflicts with U
    after       what it is ordered behind; requires: what of that must not have failed
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from hostlab.spec.job import Expression, Job, Match, Operator
from hostlab.spec.systemd.dependencies import Dependencies
from hostlab.spec.systemd.graph import Cycle, Edge, Strength, behind, break_cycles, pull
from hostlab.spec.systemd.triggers import trigger

_SPECIAL = str.maketrans({char: f"\\{char}" for char in "*?[\\"})


class Linked(msgspec.Struct, frozen=True):
    """The jobs of units with their conditions, and the circles that there were."""

    jobs: tuple[Job, ...]
    cycles: tuple[Cycle, ...] = ()


def link(units: Iterable[tuple[Job, Dependencies]]) -> Linked:
    """Give jobs their `start_on`, `stop_on`, `after` and `requires`.

    What a dependency names and is not among the units counts as not there: nothing starts it and
    nothing is ordered by it; a requirement of it stays, and fails when it is needed.
    """
    links = _Links(units)
    return Linked(tuple(links.job(name) for name in links.jobs), links.cycles)


class _Links:
    def __init__(self, units: Iterable[tuple[Job, Dependencies]]) -> None:
        self.jobs: dict[str, Job] = {}
        self.named: dict[str, Dependencies] = {}
        for job, dependencies in units:
            self.jobs[job.name] = job
            self.named[job.name] = dependencies
        self.pulls = {name: each.pulls for name, each in self.named.items()}
        kept, self.cycles = break_cycles(self._edges())
        self.after: dict[str, list[str]] = {}
        self.later: dict[str, list[str]] = {}
        for edge in sorted(kept):
            self.after.setdefault(edge.later, []).append(edge.earlier)
            self.later.setdefault(edge.earlier, []).append(edge.later)
        self.starts: dict[str, list[Match]] = {}
        self.stops: dict[str, list[Match]] = {}
        self._start_conditions()
        self._stop_conditions()

    def _edges(self) -> Iterable[Edge]:
        for name, each in self.named.items():
            required = {*each.requires, *each.binds_to}
            for other in each.after:
                if other in self.jobs:
                    yield Edge(name, other, self._strength(name, other, required))
            for other in each.default_after:
                if other in self.jobs:
                    yield Edge(name, other, Strength.DEFAULT)
            if name.endswith(".target") and each.has_defaults:
                for other in each.pulls:
                    if self._follows(name, other):
                        yield Edge(name, other, Strength.DEFAULT)
            for other in each.before:
                if other in self.jobs:
                    its = self.named[other]
                    back = {*its.requires, *its.binds_to}
                    yield Edge(other, name, self._strength(other, name, back))

    def _follows(self, target: str, other: str) -> bool:
        """Whether a target is ordered behind what it pulls, although nobody says so."""
        its = self.named.get(other)
        if its is None or not its.has_defaults:
            return False
        own = self.named[target]
        return other not in own.before and target not in (*its.after, *its.default_after)

    def _strength(self, name: str, other: str, required: set[str]) -> Strength:
        if other in required:
            return Strength.REQUIRED
        wanted = other in self.pulls[name] or name in self.pulls.get(other, ())
        return Strength.WANTED if wanted else Strength.PLAIN

    def _start_conditions(self) -> None:
        for name in self.jobs:
            pulled = pull(name, self.pulls)
            if not pulled:
                continue
            later = behind(name, self.later, pulled)
            done = "stopped" if self.jobs[name].task else "started"
            for other in sorted(pulled):
                event = done if other in later else "starting"
                self._start(other, _about(event, name))
        for name, each in self.named.items():
            for other in each.on_failure:
                self._start(other, _about("stopped", name, "RESULT=failed"))
            if each.triggers is not None and (match := trigger(name)) is not None:
                self._start(each.triggers, match)
            for other in each.on_success:
                self._start(other, _about("stopped", name, "RESULT=ok"))

    def _stop_conditions(self) -> None:
        for name, each in self.named.items():
            for other in each.binds_to:
                self._stop(name, _about("stopping", other))
            for other in (*each.requires, *each.part_of, *each.stop_propagated_from):
                # That a task is over is no stop of what needed it.
                if not (other in self.jobs and self.jobs[other].task):
                    self._stop(name, _about("stopping", other, "RESULT=ok"))
            for other in each.propagates_stop_to:
                self._stop(other, _about("stopping", name, "RESULT=ok"))
            for other in each.conflicts:
                self._stop(name, _about("starting", other))
                self._stop(other, _about("starting", name))

    def _start(self, name: str, match: Match) -> None:
        self.starts.setdefault(name, []).append(match)

    def _stop(self, name: str, match: Match) -> None:
        self.stops.setdefault(name, []).append(match)

    def job(self, name: str) -> Job:
        """The job with all that."""
        after = tuple(self.after.get(name, ()))
        each = self.named[name]
        needed = (*each.requires, *each.binds_to, *each.requisite)
        own = stop.matches if (stop := self.jobs[name].stop_on) else ()
        return msgspec.structs.replace(
            self.jobs[name],
            start_on=any_of(self.starts.get(name, ())),
            stop_on=any_of((*own, *self.stops.get(name, ()))),
            after=after,
            requires=tuple(
                dict.fromkeys(
                    other
                    for other in needed
                    if other in after or other not in self.jobs or other in each.requisite
                )
            ),
        )


def _about(event: str, name: str, *further: str) -> Match:
    """An event of a job; the name is a glob there, so what is special in it is escaped."""
    return Match(event, (name.translate(_SPECIAL), *further))


def any_of(matches: Iterable[Match]) -> Expression | None:
    """`a or b or c`; None of nothing."""
    nodes: list[Match | Operator] = []
    for match in dict.fromkeys(matches):
        if nodes:
            nodes += (match, Operator.OR)
        else:
            nodes.append(match)
    return Expression(tuple(nodes)) if nodes else None


def propagated(verb: str, name: str, units: Mapping[str, Dependencies]) -> tuple[str, ...]:
    """The other units that a `restart` or `reload` of one is passed on to, each once.

    A restart reaches, if they run, those that require it, are bound to it or part of it, and what
    those pass it on to; a reload those that say so.
    """
    found: dict[str, None] = {}
    waiting = [name]
    while waiting:
        current = waiting.pop(0)
        own = units.get(current, Dependencies())
        for other, each in units.items():
            if verb == "reload":
                reached = current in each.reload_propagated_from
                reached = reached or other in own.propagates_reload_to
            else:
                reached = current in (*each.requires, *each.binds_to, *each.part_of)
            if reached and other not in found and other != name:
                found[other] = None
                waiting.append(other)
    return tuple(found)
