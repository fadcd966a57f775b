"""What a description says otherwise than another, in a few words for people.

Beyond the operations of `difference`, which are about hosts, there is what is only judged and
played: checks and faults. Where in the file something stands makes no difference.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import msgspec
from msgspec.structs import replace

from hostlab.plan.difference import changed_jobs, difference
from hostlab.plan.operations import Kind, Operation
from hostlab.spec.model import Lab

MAX_TOLD: Final = 3

_NOUNS: Final = {
    Kind.ADD_SEGMENT: "segment",
    Kind.REMOVE_SEGMENT: "segment",
    Kind.CHANGE_SEGMENT: "segment",
    Kind.ADD_NODE: "node",
    Kind.REMOVE_NODE: "node",
    Kind.CHANGE_NETWORK: "network of",
    Kind.CHANGE_IMPAIRMENTS: "impairments of",
    Kind.CHANGE_FIREWALL: "firewall of",
    Kind.CHANGE_LIMITS: "limits of",
    Kind.CHANGE_FILES: "files of",
    Kind.CHANGE_JOBS: "jobs of",
    Kind.CHANGE_PUBLISHED: "published ports of",
}


def divergence(old: Lab, new: Lab) -> str:
    """What differs, as `job server/web, 1 check`; empty when nothing does."""
    told: dict[str, None] = {}
    for operation in difference(old, new).operations:
        told |= dict.fromkeys(_things(operation, old, new))
    found = [*told, *beside(old, new)]
    if len(found) > MAX_TOLD:
        found[MAX_TOLD - 1 :] = [f"{len(found) - MAX_TOLD + 1} more"]
    return ", ".join(found)


def beside(old: Lab, new: Lab) -> tuple[str, ...]:
    """What differs and takes no operation: checks, and the timeline of faults."""
    found = []
    if count := changed_checks(old, new):
        found.append(f"{count} check{'s' if count > 1 else ''}")
    if old.faults != new.faults:
        found.append("faults")
    return tuple(found)


def changed_checks(old: Lab, new: Lab) -> int:
    """How many checks are new, gone or otherwise; one that was edited is one."""
    if old.checks == new.checks:
        return 0
    before, after = (
        Counter(msgspec.json.encode(replace(check, place=None)) for check in lab.checks)
        for lab in (old, new)
    )
    return max((before - after).total(), (after - before).total())


def _things(operation: Operation, old: Lab, new: Lab) -> list[str]:
    name = operation.subject
    if operation.kind is Kind.CHANGE_JOBS:
        jobs = changed_jobs(old.node(name), new.node(name))
        if jobs:
            return [f"job {name}/{job}" for job in sorted(jobs)]
    return [f"{_NOUNS[operation.kind]} {name}"]
