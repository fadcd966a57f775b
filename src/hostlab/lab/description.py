"""Reading descriptions from this machine's files: the I/O that `spec` leaves to its caller."""

from __future__ import annotations

import os
import sys

import msgspec

from hostlab.errors import UsageError
from hostlab.lab.paths import LabDirectory, read_if_there
from hostlab.spec import Lab, load

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

    return load(data, file=file, read=read, directory=directory, seed=seed)


def staged(name: str) -> Lab | None:
    """A lab as it was last staged here; None when there is no record of it."""
    data = read_if_there(LabDirectory.of(name).description)
    return None if data is None else msgspec.json.decode(data, type=Lab)
