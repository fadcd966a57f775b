"""utmp(5): who is logged in, as login, sshd and display managers write it down.

The file is an array of records, which libc's pututline(3) rewrites one at a time; it is read whole
each time, and an unfinished record at its end is left for the next time.
"""

from __future__ import annotations

import os
import platform
import struct
from dataclasses import dataclass
from typing import Final

UTMP: Final = "/run/utmp"
USER_PROCESS: Final = 7
MAX_RECORDS: Final = 16_384
"""What is behind them is not read."""
_HEAD: Final = struct.Struct("=h2xi32s4s32s256s")
_RECORD_BYTES: Final = 400 if platform.machine() == "aarch64" else 384
"""sizeof(struct utmp); times are 64 bits wide where 32-bit programs never were (bits/utmp.h)."""


@dataclass(frozen=True, slots=True)
class Login:
    """A record of a user who is logged in (`USER_PROCESS`)."""

    pid: int
    """The process that ends with the session."""
    line: str
    """The terminal below /dev, or a display."""
    user: str
    host: str
    """From where; empty for a local one."""


def logins(path: str = UTMP) -> tuple[Login, ...]:
    """The users that are logged in, in the file's order; none where there is no file."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_RECORDS * _RECORD_BYTES)
    except FileNotFoundError:
        return ()
    return decode(data)


def decode(data: bytes) -> tuple[Login, ...]:
    """The users in a file's content."""
    found = []
    for offset in range(0, len(data) - _RECORD_BYTES + 1, _RECORD_BYTES):
        kind, pid, line, _, user, host = _HEAD.unpack_from(data, offset)
        if kind == USER_PROCESS and pid > 0:
            found.append(Login(pid, _text(line), _text(user), _text(host)))
    return tuple(found)


def encode(login: Login, *, kind: int = USER_PROCESS) -> bytes:
    """A record, for whoever writes one."""
    head = _HEAD.pack(
        kind,
        login.pid,
        os.fsencode(login.line),
        os.fsencode(login.line)[-4:],
        os.fsencode(login.user),
        os.fsencode(login.host),
    )
    return head.ljust(_RECORD_BYTES, b"\0")


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode(errors="replace")
