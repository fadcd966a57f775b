"""The file syntax of units: sections and assignments (systemd.syntax(7)).

Nothing here rejects a file. What cannot be meant is a warning with its place and the line is left
out, which is what systemd does; whether the unit as a whole can mean something is asked later.

A line that ends in an odd number of backslashes goes on in the next one, with a blank for the last
backslash. Comment lines in between are no part of it. Blanks round the `=` and at a line's end are
nothing. A file that ends in the midst of a continued line has that line as far as it goes.
"""

from __future__ import annotations

import msgspec

from hostlab.errors import Place, SpecError
from hostlab.spec.source import quoted

MAX_WARNINGS = 100
"""Of one file, that are kept."""
MAX_QUOTED_LINE = 200
_COMMENTS = ("#", ";")
_PRIVATE = "X-"
"""Sections and keys that begin so are other programs'."""


class Entry(msgspec.Struct, frozen=True):
    """One assignment; its place is that of the value."""

    section: str
    key: str
    value: str
    file: str
    line: int
    column: int
    text: str = ""
    """The line that it began in, for messages."""
    key_column: int = 1

    @property
    def place(self) -> Place:
        """Where the value stands."""
        return Place(self.file, self.line, self.column, self.text)

    @property
    def key_place(self) -> Place:
        """Where the key stands."""
        return Place(self.file, self.line, self.key_column, self.text)


class UnitText(msgspec.Struct, frozen=True):
    """What a file assigns, in its order, and what is wrong with it."""

    entries: tuple[Entry, ...]
    sections: tuple[tuple[str, Place], ...] = ()
    """The sections by their headers, for those who know which there are."""
    warnings: tuple[SpecError, ...] = ()


def parse_unit(text: str, *, file: str) -> UnitText:
    """What a unit file or a drop-in says; never raises."""
    reader = _Reader(file)
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        reader.take(line.rstrip("\r"), number)
    reader.finish()
    return UnitText(tuple(reader.entries), tuple(reader.sections), tuple(reader.warnings))


class _Reader:
    """A file as far as it has been read."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.entries: list[Entry] = []
        self.sections: list[tuple[str, Place]] = []
        self.warnings: list[SpecError] = []
        self._section: str | None = None
        self._pending: list[str] = []
        self._first = ("", 0)
        """The physical line that the logical one began in, and its number."""

    def take(self, line: str, number: int) -> None:
        """One physical line."""
        if line.lstrip().startswith(_COMMENTS):
            return
        if not self._pending:
            self._first = (line, number)
        if _is_continued(line):
            self._pending.append(line[:-1])
            return
        whole = " ".join([*self._pending, line])
        self._pending = []
        self._logical(whole)

    def finish(self) -> None:
        """The file is over."""
        if self._pending:
            whole, self._pending = " ".join(self._pending), []
            self._logical(whole)

    def _logical(self, line: str) -> None:
        bare = line.strip()
        if not bare:
            return
        start = len(line) - len(line.lstrip()) + 1
        if bare.startswith("["):
            self._header(bare, start)
            return
        key, equals, value = line.partition("=")
        if not equals:
            self._warn("no-assignment", f"no `=` in {quoted(bare)}", start, "write KEY=VALUE")
        elif self._section is None:
            self._warn("no-section", "an assignment before the first section", start)
        elif not key.strip():
            self._warn("no-assignment", "no key before `=`", start)
        else:
            column = len(key) + 2 + len(value) - len(value.lstrip())
            self._assign(key.strip(), value.strip(), start, column)

    def _header(self, bare: str, start: int) -> None:
        if not bare.endswith("]") or len(bare) < 3:
            self._warn("section", f"{quoted(bare)} is no section", start, "write [Service]")
            # What follows belongs to nobody knows what.
            self._section = None
            return
        self._section = bare[1:-1]
        self.sections.append((self._section, self._place(start)))

    def _assign(self, key: str, value: str, start: int, column: int) -> None:
        assert self._section is not None
        text, line = self._first
        shown = text if len(text) <= MAX_QUOTED_LINE else ""
        # Behind the first physical line there is nothing to point at.
        column = min(column, len(text) + 1)
        self.entries.append(Entry(self._section, key, value, self.file, line, column, shown, start))

    def _place(self, column: int) -> Place:
        text, line = self._first
        return Place(self.file, line, column, text if len(text) <= MAX_QUOTED_LINE else "")

    def _warn(self, code: str, message: str, column: int, hint: str | None = None) -> None:
        if len(self.warnings) < MAX_WARNINGS:
            place = self._place(column)
            self.warnings.append(SpecError(code, message, where=place, hint=hint))


def _is_continued(line: str) -> bool:
    """Whether a line ends in a backslash that is not itself behind one."""
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def is_private(name: str) -> bool:
    """Whether a section or key is meant for other programs than a service manager."""
    return name.startswith(_PRIVATE)
