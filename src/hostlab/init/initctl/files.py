"""The files of initctl's clients, read and written without trust.

Whoever is root in the node can put anything into the directory: links, devices, endless files, a
FIFO that nobody reads. So nothing here follows a link, waits, or reads more than a bound.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from hostlab.errors import DecodeError
from hostlab.init.initctl.surroundings import Answer, Command

MAX_REQUEST_BYTES: Final = 4 * 2**20
PIPE_BUF: Final = 4096
"""What a FIFO takes in one piece (pipe(7))."""
MAX_NAME_BYTES: Final = 24
ARGUMENTS, OUT, ERR = ".args", ".out", ".err"
SUFFIXES: Final = ("", ARGUMENTS, OUT, ERR)
OPENED_WITHIN_S: Final = 60
"""Between making its FIFO and opening it a client takes less; until then it only looks gone."""
TOKEN_PREFIX: Final = "initctl/"
_NAME: Final = re.compile(r"[0-9]{1,10}(\.[0-9]{1,6})?")
_SAFE: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


@dataclass(frozen=True, slots=True)
class Asker:
    """A client: its name in the directory, and which of the FIFOs of that name is its own."""

    name: str
    inode: int
    asked_at: float = field(compare=False)
    """When it made its FIFO, or the last answer was written to that."""

    @property
    def token(self) -> str:
        return f"{TOKEN_PREFIX}{self.name}/{self.inode}"


def session_of(token: str) -> int:
    """The session (setsid(2)) of the client with this token; 0 when it has gone, or is none.

    A client's name begins with its pid.
    """
    name = token.removeprefix(TOKEN_PREFIX).partition("/")[0]
    try:
        return os.getsid(int(name.partition(".")[0])) if is_name(name) else 0
    except (OSError, OverflowError):
        return 0


def is_name(text: str) -> bool:
    """Whether a client can be called so."""
    return _NAME.fullmatch(text) is not None


def find_asker(directory: int, name: str) -> Asker | None:
    """The client of this name; None when there is no FIFO of it."""
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return None
    if not stat.S_ISFIFO(found.st_mode):
        return None
    return Asker(name, found.st_ino, found.st_mtime)


def open_answer(directory: int, asker: Asker) -> int | None:
    """The client's FIFO, for writing; None when it has gone or nobody reads it."""
    try:
        # A device would be opened too, so it is looked at before.
        if find_asker(directory, asker.name) is None:
            return None
        fd = os.open(asker.name, os.O_WRONLY | _SAFE, dir_fd=directory)
    except OSError:
        return None
    found = os.fstat(fd)
    if stat.S_ISFIFO(found.st_mode) and found.st_ino == asker.inode:
        return fd
    os.close(fd)
    return None


def is_waiting(directory: int, asker: Asker) -> bool:
    """Whether the client is still there."""
    fd = open_answer(directory, asker)
    if fd is None:
        return False
    os.close(fd)
    return True


def read_request(directory: int, asker: Asker) -> Command | None:
    """What a client asks; None when it has not written all of it, DecodeError for what is none."""
    words = _read(directory, asker.name + ARGUMENTS)
    if words is None:
        return None
    program, arguments, environment = "", [], {}
    for word in words:
        kind, value = word[:1], word[1:]
        if kind == "n":
            program = value
        elif kind == "a":
            arguments.append(value)
        elif kind == "e":
            name, _, text = value.partition("=")
            environment[name] = text
        else:
            raise DecodeError("initctl-request", f"a request with a word of no kind: {word[:40]!r}")
    return Command(program, tuple(arguments), asker.token, asker.asked_at, environment)


def _read(directory: int, name: str) -> list[str] | None:
    """The NUL-ended words of a file without the last, which says that they are all there."""
    try:
        if not stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            raise DecodeError("initctl-request", "a request that is no regular file")
        fd = os.open(name, os.O_RDONLY | _SAFE, dir_fd=directory)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DecodeError("initctl-request", f"a request: {error.strerror}") from None
    with os.fdopen(fd, "rb") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_REQUEST_BYTES:
            text = f"a request that is no regular file of at most {MAX_REQUEST_BYTES} bytes"
            raise DecodeError("initctl-request", text)
        data = file.read(MAX_REQUEST_BYTES + 1)
    # Facts are written down as JSON, which has no bytes that are no text.
    words = data.decode(errors="replace").split("\0")
    if words[-2:] != [".", ""]:
        return None
    return words[:-2]


def write_answer(directory: int, asker: Asker, answer: Answer) -> None:
    """Give a client its answer, and take its files away; one that has gone gets none."""
    out, err = (text.replace("\0", "") for text in (answer.out, answer.err))
    data = f"{_lines('o', out)}{_lines('e', err)}x {answer.status}\n".encode()
    fd = open_answer(directory, asker)
    if fd is None:
        remove(directory, asker)
        return
    try:
        is_long = len(data) > PIPE_BUF
        if is_long:
            _write_file(directory, asker.name + OUT, out.encode())
            _write_file(directory, asker.name + ERR, err.encode())
            data = f"f\nx {answer.status}\n".encode()
        os.write(fd, data)
    except OSError:
        # Its FIFO is full or gone, or its disk is: it is told nothing more.
        is_long = False
    finally:
        os.close(fd)
    if not is_long:
        # Otherwise the client reads its files first, and removes them.
        remove(directory, asker)


def _lines(kind: str, text: str) -> str:
    if not text:
        return ""
    return "".join(f"{kind} {line}\n" for line in text.removesuffix("\n").split("\n"))


def _write_file(directory: int, name: str, data: bytes) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE
    with os.fdopen(os.open(name, flags, 0o600, dir_fd=directory), "wb") as file:
        file.write(data)


def remove(directory: int, asker: Asker) -> None:
    """Take away the files of a client, unless another one has its name by now."""
    found = find_asker(directory, asker.name)
    if found is not None and found.inode != asker.inode:
        return
    # The FIFO last: while it is there no other client takes the name.
    for suffix in reversed(SUFFIXES):
        with contextlib.suppress(OSError):
            os.unlink(asker.name + suffix, dir_fd=directory)


def sweep(directory: int, names: Iterable[str]) -> list[Asker]:
    """Take away what clients left that are gone; those of these names that are there still."""
    waiting = []
    for name in names:
        base, dot, suffix = name.rpartition(".")
        if dot and f".{suffix}" in SUFFIXES and is_name(base):
            # A client makes its FIFO before anything else.
            if find_asker(directory, base) is None:
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=directory)
        elif is_name(name) and (asker := find_asker(directory, name)) is not None:
            if is_waiting(directory, asker):
                waiting.append(asker)
            elif _has_asked(directory, asker) or time.time() - asker.asked_at > OPENED_WITHIN_S:
                remove(directory, asker)
    return waiting


def _has_asked(directory: int, asker: Asker) -> bool:
    """Whether a client came so far as to write its request, and so had opened its FIFO."""
    try:
        os.stat(asker.name + ARGUMENTS, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    return True
