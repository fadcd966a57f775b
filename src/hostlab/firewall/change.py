"""A change of the machine's packet filter that is under way, in a file that survives its makers.

The file is in the run directory, so it does not outlive a boot: what was not confirmed is gone with
the kernel that held it. Each step is on the disk before it is made.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from hostlab.errors import Failed
from hostlab.firewall.beside import Operation
from hostlab.firewall.ruleset import Ruleset
from hostlab.lab.paths import base_directory
from hostlab.linux.procfs import boot_id, start_time

DIRECTORY: Final = ".firewall"
"""Beside the labs' run directories; no lab's name begins with a dot."""
MAX_BYTES: Final = 64 << 20


class Phase(StrEnum):
    """How far a change is."""

    ARMED = "armed"
    """The way back is being made; nothing has been changed."""
    LOADING = "loading"
    """The kernel may hold the old, the new, or some of both."""
    LOADED = "loaded"
    """The new ruleset has been read back; nobody has confirmed it."""
    CONFIRMED = "confirmed"
    REVERTED = "reverted"
    """The old ruleset has been read back."""
    STUCK = "stuck"
    """The old ruleset could not be brought back; `problem` says why."""


UNDER_WAY: Final = frozenset({Phase.ARMED, Phase.LOADING, Phase.LOADED, Phase.STUCK})


class Maker(msgspec.Struct, frozen=True, kw_only=True):
    """The process that makes a change, and the connection it sits on."""

    pid: int
    started: str
    """In clock ticks since boot, as procfs tells it."""
    user: str
    connection: str = ""
    """SSH_CONNECTION: client, port, server, port."""

    def is_there(self) -> bool:
        """Whether that very process lives."""
        return start_time(self.pid) == self.started


class FirewallChange(msgspec.Struct, frozen=True, kw_only=True):
    """One change, whole."""

    phase: Phase
    source: str
    """What was applied, as the user named it."""
    maker: Maker
    began: float
    """Seconds since the epoch, for people."""
    deadline: float
    """Seconds of CLOCK_BOOTTIME at which it is taken back."""
    loaded: float = 0.0
    """Seconds of CLOCK_BOOTTIME at which the new ruleset had been read back."""
    boot: str
    before: Ruleset
    """What was ours before: what the way back leads to."""
    wanted: Ruleset
    operations: tuple[Operation, ...] = ()
    """What is done beside rules, each with this machine's own way back."""
    begun: int = 0
    """So many of them were begun."""
    problem: str = ""

    def at(self, phase: Phase, **fields: object) -> FirewallChange:
        """The same change, further on."""
        return msgspec.structs.replace(self, phase=phase, **fields)


@dataclass(frozen=True, slots=True)
class ChangeDirectory:
    """Where the machine's change is kept, and the locks on it."""

    path: str

    @classmethod
    def of_machine(cls) -> ChangeDirectory:
        """This user's, on this machine."""
        return cls(f"{base_directory()}/{DIRECTORY}")

    def make(self) -> None:
        """Make it, for its owner alone."""
        os.makedirs(self.path, mode=0o700, exist_ok=True)

    @property
    def file(self) -> str:
        """The change under way, or the last one."""
        return f"{self.path}/change.json"

    @property
    def applied(self) -> str:
        """The ruleset that was confirmed last in this boot."""
        return f"{self.path}/applied.json"

    def read(self) -> FirewallChange | None:
        """The change; None where there was none since the boot."""
        data = _read(self.file)
        found = None if data is None else msgspec.json.decode(data, type=FirewallChange)
        return found if found is not None and found.boot == boot_id() else None

    def write(self, change: FirewallChange) -> None:
        """Put it on the disk, whole or not at all."""
        write_whole(self.file, msgspec.json.encode(change))

    def read_applied(self) -> Ruleset | None:
        """What is ours in the kernel; None where nothing was applied since the boot."""
        data = _read(self.applied)
        if data is None:
            return None
        found = msgspec.json.decode(data, type=Applied)
        return found.ruleset if found.boot == boot_id() else None

    def write_applied(self, ruleset: Ruleset) -> None:
        """Note what is ours in the kernel."""
        write_whole(self.applied, msgspec.json.encode(Applied(boot=boot_id(), ruleset=ruleset)))

    @contextlib.contextmanager
    def operator(self) -> Iterator[None]:
        """One operator at a time; Failed with who it is and since when."""
        with _locked(f"{self.path}/operator", fcntl.LOCK_EX | fcntl.LOCK_NB) as is_ours:
            if not is_ours:
                raise _busy(self.read())
            yield

    @contextlib.contextmanager
    def kernel(self) -> Iterator[None]:
        """While the kernel's rules are changed: by the operator, or by the way back."""
        with _locked(f"{self.path}/kernel", fcntl.LOCK_EX):
            yield


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """See `ChangeDirectory.applied`."""

    boot: str
    ruleset: Ruleset


def write_whole(path: str, data: bytes, *, mode: int = 0o600) -> None:
    """Write a file that is the old or the new one after every crash: fsync(2), rename(2)."""
    beside = f"{path}.new"
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.rename(beside, path)
    fd = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def boottime() -> float:
    """Now, in seconds of CLOCK_BOOTTIME, which nobody can set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@contextlib.contextmanager
def _locked(path: str, how: int) -> Iterator[bool]:
    """Hold flock(2) on a file; False where another holds it and `how` does not wait."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, how)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(fd)


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_BYTES)
    except FileNotFoundError:
        return None


def _busy(change: FirewallChange | None) -> Failed:
    if change is None:
        return Failed("busy", "somebody else is changing the firewall")
    since = time.strftime("%H:%M:%S", time.localtime(change.began))
    whom = change.maker.user + (
        f" from {change.maker.connection.split()[0]}" if change.maker.connection else ""
    )
    return Failed(
        "busy",
        f"{whom} (process {change.maker.pid}) has been changing the firewall since {since}",
        hint="`hostlab firewall status` tells how far it is",
    )
