"""Reading descriptions from this machine's files: the I/O that `spec` leaves to its caller."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING

import msgspec

from hostlab.errors import UsageError
from hostlab.lab.paths import LabDirectory, read_if_there
from hostlab.spec import Lab, load

if TYPE_CHECKING:
    from hostlab.spec.files import Listed

STANDARD_INPUT = "-"


def read_lab(path: str) -> Lab:
    """The description in a file, or on standard input for `-`; SpecErrors with every error."""
    if path == STANDARD_INPUT:
        return _load(sys.stdin.buffer.read(), "<stdin>", os.getcwd(), None)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise UsageError("no-file", f"{path}: {error.strerror}") from None
    real = os.path.realpath(path)
    return _load(data, path, os.path.dirname(real), real)


def _load(data: bytes, file: str, directory: str, seed: str | None) -> Lab:
    def read(name: str) -> bytes:
        with open(os.path.join(directory, name), "rb") as source:
            return source.read()

    def list_files(name: str) -> list[Listed] | None:
        path = os.path.join(directory, name)
        return _files_below(path) if os.path.isdir(path) else None

    return load(data, file=file, read=read, list_files=list_files, directory=directory, seed=seed)


def _files_below(directory: str) -> list[Listed]:
    """Its regular files, and those that links lead to; no other kind can be copied."""
    # It brings YAML with it, which most commands do without.
    from hostlab.spec.files import MAX_LISTED, Listed

    found: list[Listed] = []
    for where, directories, names in os.walk(directory, onerror=_raise):
        directories.sort()
        for name in names:
            path = os.path.join(where, name)
            status = os.stat(path)
            if stat.S_ISREG(status.st_mode):
                relative = os.path.relpath(path, directory)
                found.append(Listed(relative, executable=bool(status.st_mode & stat.S_IXUSR)))
        if len(found) > MAX_LISTED:
            break
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


def staged(name: str) -> Lab | None:
    """A lab as it was last staged here; None when there is no record of it."""
    data = read_if_there(LabDirectory.of(name).description)
    return None if data is None else msgspec.json.decode(data, type=Lab)
