"""Reading descriptions from this machine's files: the I/O that `spec` leaves to its caller."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING, Final

from hostlab import typed
from hostlab.errors import UsageError
from hostlab.lab.origin import Noted, Origin
from hostlab.lab.paths import LabDirectory, read_if_there
from hostlab.spec import Lab

if TYPE_CHECKING:
    from hostlab.spec.files import Listed

STANDARD_INPUT = "-"
ENDINGS: Final = (".yaml", ".yml")
MAX_NAMED: Final = 5
_WANTED: Final = "the file of a description is wanted, as `lab.yaml`"


def read_lab(path: str) -> Lab:
    """The description in a file, or on standard input for `-`; SpecErrors with every error."""
    return read_with_origin(path)[0]


def read_with_origin(path: str) -> tuple[Lab, Origin]:
    """As `read_lab`, and what was read for it."""
    noted = Noted()
    if path == STANDARD_INPUT:
        lab = _load(sys.stdin.buffer.read(), "<stdin>", os.getcwd(), None, noted)
        return lab, Origin("", {})
    real = os.path.realpath(path)
    noted.note(real)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise _unreadable(path, error) from None
    lab = _load(data, path, os.path.dirname(real), real, noted)
    return lab, Origin(real, noted.files)


def _load(data: bytes, file: str, directory: str, seed: str | None, noted: Noted) -> Lab:
    # It brings YAML with it, which most commands do without.
    from hostlab.spec.loading import load

    def read(name: str) -> bytes:
        path = os.path.join(directory, name)
        noted.note(path)
        with open(path, "rb") as source:
            return source.read()

    def list_files(name: str) -> list[Listed] | None:
        path = os.path.join(directory, name)
        return _files_below(path, noted) if os.path.isdir(path) else None

    return load(data, file=file, read=read, list_files=list_files, directory=directory, seed=seed)


def _unreadable(path: str, error: OSError) -> UsageError:
    """What to tell of a file that cannot be read: where another is that may have been meant."""
    if isinstance(error, IsADirectoryError):
        found = descriptions_in(path)
        hint = f"name the description in it: {', '.join(found)}" if found else _WANTED
        return UsageError("no-file", f"{path} is a directory", hint=hint)
    if not isinstance(error, FileNotFoundError):
        return UsageError("no-file", f"{path}: {error.strerror}")
    return no_file(path)


def no_file(path: str) -> UsageError:
    """What to tell of a file that is not there: the nearest name beside it, or those few."""
    import difflib

    near = descriptions_in(os.path.dirname(path))
    close = difflib.get_close_matches(path, near, 1)
    hint = f"did you mean {close[0]}?" if close else _there(near)
    return UsageError("no-file", f"no such file: {path}", hint=hint)


def _there(files: list[str]) -> str | None:
    return f"there is {', '.join(files)}" if files else None


def descriptions_in(directory: str) -> list[str]:
    """The first few files of a directory that may be descriptions, by their names."""
    try:
        names = sorted(os.listdir(directory or "."))
    except OSError:
        return []
    return [os.path.join(directory, n) for n in names if n.endswith(ENDINGS)][:MAX_NAMED]


def description_named(lab: str) -> str | None:
    """A file in this directory that has a lab's name."""
    return next((f"{lab}{end}" for end in ENDINGS if os.path.isfile(f"{lab}{end}")), None)


def _files_below(directory: str, noted: Noted) -> list[Listed]:
    """Its regular files, and those that links lead to; no other kind can be copied."""
    from hostlab.spec.files import MAX_LISTED, Listed

    found: list[Listed] = []
    for where, directories, names in os.walk(directory, onerror=_raise):
        directories.sort()
        noted.note(where)
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
    return None if data is None else typed.decode(data, Lab)
