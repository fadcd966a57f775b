"""What every kind of check has: arguments, words, and an attempt."""

from __future__ import annotations

import shlex
import ssl
from typing import ClassVar

import msgspec

from hostlab.checks.access import NodeAccess
from hostlab.checks.patience import ATTEMPT_S, Seen
from hostlab.checks.verdict import hostlab_line
from hostlab.probes.names import UnknownName


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

    def prepare(self) -> None:
        """Import what an attempt needs; told before anybody enters a node."""

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


class ProbeExpectation(InsideExpectation, frozen=True, kw_only=True):
    """One whose question stands for itself: `hostlab probe` asks it, too."""

    attempt_s = float("inf")

    def by_hand(self, within_s: float) -> tuple[str, ...]:
        """The words behind `hostlab probe`."""
        raise NotImplementedError

    def repeat(self, lab: str | None, node: str, within_s: float) -> str:
        place = f"{lab}/{node}" if lab else node
        return shlex.join(("hostlab", "probe", *self.by_hand(within_s), "--from", place))


def unanswered(error: Exception) -> Seen:
    """What a connection that came to nothing is, in words."""
    if isinstance(error, UnknownName):
        return Seen(ok=False, text=str(error))
    if isinstance(error, ssl.SSLCertVerificationError):
        return Seen(ok=False, text=f"the certificate is refused: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        return Seen(ok=False, text=f"no TLS: {error.reason or error}")
    if isinstance(error, TimeoutError):
        return Seen(ok=False, heard=0, text="no whole answer in time")
    assert isinstance(error, OSError)
    place = f"{error.filename}: " if error.filename else ""
    return Seen(ok=False, text=f"no answer: {place}{error.strerror or error}")
