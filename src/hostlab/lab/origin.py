"""Which files a lab was staged from, and whether they are as they were then.

What is remembered is each file's stamp, taken before it was read: an edit in between shows later.
Whether a file is the same is asked with one stat(2); only of one that is not is the text read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

import msgspec

from hostlab import typed
from hostlab.lab.paths import LabDirectory, read_if_there
from hostlab.linux.whole_files import write_whole

MAX_FILES: Final = 1000
"""Files that are remembered; what a description copies may be many more."""

Stamp = tuple[int, int, int, int]
"""Modification and change in nanoseconds, bytes, inode."""


class Origin(msgspec.Struct, frozen=True):
    """What a description was read from."""

    path: str
    """The real path of its file; empty for standard input."""
    files: Mapping[str, Stamp | None]
    """Each file and listed directory that was read for it; None is one that was not there."""

    def is_as_it_was(self) -> bool:
        """Whether every file of it is the same as when it was read."""
        return all(stamp(path) == then for path, then in self.files.items())


class Noted:
    """The files that are read for a description, as they are before."""

    def __init__(self) -> None:
        self.files: dict[str, Stamp | None] = {}

    def note(self, path: str) -> None:
        """Of a file that is about to be read, or a directory that is about to be listed."""
        if path not in self.files and len(self.files) < MAX_FILES:
            self.files[path] = stamp(path)


def stamp(path: str) -> Stamp | None:
    """What changes with a file; None when there is none that could be read."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def remember(directory: LabDirectory, origin: Origin) -> None:
    """Write down what a lab was staged from, beside what was staged."""
    write_whole(_path(directory), msgspec.json.encode(origin))


def recalled(name: str) -> Origin | None:
    """What a lab was last staged from; None when nobody has said."""
    data = read_if_there(_path(LabDirectory.of(name)))
    return None if data is None else typed.decode(data, Origin)


def _path(directory: LabDirectory) -> str:
    return f"{directory.path}/origin.json"
