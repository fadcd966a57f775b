"""Which jobs have to do with an event: who emits it, who starts and who stops on it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from hostlab.jobs.glob import matches
from hostlab.spec.condition import print_condition
from hostlab.spec.job import Expression, Job, Said


class Role(StrEnum):
    """What a job has to do with an event."""

    EMITS = "emits"
    STARTS_ON = "start on"
    STOPS_ON = "stop on"


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One job and one of its stanzas."""

    job: str
    role: Role
    text: str
    """What the stanza says."""
    said: Said | None = None
    """Where; None when the job came from no file."""


def find_event(jobs: Iterable[Job], event: str) -> tuple[Found, ...]:
    """Every stanza that names an event, job by job; `emits` may name it by a glob."""
    found: list[Found] = []
    for job in jobs:
        found += [
            _found(job, Role.EMITS, pattern, pattern)
            for pattern in job.emits
            if matches(pattern, event)
        ]
        for role, condition in ((Role.STARTS_ON, job.start_on), (Role.STOPS_ON, job.stop_on)):
            if condition is not None and _names(condition, event):
                found.append(_found(job, role, print_condition(condition)))
    return tuple(found)


def _names(condition: Expression, event: str) -> bool:
    return any(match.name == event for match in condition.matches)


def _found(job: Job, role: Role, text: str, word: str | None = None) -> Found:
    said = [
        each for each in job.said if each.stanza == role and (word is None or word in each.words)
    ]
    return Found(job=job.name, role=role, text=text, said=said[-1] if said else None)
