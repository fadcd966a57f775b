"""The answer to a check, as a value: what everything that judges ends in.

A verdict is stable as JSON: members are added, never renamed. It says enough to act on without
running anything again: where the expectation stands, what it expected, what was seen instead, the
log of the job at fault, and a line to repeat it by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec

from hostlab.checks.patience import Step
from hostlab.errors import Failed
from hostlab.spec.model import Place
from hostlab.terminal import plain

SIGNS: Final = {"holds": "✓", "fails": "✗", "unknown": "?", "skipped": "–"}
_REPR_CHARACTERS: Final = 160
"""Of verdicts in a report's repr: pytest cuts those above 240 in the middle."""


class Outcome(StrEnum):
    """How a check ended."""

    HOLDS = "holds"
    FAILS = "fails"
    UNKNOWN = "unknown"
    """It could not be judged: the node is not there, a program or a right is missing."""
    SKIPPED = "skipped"
    """It was not asked: its condition does not hold on this node."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """One expectation about one node, judged."""

    node: str
    kind: str
    check: str
    """The expectation in one line, as it stands in a description: `listens: 80`."""
    outcome: Outcome
    expected: str
    seen: str
    within_s: float
    took_s: float
    tries: int = 1
    place: Place | None = None
    log: tuple[str, ...] = ()
    """The last lines of the job at fault, or of the command's output; then what is so in the nodes
    that it has asked, when they do not answer."""
    repeat: str = ""
    """A command line that asks the same by hand."""
    trace: tuple[Step, ...] = ()
    """What was seen first, and each time that it changed, where it changed."""
    facts: Mapping[str, Any] = {}
    """What was found out beside: the records, the certificate, the dialogue."""
    asks: tuple[str, ...] = ()
    """When it fails: the other nodes of the lab that have not answered as wanted."""
    jobs_said: tuple[str, ...] = ()
    """The last lines of the node's jobs, each with its job, and with their node those of the nodes
    that it has asked."""
    packets: tuple[str, ...] = ()
    """What passed the node when it was asked once more, each with its interface."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong: the expectation holds, or is not asked of this node."""
        return self.outcome in (Outcome.HOLDS, Outcome.SKIPPED)

    @property
    def detail(self) -> str:
        """One line: what was seen, and when it is not what was expected, that too."""
        if self.ok:
            return self.seen
        tries = "1 try" if self.tries == 1 else f"{self.tries} tries"
        return f"expected {self.expected}; {self.seen} ({self.took_s:.1f} s, {tries})"

    def __str__(self) -> str:
        lines = [f"{self.node}: {self.check}: {self.outcome}: {self.detail}"]
        if not self.ok:
            if self.place:
                lines[0] = f"{self.place.file}:{self.place.line}:{self.place.column}: {lines[0]}"
            lines += [f"    | {line}" for line in self.log]
            if self.repeat:
                lines.append(f"    repeat: {self.repeat}")
        return plain("\n".join(lines))


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Verdicts in the order of the description, whatever the order they were reached in."""

    rows: tuple[Verdict, ...] = ()
    took_s: float = 0.0
    stale: str = ""
    """How the lab that was judged differs from the file that describes it; empty: not at all, or
    nobody can say."""

    def count(self, outcome: Outcome) -> int:
        """How many rows ended so."""
        return sum(row.outcome is outcome for row in self.rows)

    @property
    def ok(self) -> bool:
        """Whether every expectation that was asked holds."""
        return all(row.ok for row in self.rows)

    def __bool__(self) -> bool:
        """As `ok`: `assert lab.check()` means what it looks like."""
        return self.ok

    def must_hold(self) -> None:
        """Failed when it is not `ok`, with what `hostlab check` prints of what does not hold."""
        if not self.ok:
            raise Failed("checks", str(self))

    def __str__(self) -> str:
        wrong = [f"{SIGNS[row.outcome]} {row}" for row in self.rows if not row.ok]
        return "\n".join([*wrong, self.summary()])

    def __repr__(self) -> str:
        """One line: pytest shows it of `assert lab.check()`."""
        wrong = [f"{row.node}: {row.check}: {row.seen}" for row in self.rows if not row.ok]
        while len(wrong) > 1 and sum(map(len, wrong)) > _REPR_CHARACTERS:
            wrong.pop()
        return plain(f"<Report: {'; '.join([self.summary(), *wrong])}>")

    @property
    def exit_code(self) -> int:
        """0 all hold, 1 one does not, 3 none fails but one cannot be judged."""
        if self.count(Outcome.FAILS):
            return 1
        return 3 if self.count(Outcome.UNKNOWN) else 0

    def summary(self) -> str:
        """The counts in one line."""
        skipped = self.count(Outcome.SKIPPED)
        texts = [f"{self.count(Outcome.HOLDS)} of {len(self.rows) - skipped} checks hold"]
        if failed := self.count(Outcome.FAILS):
            texts.append(f"{failed} do not" if failed > 1 else "1 does not")
        if unknown := self.count(Outcome.UNKNOWN):
            texts.append(f"{unknown} could not be judged")
        if skipped:
            texts.append(f"{skipped} {'is' if skipped == 1 else 'are'} not asked")
        return ", ".join(texts)
