"""Which jobs emit, start on and stop on which events: the graph that initctl2dot drew.

An operand that names a job (`started dbus`) leads to that job, every other one to the event. A
name with a variable means something else in each job (`$INTERFACE`), so the job's name is put
before it. A glob in `emits` leads to itself and to each event of the graph that it matches.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from enum import StrEnum

import msgspec

from hostlab.errors import UsageError
from hostlab.jobs.glob import matches
from hostlab.jobs.listing import job_of
from hostlab.spec.job import Expression, Job


class Kind(StrEnum):
    """What a job has to do with an event, or with another job's."""

    EMITS = "emits"
    START_ON = "start-on"
    STOP_ON = "stop-on"


class Relation(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the graph."""

    job: str
    kind: Kind
    event: str
    other: str | None = None
    """The job whose event it is; the line leads there and not to the event."""


class Graph(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs, the events between them, and the lines."""

    jobs: tuple[str, ...]
    events: tuple[str, ...]
    relations: tuple[Relation, ...]


def relate(jobs: Iterable[Job]) -> Graph:
    """Everything that these jobs have to do with events."""
    found: dict[Relation, None] = {}
    names: dict[str, None] = {}
    for job in jobs:
        names[job.name] = None
        for event in job.emits:
            found[Relation(job=job.name, kind=Kind.EMITS, event=_own(job, event))] = None
        found.update(dict.fromkeys(_conditions(job)))
    events = {each.event for each in found if each.other is None}
    for each in list(found):
        if each.kind is Kind.EMITS and is_glob(each.event):
            for event in sorted(events):
                if event != each.event and matches(each.event, event):
                    found[Relation(job=each.job, kind=Kind.EMITS, event=event)] = None
    return _graph(names, found)


def restrict_to_jobs(graph: Graph, names: Iterable[str]) -> Graph:
    """These jobs with all that they name, and with who emits what they wait for.

    Of the jobs that they name, what those emit is there too. UsageError for a job that is not.
    """
    chosen = dict.fromkeys(names)
    for name in chosen:
        if name not in graph.jobs:
            close = difflib.get_close_matches(name, graph.jobs, 1)
            hint = f"did you mean {close[0]!r}?" if close else None
            raise UsageError("unknown-job", f"unknown job {name!r}", hint=hint)
    own = [each for each in graph.relations if each.job in chosen]
    awaited = {each.event for each in own if each.kind is not Kind.EMITS and each.other is None}
    named = {each.other for each in own if each.other is not None}
    kept = [
        each
        for each in graph.relations
        if each.job in chosen
        or (each.kind is Kind.EMITS and (each.event in awaited or each.job in named))
    ]
    return _graph(chosen, kept)


def restrict_to_events(graph: Graph, names: Iterable[str]) -> Graph:
    """These events with every job that emits, starts on or stops on one; UsageError if none does.

    `started` and the other events of jobs can be named too.
    """
    chosen = set(names)
    known = {each.event for each in graph.relations}
    for name in chosen - known:
        close = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {close[0]!r}?" if close else None
        raise UsageError("unknown-event", f"no job names the event {name!r}", hint=hint)
    return _graph((), [each for each in graph.relations if each.event in chosen])


def only(graph: Graph, kinds: Iterable[Kind], *, with_alone: bool = True) -> Graph:
    """The graph with lines of these kinds; jobs without any line stay when asked for."""
    shown = set(kinds)
    kept = [each for each in graph.relations if each.kind in shown]
    return _graph(graph.jobs if with_alone else (), kept)


def is_glob(event: str) -> bool:
    """Whether an event's name stands for many."""
    return any(char in event for char in "*?[")


def _conditions(job: Job) -> Iterator[Relation]:
    for kind, condition in ((Kind.START_ON, job.start_on), (Kind.STOP_ON, job.stop_on)):
        yield from _condition(job, kind, condition) if condition is not None else ()


def _condition(job: Job, kind: Kind, condition: Expression) -> Iterator[Relation]:
    for match in condition.matches:
        other, _ = job_of(match)
        named = None if other is None else _own(job, other)
        yield Relation(job=job.name, kind=kind, event=_own(job, match.name), other=named)


def _own(job: Job, name: str) -> str:
    return f"{job.name}:{name}" if name.startswith("$") else name


def _graph(jobs: Iterable[str], relations: Iterable[Relation]) -> Graph:
    """A graph with these jobs, and with all that the lines lead to."""
    lines = tuple(relations)
    names = dict.fromkeys(jobs)
    for each in lines:
        names[each.job] = None
        if each.other is not None:
            names[each.other] = None
    events = dict.fromkeys(each.event for each in lines if each.other is None)
    return Graph(jobs=tuple(names), events=tuple(events), relations=lines)
