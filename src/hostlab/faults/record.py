"""The journal of a lab's faults: written before a fault is done, in the lab's run directory.

A JSON object a line: `begun` has the fault and what must be known to take it back, `injected` and
`cleared` name its number. So what a killed command had begun is known, and can be taken back; the
lines with their times are the faults' history on the machine's clock, beside the events. `down`
needs nothing of it: what faults change goes away with the lab's processes and cgroups.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Final

import msgspec

from hostlab import typed
from hostlab.lab.paths import LabDirectory, append_lines, read_if_there
from hostlab.spec.model import Fault

FILE: Final = "faults"


class Phase(StrEnum):
    """What has happened."""

    BEGUN = "begun"
    INJECTED = "injected"
    CLEARED = "cleared"


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the journal."""

    number: int
    phase: Phase
    time: float
    """Seconds of the epoch."""
    fault: Fault | None = None
    """Of BEGUN."""
    state: dict[str, Any] = {}
    """Of BEGUN: what takes it back."""


_decoder: Final = typed.decoder(Line)


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A fault that has not been cleared."""

    number: int
    fault: Fault
    phase: Phase
    """BEGUN: whoever was at it did not come to the end."""
    since: float
    """Seconds of the epoch."""
    state: dict[str, Any]


def path_of(directory: LabDirectory) -> str:
    """The journal's file."""
    return f"{directory.path}/{FILE}"


@contextlib.contextmanager
def alone(directory: LabDirectory) -> Iterator[None]:
    """One command at a time breaks or mends something in a lab; the kernel forgets a dead one."""
    fd = os.open(path_of(directory), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def write(
    directory: LabDirectory,
    number: int,
    phase: Phase,
    fault: Fault | None = None,
    state: dict[str, Any] | None = None,
) -> Line:
    """Add a line with the time that it is now."""
    line = Line(number=number, phase=phase, time=time.time(), fault=fault, state=state or {})
    append_lines(path_of(directory), msgspec.json.encode(line) + b"\n")
    return line


def read(directory: LabDirectory) -> tuple[Line, ...]:
    """The journal so far, oldest first; a line that was cut short is left out."""
    return tuple(decode(read_if_there(path_of(directory)) or b""))


def decode(data: bytes) -> Iterator[Line]:
    """The whole lines of a journal's text."""
    for text in data.split(b"\n")[:-1]:
        with contextlib.suppress(msgspec.DecodeError):
            yield _decoder.decode(text)


def standing(lines: tuple[Line, ...]) -> tuple[Standing, ...]:
    """What has not been cleared, in the order in which it was begun."""
    found: dict[int, Standing] = {}
    for line in lines:
        if line.phase is Phase.CLEARED:
            found.pop(line.number, None)
        elif line.fault is not None:
            found[line.number] = Standing(
                number=line.number,
                fault=line.fault,
                phase=line.phase,
                since=line.time,
                state=line.state,
            )
        elif line.number in found:
            found[line.number] = msgspec.structs.replace(
                found[line.number], phase=line.phase, since=line.time
            )
    return tuple(found.values())


def next_number(lines: tuple[Line, ...]) -> int:
    """A number that no fault of this lab has had."""
    return max((line.number for line in lines), default=0) + 1
