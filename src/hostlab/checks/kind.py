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
from collections.abc import Mapping
from typing import Any, ClassVar, Final, NamedTuple

import msgspec

from hostlab.checks.access import NodeAccess
from hostlab.checks.patience import ATTEMPT_S, OUTPUT_LINES, Seen
from hostlab.probes.names import UnknownName

Texts = str | tuple[str, ...] | None
"""One text, several, or none."""
Options = Mapping[str, bool | float | Texts]
"""What is said by the options of a command line."""
OUTPUT_BYTES: Final = 4096
"""How much of a command's output goes into a verdict."""
LINE_CHARACTERS: Final = 400
"""How much of one line of it."""


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

    def on_the_host(self, within_s: float) -> tuple[str, ...]:
        """A command that, run on the host itself, does so."""
        return self.by_hand(within_s)

    def asked(self) -> tuple[Asked, ...]:
        """The ports of hosts that it asks: what is so there may say why it does not hold."""
        return ()

    def blamed(self, facts: Mapping[str, Any]) -> tuple[Asked, ...]:
        """Those of them that did not answer as wanted, by the facts of a verdict that fails."""
        return self.asked()

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
        """The words behind `hostlab probe`: all that was said, so that it asks the same."""
        raise NotImplementedError

    def on_the_host(self, within_s: float) -> tuple[str, ...]:
        return ("hostlab", "probe", *self.by_hand(within_s))

    def repeat(self, lab: str | None, node: str, within_s: float) -> str:
        place = f"{lab}/{node}" if lab else node
        return shlex.join((*self.on_the_host(within_s), "--from", place))


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


def options(said: Options) -> tuple[str, ...]:
    """A command line's: a flag that is true, an option as often as there are texts of it; nothing
    of what is not said.
    """
    words: list[str] = []
    for name, value in said.items():
        if value is True:
            words.append(name)
        elif value is not None and value is not False:
            each = value if isinstance(value, tuple) else (value,)
            for one in each:
                words += [name, f"{one:g}" if isinstance(one, float) else str(one)]
    return tuple(words)


def milliseconds(time_s: float | None) -> str | None:
    """A time as an option has it."""
    return None if time_s is None else f"{time_s * 1e3:g}ms"


def last_lines(output: bytes) -> tuple[str, ...]:
    """The last lines of an output, bounded; of a line that is too long its beginning."""
    lines = output[-OUTPUT_BYTES:].decode(errors="replace").splitlines()[-OUTPUT_LINES:]
    most = LINE_CHARACTERS
    return tuple(line if len(line) <= most else f"{line[:most]} …" for line in lines)


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
