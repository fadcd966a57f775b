"""What is asked where a host is looked at from inside, and how it is answered there.

Questions and replies are JSON, one a message. They are answered by `inside.Crew`'s children in
nodes, and by `agent` on hosts outside of a lab.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hostlab import typed
from hostlab.checks.access import NodeAccess
from hostlab.checks.expectations import KINDS, attempt_inside
from hostlab.checks.kind import Expectation, InsideExpectation, OutsideExpectation
from hostlab.checks.patience import Patience, Seen, Waited
from hostlab.errors import Problem, in_a_line


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A check, to be tried until it is decided."""

    position: int
    kind: str
    arguments: dict[str, Any]
    within_s: float
    always_s: float | None = None
    never_s: float | None = None
    once: bool = False

    def patience(self, judged: Expectation) -> Patience:
        """How long to go on trying."""
        return Patience(
            self.within_s,
            judged.attempt_s,
            lasting=judged.lasting,
            always_s=self.always_s,
            never_s=self.never_s,
            once=self.once,
        )


class Reply(msgspec.Struct, frozen=True):
    """What came of it."""

    position: int
    waited: Waited


def failed(question: Question, error: Exception) -> Reply:
    """A check that has raised something itself: its verdict, and that of no other."""
    text = f"the check itself ended with {type(error).__name__}: {error}"
    seen = Seen(ok=False, unknown=True, hopeless=True, text=text)
    return Reply(question.position, Waited(seen=seen, tries=1, took_s=0.0))


def answered(question: Question, access: NodeAccess | None) -> Reply:
    """One check, tried until it is decided, from inside the host.

    What cannot be looked at from inside asks `access`, which there must be then.
    """
    judged = typed.convert(question.arguments, KINDS[question.kind])

    def attempt(timeout_s: float) -> Seen:
        if isinstance(judged, InsideExpectation):
            return attempt_inside(judged, timeout_s)
        assert isinstance(judged, OutsideExpectation)
        assert access is not None
        return attempt_outside(judged, access, timeout_s)

    return Reply(question.position, question.patience(judged).judged(attempt))


def attempt_outside(judged: OutsideExpectation, access: NodeAccess, timeout_s: float) -> Seen:
    """One attempt by a host's control; where that does not answer, it is an unknown."""
    try:
        return judged.attempt(access, timeout_s)
    except (Problem, OSError) as error:
        text = f"the host cannot be asked: {in_a_line(error)}"
        return Seen(ok=False, unknown=True, hopeless=True, text=text)
