"""Which jobs can never start or stop, for want of another job or event: `initctl check-config`.

An operand is unknown when it waits for a job that there is not, or for an event that no job says it
emits and init does not emit itself. Upstart looks at a condition's operators from the whole
inwards, the right side first, and tells of the first one that cannot be true: of all the unknown
operands below it, the last one first (util/initctl.c, check_condition()).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from hostlab.jobs.boot import BUILT_IN, DOWN, UP
from hostlab.jobs.glob import matches
from hostlab.jobs.listing import JOB_EVENTS, job_of
from hostlab.spec.job import Expression, Job, Match, Operator

OWN_EVENTS = frozenset((*BUILT_IN, *JOB_EVENTS, "debug", *(row.event for row in (*UP, *DOWN))))
"""What needs no job to be emitted; in Upstart those of the boot had jobs that say so."""


def unreachable(
    jobs: Mapping[str, Job],
    names: Iterable[str],
    *,
    ignored: Iterable[str] = (),
    strict: bool = False,
) -> Iterator[str]:
    """The lines about those of these jobs that have such a condition.

    With `strict` every unknown operand counts, although another one beside it could do.
    """
    known = _Known(jobs, frozenset(ignored))
    for name in names:
        job = jobs[name]
        lines = []
        for stanza, condition in (("start on", job.start_on), ("stop on", job.stop_on)):
            if condition is not None:
                lines += [
                    f"  {stanza}: unknown {what}"
                    for what in known.lacking(condition, strict=strict)
                ]
        if lines:
            yield name
            yield from lines


class _Known:
    def __init__(self, jobs: Mapping[str, Job], ignored: frozenset[str]) -> None:
        self.jobs = jobs
        self.events = OWN_EVENTS | ignored
        self.emitted = tuple({event for job in jobs.values() for event in job.emits})

    def lacking(self, condition: Expression, *, strict: bool) -> list[str]:
        """What the first part that cannot be true lacks; nothing when there is none."""
        nodes = condition.nodes
        wrong = [list(self.unknown(node)) if isinstance(node, Match) else [] for node in nodes]
        values: list[bool] = []
        starts: list[int] = []
        pending: list[tuple[bool, int]] = []
        for index, node in enumerate(nodes):
            if isinstance(node, Match):
                value, start = not wrong[index], index
            else:
                right, (left, start) = pending.pop()[0], pending.pop()
                both = strict or node is Operator.AND
                value = (left and right) if both else (left or right)
            values.append(value)
            starts.append(start)
            pending.append((value, start))
        for index in reversed(range(len(nodes))):
            is_whole = index == len(nodes) - 1
            if not values[index] and (is_whole or not isinstance(nodes[index], Match)):
                below = wrong[starts[index] : index + 1]
                return [what for each in reversed(below) for what in each]
        return []

    def unknown(self, match: Match) -> Iterator[str]:
        """What of an operand nobody knows."""
        if not (match.name in self.events or self.is_emitted(match.name)):
            yield f"event {match.name}"
        job, _ = job_of(match)
        if job is not None and not job.startswith("$") and job not in self.jobs:
            yield f"job {job}"

    def is_emitted(self, event: str) -> bool:
        return any(matches(pattern, event) for pattern in self.emitted)
