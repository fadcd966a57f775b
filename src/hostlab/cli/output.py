"""How results are shown: a table for people, JSON for programs, progress for the impatient."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

import click
import msgspec

from hostlab.errors import UsageError
from hostlab.terminal import plain

PROGRESS_AFTER_S: Final = 0.5
"""Work that is done sooner shows no progress."""
_GREEN: Final = "green"
_RED: Final = "red"


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """The `--json` flag, as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(
        function
    )


def print_json(value: Any) -> None:
    """A value as indented JSON."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def clock(wall: float) -> str:
    """The time of the day of a time in seconds of the epoch, as the monitor tells it."""
    return datetime.fromtimestamp(wall).astimezone().strftime("%H:%M:%S.%f")


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as their widest cell, two spaces apart; nothing for no rows."""
    if not rows:
        return
    every = (header, *rows)
    cells = [["-" if cell is None else plain(str(cell)) for cell in row] for row in every]
    widths = [max(len(row[n]) for row in cells) for n in range(len(header))]
    for row in cells:
        print("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())


def counted(number: int, noun: str) -> str:
    """`1 node`, `2 nodes`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def coloured(text: str, *, good: bool) -> str:
    """Green or red on a terminal, plain elsewhere."""
    if not sys.stdout.isatty():
        return text
    return click.style(text, fg=_GREEN if good else _RED)


def write_text(path: str, text: str) -> None:
    """A file whole or not at all; something that is no file, as /dev/stdout, is written to."""
    from hostlab.linux.whole_files import write_whole

    try:
        if os.path.exists(path) and not os.path.isfile(path):
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        else:
            write_whole(path, text.encode())
    except OSError as error:
        raise UsageError("output", f"{path}: {error.strerror}") from None


class Progress:
    """A counter on standard error, on a terminal, for work that takes longer than half a second."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._started = time.monotonic()
        self._shown = False

    def __call__(self, done: int, total: int) -> None:
        """Show how far the work is."""
        late = time.monotonic() - self._started > PROGRESS_AFTER_S
        if not (late and sys.stderr.isatty()):
            return
        self._shown = True
        sys.stderr.write(f"\r\033[K{self.what}: {done} of {total}")
        sys.stderr.flush()

    def end(self) -> None:
        """Take the counter away."""
        if self._shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
