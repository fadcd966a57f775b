"""What can go wrong, as values: one root, a scope a subclass, the place where it happened.

Who is to blame decides the class (style.md, "Errors"): bytes from a kernel or a peer are a
`DecodeError`, a user's file is a `SpecError` with its place, a machine that lacks something is
`Unsupported`. Kernel errors stay `OSError`. Only `cli` prints, and maps a class to an exit code.
"""

from __future__ import annotations

import shlex
import sys
from typing import ClassVar

import msgspec

from hostlab.terminal import plain


class Place(msgspec.Struct, frozen=True):
    """A position in a file that a user wrote; line and column count from 1."""

    file: str
    line: int
    column: int
    text: str = ""
    """The offending line, without its newline."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Problem(Exception):
    """Something a person must be told: a code for programs, a message and a hint for people."""

    exit_code: ClassVar[int] = 4

    def __init__(
        self, code: str, message: str, *, where: Place | None = None, hint: str | None = None
    ) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        """For people, and so plain: the words may be a host's, or those of somebody's file."""
        text = f"{self.where}: {self.message}" if self.where else self.message
        if self.where and self.where.text:
            # A tab under a tab, so that the caret stands where the terminal puts the text.
            before = plain(self.where.text[: self.where.column - 1])
            caret = "".join("\t" if c == "\t" else " " for c in before) + "^"
            text += f"\n    {self.where.text}\n    {caret}"
        return plain(f"{text}\n  hint: {self.hint}" if self.hint else text)


class SpecError(Problem):
    """A description says something that cannot be meant."""

    exit_code = 2


class UsageError(Problem):
    """The command line or the caller asks for something that does not exist or cannot be."""

    exit_code = 2


class Unsupported(Problem):
    """This machine, kernel or user lacks what was asked for; the hint says how to get it."""

    exit_code = 3


class Failed(Problem):
    """A job or a command did not do what it was started for."""

    exit_code = 1

    def __init__(
        self,
        code: str,
        message: str,
        *,
        where: Place | None = None,
        hint: str | None = None,
        lab: str | None = None,
    ) -> None:
        """`lab` is the one into which the hint leads: without it the hint is of no use."""
        super().__init__(code, message, where=where, hint=hint)
        self.lab = lab


class DecodeError(Problem):
    """Bytes from a kernel or a peer do not mean anything."""


class SpecErrors(Problem):
    """Every error of a file at once, in the order of their places."""

    exit_code = 2

    def __init__(self, errors: tuple[SpecError, ...]) -> None:
        super().__init__("spec", f"{len(errors)} errors" if len(errors) != 1 else "1 error")
        self.errors = errors

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


def in_a_line(error: Exception) -> str:
    """What went wrong in one line: of a Problem its message, and its hint in brackets; of the
    kernel's what it was about, and why.
    """
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if not isinstance(error, Problem):
        return str(error)
    return f"{error.message} ({error.hint})" if error.hint else error.message


def extra(name: str) -> str:
    """The command that installs what an extra of hostlab's brings: the hint of an Unsupported.

    By the interpreter that runs, where hostlab is; any other pip would look for it in an index.
    """
    return f"{shlex.quote(sys.executable)} -m pip install 'hostlab[{name}]'"
