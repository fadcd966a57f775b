"""Every directive of systemd's units, and what becomes of it here.

The rows stand in `directives_unit.py` and `directives_exec.py` as lines `NAME MARK TEXT`: `+` is
implemented, and the text says as what; `~` partly, and the text says what is missing; `-` knowingly
without effect, and the text says why. A key that has no row is a warning, never a rejection.
"""

from __future__ import annotations

import difflib
from enum import StrEnum
from functools import lru_cache

import msgspec

from hostlab.spec.systemd.directives_exec import EXEC, KILL, RESOURCES
from hostlab.spec.systemd.directives_unit import OWN
from hostlab.spec.systemd.syntax import is_private

MAX_CACHED = 1024


class Effect(StrEnum):
    """What becomes of a directive."""

    IMPLEMENTED = "implemented"
    PARTLY = "partly"
    WITHOUT = "without effect"


class Directive(msgspec.Struct, frozen=True):
    """One key of one section."""

    section: str
    name: str
    effect: Effect
    text: str
    """What it becomes, what is missing, or why it has no effect."""


_MARKS = {"+": Effect.IMPLEMENTED, "~": Effect.PARTLY, "-": Effect.WITHOUT}
_EXEC_SECTIONS = ("Service", "Socket", "Mount", "Swap")
_KILL_SECTIONS = (*_EXEC_SECTIONS, "Scope")
_RESOURCE_SECTIONS = (*_KILL_SECTIONS, "Slice")
UNSTAGED = ("Mount", "Automount", "Swap", "Scope", "Slice")
"""Sections of units that are no jobs here."""
_NO_JOB = "units of this type are none of hostlab's jobs"


def _rows(section: str, text: str) -> list[Directive]:
    found = []
    for line in text.strip().splitlines():
        name, mark, words = line.split(maxsplit=2)
        effect = _MARKS[mark]
        if section in UNSTAGED and section != "Slice":
            effect, words = Effect.WITHOUT, _NO_JOB
        found.append(Directive(section, name, effect, words))
    return found


@lru_cache(1)
def directives() -> dict[tuple[str, str], Directive]:
    """Every row by section and name, sections together and in the order of their rows."""
    rows: dict[tuple[str, str], Directive] = {}
    for section, text in OWN.items():
        found = _rows(section, text)
        if section in _EXEC_SECTIONS:
            found += _rows(section, EXEC)
        if section in _KILL_SECTIONS:
            found += _rows(section, KILL)
        if section in _RESOURCE_SECTIONS:
            found += _rows(section, RESOURCES)
        for row in found:
            rows.setdefault((row.section, row.name), row)
    return rows


def directive(section: str, key: str) -> Directive | None:
    """The row of a key; None when there is no such directive."""
    return directives().get((section, key))


@lru_cache(MAX_CACHED)
def suggestion(section: str, key: str) -> str | None:
    """What an unknown key may have meant: one of another section, or one that is written alike."""
    elsewhere = [row.section for row in directives().values() if row.name == key]
    if elsewhere and section not in elsewhere:
        return f"it belongs in [{elsewhere[0]}]"
    known = [row.name for row in directives().values() if row.section == section]
    lower = {name.lower(): name for name in known}
    if key.lower() in lower:
        return f"did you mean `{lower[key.lower()]}`?"
    close = difflib.get_close_matches(key, known, n=1)
    return f"did you mean `{close[0]}`?" if close else None


@lru_cache(MAX_CACHED)
def is_section(name: str) -> bool:
    """Whether units have such a section."""
    return name in OWN or is_private(name)
