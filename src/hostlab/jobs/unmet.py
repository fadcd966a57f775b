"""Conditions that nothing in a node can meet: an event that nobody emits, a job that is not there.

Only a hint. An event may come from a person (`hostlab job emit`), or from a program that nobody
told of in `emits`; but most often its name is misspelt.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

import msgspec

from hostlab.jobs.boot import BUILT_IN, DOWN, UP
from hostlab.jobs.glob import matches
from hostlab.jobs.listing import job_of
from hostlab.jobs.source_events import source_of
from hostlab.spec.job import Job, Said, Step
from hostlab.spec.model import Node

_EMIT = re.compile(r"\bemit\b([^\n;&|]*)")


class Unmet(msgspec.Struct, frozen=True, kw_only=True):
    """An operand of a condition that waits in vain."""

    job: str
    stanza: str
    """`start on` or `stop on`."""
    event: str
    other: str | None = None
    """The job that is not there, where it is that job's event."""
    near: str | None = None
    """What may have been meant."""
    said: Said | None = None
    """Where."""

    def __str__(self) -> str:
        what = f"there is no job `{self.other}`" if self.other else f"nothing emits `{self.event}`"
        hint = f"; did you mean `{self.near}`?" if self.near else ""
        return f"`{self.stanza}` of the job `{self.job}`: {what}{hint}"


def unmet(node: Node) -> tuple[Unmet, ...]:
    """The operands of the node's jobs that wait in vain.

    None for a node that has job files, tables or units: what these emit is known inside only.
    """
    return () if node.job_files or node.crontabs or node.units else tuple(_unmet(node))


def _unmet(node: Node) -> Iterator[Unmet]:
    names = [job.name for job in node.jobs]
    events = _events(node)
    globs = [pattern for job in node.jobs for pattern in job.emits]
    for job in node.jobs:
        for stanza, condition in (("start on", job.start_on), ("stop on", job.stop_on)):
            for match in condition.matches if condition is not None else ():
                other, _ = job_of(match)
                said = next((each for each in job.said if each.stanza == stanza), None)
                found = Unmet(job=job.name, stanza=stanza, event=match.name, said=said)
                if other is not None:
                    if "$" not in other and not any(matches(other, name) for name in names):
                        near = _near(other, names)
                        yield msgspec.structs.replace(found, other=other, near=near)
                elif source_of(match.name) is not None:
                    continue
                elif match.name not in events and not any(matches(g, match.name) for g in globs):
                    near = _near(match.name, [*events, *globs])
                    yield msgspec.structs.replace(found, near=near)


def _near(word: str, known: list[str]) -> str | None:
    return next(iter(difflib.get_close_matches(word, known, 1)), None)


def _events(node: Node) -> set[str]:
    """What is emitted without being in an `emits`."""
    found = {node.boot.startup_event, *BUILT_IN, "starting", "started", "stopping", "stopped"}
    found |= {milestone.event for milestone in DOWN}
    if node.boot.events is None:
        found |= {milestone.event for milestone in UP}
    else:
        found |= {event.name for event in node.boot.events}
    for job in node.jobs:
        for text in _texts(job):
            for arguments in _EMIT.findall(text):
                found |= {word.strip("\"'") for word in arguments.split()}
    return found


def _texts(job: Job) -> Iterator[str]:
    for step in Step:
        process = job.process(step)
        if process is not None:
            yield process.script or process.exec or " ".join(process.argv)
