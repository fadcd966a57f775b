"""The journal's format: what is about to be made outside the lab's own namespaces.

Nearly everything of a lab vanishes with its processes. What does not (cgroups, an interface of the
machine, files) and where the processes are is written down before it is made, a JSON object a line.
A line that a crash cut short is the last, and means that its operation had not begun.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from hostlab import typed


class What(StrEnum):
    """What a journal line tells of."""

    LAB = "lab"
    """name: the lab; value: the machine's boot id."""
    CGROUP = "cgroup"
    """name: the directory."""
    LINK = "link"
    """name: the machine's interface; value: its altname, the mark."""
    PROCESS = "process"
    """name: node or `hub`; value: PID STARTTIME."""


class Entry(msgspec.Struct, frozen=True):
    """One line."""

    what: What
    name: str
    value: str = ""


_encoder = msgspec.json.Encoder()
_decoder = typed.decoder(Entry)


def line(entry: Entry) -> bytes:
    """An entry as it is written."""
    return _encoder.encode(entry) + b"\n"


def entries(data: bytes) -> Iterable[Entry]:
    """The entries of a journal, oldest first; a torn last line is left out."""
    *whole, _ = data.split(b"\n")
    for text in whole:
        try:
            yield _decoder.decode(text)
        except msgspec.DecodeError:
            continue
