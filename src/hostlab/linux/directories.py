"""Directories that several programs make and take away at the same time."""

from __future__ import annotations

import os
from typing import Final

_MOST_TRIES: Final = 100


def make_directory(path: str, *, mode: int) -> os.stat_result:
    """Make a directory and those above it, if they are not there; what it is, a link not followed.

    One that somebody takes away in the midst of it is made again: `os.makedirs` says then that it
    exists, or nothing. OSError when it cannot be made.
    """
    for _ in range(_MOST_TRIES):
        try:
            os.makedirs(path, mode=mode, exist_ok=True)
            return os.stat(path, follow_symlinks=False)
        except (FileExistsError, FileNotFoundError):
            if os.path.lexists(path) and not os.path.isdir(path):
                raise
    os.makedirs(path, mode=mode, exist_ok=True)
    return os.stat(path, follow_symlinks=False)
