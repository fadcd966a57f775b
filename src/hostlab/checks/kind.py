"""What a kind of check is.

A class holds a kind's arguments, typed; says in words what is expected; and makes one attempt to
see whether it is so. A kind that looks from inside the node (`InsideExpectation`) is attempted by
a process that has entered the node's namespaces; the others ask the node's `NodeAccess`. Waiting,
deadlines and verdicts are the same for all and stand in `judge.py`.

On a host outside of a lab all kinds are attempted there, by the same code (`agent.py`): so a kind,
and what it imports, is the standard library and the part of msgspec that `agent_msgspec.py` has.
"""

from __future__ import annotations

import re
import shlex
import ssl
from typing import ClassVar, Final, NamedTuple

import msgspec

from hostlab.checks.access import NodeAccess
from hostlab.checks.patience import ATTEMPT_S, Seen
from hostlab.probes.names import UnknownName

Texts = str | tuple[str, ...] | None
"""One text, several, or none."""
OUTPUT_LINES: Final = 20
OUTPUT_BYTES: Final = 4096
"""How much of a command's output goes into a verdict."""


class Asked(NamedTuple):
    """A port that a check asks for."""

    host: str | None
    """As the check has it; None is the node's own."""
    port: int
    protocol: str = "tcp"


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

    def asked(self) -> tuple[Asked, ...]:
        """The ports of hosts that it asks: what is so there may say why it does not hold."""
        return ()

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


def texts(said: Texts) -> tuple[str, ...]:
    """The texts of one, of several, or of none."""
    return () if said is None else (said,) if isinstance(said, str) else tuple(said)


def content_differs(
    content: bytes,
    contains: tuple[str, ...],
    matches: tuple[str, ...] = (),
    lacks: tuple[str, ...] = (),
) -> str | None:
    """The first of what is wanted of a content that is not so, in words; None when all is.

    `^` and `$` of the regular expressions in `matches` are of lines.
    """
    for text in contains:
        if text.encode() not in content:
            return "is without that text" if len(contains) == 1 else f"lacks {text!r}"
    for pattern in matches:
        if not re.search(pattern, content.decode(errors="replace"), re.MULTILINE):
            return f"has no match of /{pattern}/"
    for text in lacks:
        if text.encode() in content:
            return f"has {text!r}"
    return None


def last_lines(output: bytes) -> tuple[str, ...]:
    """The last lines of an output, bounded."""
    return tuple(output[-OUTPUT_BYTES:].decode(errors="replace").splitlines()[-OUTPUT_LINES:])


def hostlab_line(command: str, lab: str | None, node: str, *rest: str) -> str:
    """A hostlab command line about a node, to be pasted into a shell."""
    place = f"{lab}/{node}" if lab else node
    return shlex.join(("hostlab", command, place, *rest))


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
