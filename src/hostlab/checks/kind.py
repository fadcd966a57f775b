"""What a kind of check is.

A class holds a kind's arguments, typed; says in words what is expected; and makes one attempt to
see whether it is so. A kind that looks from inside the node (`InsideExpectation`) is attempted by
a process that has entered the node's namespaces; the others ask the node's `NodeAccess`. Waiting,
deadlines and verdicts are the same for all and stand in `judge.py`: a new kind is one class and one
entry in `KINDS` of `expectations.py`.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from hostlab.checks.access import NodeAccess
from hostlab.checks.patience import ATTEMPT_S, Seen
from hostlab.checks.verdict import hostlab_line


class Expectation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The arguments of a check, and how it is judged."""

    kind: ClassVar[str]
    lasting: ClassVar[bool] = False
    """It has to stay true for a while, instead of to become true once."""
    attempt_s: ClassVar[float] = ATTEMPT_S
    """The longest attempt."""

    def text(self) -> str:
        """The arguments in one line, as a description has them."""
        raise NotImplementedError

    def expected(self) -> str:
        """What is expected, in words that follow "expected"."""
        raise NotImplementedError

    def by_hand(self, within_s: float) -> tuple[str, ...]:
        """A command that, run in the node, lets a person see the same."""
        raise NotImplementedError

    def repeat(self, lab: str | None, node: str, within_s: float) -> str:
        """The whole command line for that."""
        return hostlab_line("exec", lab, node, "--", *self.by_hand(within_s))


class InsideExpectation(Expectation, frozen=True, kw_only=True):
    """One that is attempted within the node's namespaces."""

    def attempt(self, timeout_s: float) -> Seen:
        """Look once; runs inside the node."""
        raise NotImplementedError


class OutsideExpectation(Expectation, frozen=True, kw_only=True):
    """One that is attempted through the node's control."""

    def attempt(self, access: NodeAccess, timeout_s: float) -> Seen:
        """Look once."""
        raise NotImplementedError
