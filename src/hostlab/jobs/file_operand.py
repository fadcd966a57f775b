"""What the operands `file …` and `path …` say.

    start on file FILE=/run/app.pid EVENT=create
    start on file FILE=/var/crash/*.crash
    start on path NOT_EMPTY=/var/spool/in JOB=sorter

`file` is Upstart's (file-event(7)): a file, a directory when a slash ends it, or a pattern in the
last part of the path. `path` is one line of a systemd.path(5).
"""

from __future__ import annotations

import posixpath
from enum import StrEnum
from typing import Final

import msgspec

from hostlab.errors import SpecError
from hostlab.jobs.glob import is_literal, matches
from hostlab.jobs.named_event import JOB, NAME, PATH, WHAT, environment
from hostlab.spec import units
from hostlab.spec.source import Wrong, quoted

FILE: Final = "file"
_OPTIONS: Final = (JOB, "LIMIT", "MAKE", NAME)


class Happening(StrEnum):
    """What happens to a file."""

    CREATE = "create"
    MODIFY = "modify"
    DELETE = "delete"


class FileOperand(msgspec.Struct, frozen=True):
    """What is looked for, and where."""

    said: str
    """The value of FILE, as the event has it."""
    directory: str
    """Whose entries are looked at."""
    name: str = ""
    """The entry, or the pattern of entries; empty: all of them, and the directory itself."""
    is_pattern: bool = False
    wanted: frozenset[Happening] = frozenset(Happening)

    @property
    def is_directory(self) -> bool:
        """Whether it is about a directory as a whole."""
        return not self.name


class PathOperand(msgspec.Struct, frozen=True):
    """What a path unit looks for."""

    kind: str
    """One of WHAT."""
    path: str
    name: str
    """Of the event."""
    job: str | None = None
    """While this job runs nothing is triggered, and when it ends there is another look."""
    burst: int = 0
    """So often within the interval; 0 is no limit."""
    interval_s: float = 0.0
    make_mode: int | None = None
    """Make it as a directory with this mode before it is watched."""


def parse_file(words: tuple[str, ...], home: str | None = None) -> FileOperand:
    """What `file …` says; SpecError when it says nothing that can be watched.

    `home` is where relative paths of a user's session begin.
    """
    said: str | None = None
    wanted = frozenset(Happening)
    for word in words:
        key, sign, value = word.partition("=")
        if key == "FILE" and sign:
            said = value
        elif key in ("EVENT", "EVENT!") and sign:
            wanted &= _happenings(value, negated=key.endswith("!"))
        elif not sign or key.removesuffix("!") != "MATCH":
            raise _error(FILE, f"{quoted(word)} says nothing about a file", "FILE, EVENT, MATCH")
    if not said:
        raise _error(FILE, "which file is not said", "with FILE=")
    path = said
    if not path.startswith("/"):
        if home is None:
            raise _error(FILE, f"{quoted(said)} is no absolute path", None)
        path = posixpath.join(home, path)
    _check_path(FILE, path)
    above, _, last = path.rpartition("/")
    if not is_literal(above):
        hint = "a pattern may stand in the last part of a path only"
        raise _error(FILE, f"{quoted(said)} has a pattern for a directory", hint)
    directory = posixpath.normpath(above or "/").replace("//", "/")
    return FileOperand(said, directory, last, not is_literal(last), wanted)


def parse_path(words: tuple[str, ...]) -> PathOperand:
    """What `path …` says; SpecError when it is nothing that can be watched."""
    values = dict(environment(words))
    kinds = [key for key in WHAT if key in values]
    for word in words:
        key, sign, _ = word.partition("=")
        if not sign or key not in (*WHAT, *_OPTIONS):
            known = ", ".join((*WHAT, *_OPTIONS))
            raise _error(PATH, f"{quoted(word)} says nothing about a path", f"known: {known}")
    if len(kinds) != 1 or len(values) != len(words):
        raise _error(PATH, "it says once what is looked for", f"with one of {', '.join(WHAT)}")
    path = values[kinds[0]]
    if not path.startswith("/"):
        raise _error(PATH, f"{quoted(path)} is no absolute path", None)
    _check_path(PATH, path)
    burst, interval_s = _limit(values.get("LIMIT", "0/0"))
    make = values.get("MAKE")
    try:
        mode = None if make is None or kinds[0].startswith("EXISTS") else units.mode(make)
    except Wrong as wrong:
        raise _error(PATH, wrong.message, wrong.hint) from None
    return PathOperand(
        kinds[0], path, values[NAME], values.get(JOB), burst, interval_s, make_mode=mode
    )


def _happenings(pattern: str, *, negated: bool) -> frozenset[Happening]:
    found = frozenset(each for each in Happening if matches(pattern, each) is not negated)
    if not found:
        hint = f"one of {', '.join(Happening)}"
        raise _error(FILE, f"{quoted(pattern)} never happens to a file", hint)
    return found


def _limit(text: str) -> tuple[int, float]:
    burst, slash, span = text.partition("/")
    try:
        if not slash:
            raise Wrong(f"{quoted(text)} is no limit", "as `200/2s`: so often in such a time")
        return units.between(0, 10**9, burst), units.duration(span)
    except Wrong as wrong:
        raise _error(PATH, wrong.message, wrong.hint) from None


def _check_path(event: str, path: str) -> None:
    if "\0" in path or ".." in path.split("/"):
        raise _error(event, f"{quoted(path)} is no plain path", "write it without `..`")


def _error(event: str, message: str, hint: str | None) -> SpecError:
    return SpecError(event, message, hint=hint)
