"""What can be done to a lab: one reversible change each, in an order that always works.

A plan is made by comparing two descriptions (`difference.py`), shown, journalled and carried out.
Every kind has an inverse, so a plan that fails half-way is undone from its own record.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import Final

import msgspec


class Kind(StrEnum):
    """What an operation does."""

    ADD_SEGMENT = "add segment"
    REMOVE_SEGMENT = "remove segment"
    CHANGE_SEGMENT = "change segment"
    ADD_NODE = "add node"
    REMOVE_NODE = "remove node"
    CHANGE_NETWORK = "change network"
    CHANGE_IMPAIRMENTS = "change impairments"
    CHANGE_FIREWALL = "change firewall"
    CHANGE_LIMITS = "change limits"
    CHANGE_FILES = "change files"
    CHANGE_JOBS = "change jobs"
    CHANGE_PUBLISHED = "change published ports"


INVERSE: Final = {
    Kind.ADD_SEGMENT: Kind.REMOVE_SEGMENT,
    Kind.REMOVE_SEGMENT: Kind.ADD_SEGMENT,
    Kind.ADD_NODE: Kind.REMOVE_NODE,
    Kind.REMOVE_NODE: Kind.ADD_NODE,
    Kind.CHANGE_SEGMENT: Kind.CHANGE_SEGMENT,
    Kind.CHANGE_NETWORK: Kind.CHANGE_NETWORK,
    Kind.CHANGE_IMPAIRMENTS: Kind.CHANGE_IMPAIRMENTS,
    Kind.CHANGE_FIREWALL: Kind.CHANGE_FIREWALL,
    Kind.CHANGE_LIMITS: Kind.CHANGE_LIMITS,
    Kind.CHANGE_FILES: Kind.CHANGE_FILES,
    Kind.CHANGE_JOBS: Kind.CHANGE_JOBS,
    Kind.CHANGE_PUBLISHED: Kind.CHANGE_PUBLISHED,
}
"""What undoes a kind; a change is undone by the change back to the former description."""


class Operation(msgspec.Struct, frozen=True):
    """One change of one thing, and why it is needed."""

    kind: Kind
    subject: str
    """The segment's or node's name."""
    reason: str
    restart: tuple[str, ...] = ()
    """CHANGE_JOBS: jobs that must be restarted; the others that changed are only taken up anew."""
    reload: tuple[str, ...] = ()
    """CHANGE_JOBS: jobs of which what they read has changed, and that go on running."""

    def describe(self) -> str:
        """One line for people."""
        return f"{self.kind} {self.subject}: {self.reason}"

    def inverse(self) -> Operation:
        """The operation that takes this one back."""
        reason = f"undo: {self.describe()}"
        return Operation(INVERSE[self.kind], self.subject, reason, self.restart, self.reload)


class Plan(msgspec.Struct, frozen=True):
    """Operations in the order in which they are carried out."""

    operations: tuple[Operation, ...]

    def __bool__(self) -> bool:
        return bool(self.operations)

    def of(self, *kinds: Kind) -> tuple[Operation, ...]:
        """The operations of these kinds, in order."""
        return tuple(o for o in self.operations if o.kind in kinds)

    def without_nodes(self, names: Collection[str]) -> Plan:
        """The plan, but for making these nodes."""
        return Plan(
            tuple(
                operation
                for operation in self.operations
                if operation.kind is not Kind.ADD_NODE or operation.subject not in names
            )
        )
