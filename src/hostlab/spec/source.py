"""A file that a user wrote: its lines, and every error found in it.

Nothing that reads a description raises at the first mistake. Each reports here and goes on with
what is left, so that one run tells all of them. What could grow with a hostile input is bounded:
the number of errors, the length of a quoted line, the work spent on suggestions.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from typing import Protocol

from hostlab.errors import Place, SpecError, SpecErrors

MAX_ERRORS = 1000
"""Errors kept of one file; one more says how many there were."""
MAX_QUOTED_LINE = 200
"""Characters of an offending line that are shown."""
MAX_QUOTED_WORD = 60
"""Characters of an offending word that are shown."""
MAX_LISTED = 40
"""Known words that a hint lists when none of them is close."""
MAX_COMPARISONS = 50_000
"""Candidates compared for suggestions, in one file: difflib takes some 10 µs for each."""

# What libyaml counts as the end of a line (YAML 1.1, section 5.4).
_LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class Mark(Protocol):
    """A position in the file, as PyYAML counts: from 0."""

    @property
    def line(self) -> int: ...
    @property
    def column(self) -> int: ...


class Spot:
    """A mark of our own, where PyYAML gave none."""

    __slots__ = ("column", "line")

    def __init__(self, line: int, column: int) -> None:
        self.line = line
        self.column = column


START = Spot(0, 0)


class Wrong(ValueError):
    """What a parser of one value raises: what is wrong with it, and how it could be right."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def quoted(word: str) -> str:
    """A word of the user's, in backquotes, fit for a terminal and for one line."""
    shown = _UNPRINTABLE.sub("\ufffd", word)
    if len(shown) > MAX_QUOTED_WORD:
        shown = shown[: MAX_QUOTED_WORD - 1] + "…"
    return f"`{shown}`"


class Source:
    """One file and what is wrong with it."""

    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file
        self.lines = _LINE_BREAK.split(text)
        self.secrets: dict[str, None] = {}
        """Texts that are marked as secret."""
        self._errors: dict[tuple[int, int, str], SpecError] = {}
        self._comparisons_left = MAX_COMPARISONS
        self._dropped = 0
        self._last = max((n for n, line in enumerate(self.lines) if line.strip()), default=0)

    @property
    def failed(self) -> bool:
        """Whether anything was reported."""
        return bool(self._errors)

    def place(self, at: Mark) -> Place:
        """The place of a mark; one behind the last written line is moved to that line's end."""
        line, column = at.line, at.column
        if line > self._last:
            line, column = self._last, len(self.lines[self._last])
        column = min(column, len(self.lines[line]))
        text = self.lines[line]
        if len(text) > MAX_QUOTED_LINE:
            # A caret beyond what is shown would point at nothing.
            text = text[:MAX_QUOTED_LINE] + "…" if column < MAX_QUOTED_LINE else ""
        text = _UNPRINTABLE.sub(lambda m: " " if m[0] == "\t" else "\ufffd", text)
        return Place(self.file, line + 1, column + 1, text)

    def block_place(self, at: Mark) -> Place:
        """Of a text's first line with something in it: below the sign of a block."""
        place = self.place(at)
        if self.lines[at.line][at.column : at.column + 1] not in ("|", ">"):
            return place
        line = at.line + 1
        while line < len(self.lines) - 1 and not self.lines[line].strip():
            line += 1
        indent = len(self.lines[line]) - len(self.lines[line].lstrip())
        return Place(place.file, line + 1, indent + 1)

    def report(self, code: str, message: str, at: Mark, hint: str | None = None) -> None:
        """Keep one error; what an alias repeats is kept once."""
        key = (at.line, at.column, message)
        if key in self._errors:
            return
        if len(self._errors) >= MAX_ERRORS:
            self._dropped += 1
            return
        self._errors[key] = SpecError(code, message, where=self.place(at), hint=hint)

    def report_elsewhere(self, error: SpecError) -> None:
        """Keep an error that lies in another file, a template or a bundle."""
        where = error.where or Place(self.file, 1, 1)
        if len(self._errors) < MAX_ERRORS:
            self._errors[(-where.line, where.column, f"{where.file}\0{error.message}")] = error

    def suggest(self, word: str, known: Collection[str]) -> str | None:
        """`did you mean …?`, when one of the known words is close enough."""
        if len(self._errors) >= MAX_ERRORS or len(word) > MAX_QUOTED_WORD:
            return None
        if len(known) > self._comparisons_left:
            return None
        self._comparisons_left -= len(known)
        close = difflib.get_close_matches(word, known, n=1)
        return f"did you mean `{close[0]}`?" if close else None

    def suggest_or_list(self, word: str, known: Collection[str]) -> str | None:
        """As `suggest`, else the known words when they are few."""
        hint = self.suggest(word, known)
        if hint is None and 0 < len(known) <= MAX_LISTED:
            hint = "known: " + ", ".join(known)
        return hint

    def raise_errors(self) -> None:
        """SpecErrors with everything reported, in the order of the places, if anything was."""
        if not self._errors:
            return
        errors = sorted(self._errors.values(), key=self._order)
        if self._dropped:
            where = errors[-1].where
            errors.append(
                SpecError("too-many", f"and {self._dropped} more errors, not shown", where=where)
            )
        raise SpecErrors(tuple(errors))

    def _order(self, error: SpecError) -> tuple[bool, str, int, int]:
        where = error.where
        assert where is not None
        return (where.file != self.file, where.file, where.line, where.column)
