"""A change of the machine's packet filter that is under way, in a file that survives its makers.

The file is in the run directory, so it does not outlive a boot: what was not confirmed is gone with
the kernel that held it. Each step is on the disk before it is made.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from hostlab import typed
from hostlab.errors import Failed
from hostlab.firewall.beside import Operation
from hostlab.firewall.ruleset import Ruleset
from hostlab.lab.paths import base_directory
from hostlab.linux.procfs import boot_id, stat
from hostlab.linux.whole_files import write_whole

DIRECTORY: Final = ".firewall"
"""Beside the labs' run directories; no lab's name begins with a dot."""
MAX_BYTES: Final = 64 << 20
_ORPHAN_S: Final = 5.0
_AGAIN_S: Final = 0.02


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
        """Whether that very process lives, and is not a zombie."""
        found = stat(self.pid)
        return found is not None and found.started == self.started and not found.has_ended


class FirewallChange(msgspec.Struct, frozen=True, kw_only=True):
    """One change, whole."""

    phase: Phase
    source: str
    """What was applied, as the user named it."""
    maker: Maker
    began: float
    """Seconds since the epoch, for people."""
    deadline: float
    """Seconds of CLOCK_BOOTTIME at which it is taken back; moved when it has been loaded."""
    within_s: float
    """How long a word is waited for after the load."""
    loaded: float = 0.0
    """Seconds of CLOCK_BOOTTIME at which the new ruleset had been read back."""
    boot: str
    before: Ruleset
    """What was ours before: what the way back leads to."""
    applied: Ruleset | None = None
    """What had been applied before, and so was known to be ours; None: nothing since the boot."""
    wanted: Ruleset
    operations: tuple[Operation, ...] = ()
    """What is done beside rules, each with this machine's own way back."""
    begun: int = 0
    """So many of them were begun."""
    problem: str = ""

    @property
    def has_ended(self) -> bool:
        """Whether nothing is left to do."""
        return self.phase not in UNDER_WAY

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

    def read(self) -> FirewallChange | None:
        """The change; None where there was none since the boot."""
        data = _read(self.file)
        if data is None:
            return None
        try:
            found = typed.decode(data, FirewallChange)
        except msgspec.DecodeError as error:
            raise Failed("change", f"{self.file} is not what hostlab writes: {error}") from None
        return found if found.boot == boot_id() else None

    def write(self, change: FirewallChange) -> None:
        """Put it on the disk, whole or not at all."""
        write_whole(self.file, msgspec.json.encode(change), mode=0o600, is_synced=True)

    def read_applied(self) -> Ruleset | None:
        """What is ours in the kernel; None where nothing was confirmed since the boot.

        It follows from the change's one file, so no crash leaves two that contradict each other.
        """
        found = self.read()
        if found is None:
            return None
        return found.wanted if found.phase is Phase.CONFIRMED else found.applied

    @contextlib.contextmanager
    def operator(self) -> Iterator[None]:
        """One operator at a time; Failed with who it is and since when.

        A child of one that was killed may have the lock until it has come to its execve(2).
        """
        until = boottime() + _ORPHAN_S
        while True:
            with _locked(f"{self.path}/operator", fcntl.LOCK_EX | fcntl.LOCK_NB) as lock:
                if lock is not None:
                    yield
                    return
            change = self.read()
            is_left = change is not None and not change.has_ended and not change.maker.is_there()
            if not is_left or boottime() >= until:
                raise _busy(change)
            # flock(2) has no time limit, and whoever has it may be another operator.
            select.select([], [], [], _AGAIN_S)

    @contextlib.contextmanager
    def kernel(self) -> Iterator[int]:
        """While the kernel's rules are changed: by the operator, or by the way back.

        The lock's descriptor: see `here.holding`.
        """
        with _locked(f"{self.path}/kernel", fcntl.LOCK_EX) as lock:
            assert lock is not None
            yield lock


def boottime() -> float:
    """Now, in seconds of CLOCK_BOOTTIME, which nobody can set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@contextlib.contextmanager
def _locked(path: str, how: int) -> Iterator[int | None]:
    """Hold flock(2) on a file; None where another holds it and `how` does not wait."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, how)
        except BlockingIOError:
            yield None
            return
        yield fd
    finally:
        os.close(fd)


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_BYTES)
    except FileNotFoundError:
        return None


def _busy(change: FirewallChange | None) -> Failed:
    if change is None or change.has_ended:
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
