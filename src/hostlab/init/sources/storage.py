"""Storage as UDisks2 tells of it: `storage-drive-added`, `storage-mounted` and their like.

One event a stick, though UDisks2 tells of it several times; a mouse is none. What has been told is
noted in a memfd that the holder keeps, so the next supervisor tells what has changed meanwhile,
and nothing twice but what an earlier one had told and not noted.
"""

from __future__ import annotations

import os
from typing import Final

import msgspec

from hostlab import typed
from hostlab.init.dbus.link import Link
from hostlab.init.dbus.places import address_of
from hostlab.init.devices.storage import Variables, changes
from hostlab.init.devices.udisks2_client import Udisks2Client
from hostlab.init.sources import Surroundings
from hostlab.jobs.dbus_event import SYSTEM
from hostlab.jobs.facts import Emit
from hostlab.spec.job import Match

KEPT: Final = "storage"
"""What the holder calls the memfd."""
MAX_NOTE_BYTES: Final = 16 << 20


class _Note(msgspec.Struct):
    """What has been told to be there; unknown fields are of a later version."""

    there: dict[str, Variables]
    version: int = 1


def open_source(surroundings: Surroundings) -> StorageSource:
    """The source of drives, file systems and mounts."""
    return StorageSource(surroundings)


class StorageSource:
    """Tells how what UDisks2 has differs from what was told."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._names: frozenset[str] = frozenset()
        self._there = self._read_note()
        self._client = Udisks2Client(self._changed, surroundings.warn)
        self._link = Link(
            "the system bus",
            lambda: address_of(SYSTEM, surroundings.variables()),
            self._client,
            warn=surroundings.warn,
        )

    def listen(self, operands: frozenset[Match]) -> None:
        """From now on these are told."""
        self._names = frozenset(match.name for match in operands)
        self._link.look()

    def close(self) -> None:
        """Leave the bus."""
        self._client.close()
        self._link.close()
        self._surroundings.drop(KEPT)

    def _changed(self) -> None:
        now = self._client.storage.picture()
        events = list(changes(self._there, now))
        self._there = now
        for name, variables in events:
            if name in self._names:
                self._surroundings.tell(Emit(name=name, environment=variables))
        if events:
            self._note()

    def _note(self) -> None:
        fd = os.memfd_create("hostlab storage", os.MFD_CLOEXEC)
        try:
            with open(fd, "wb", closefd=False) as file:
                file.write(msgspec.json.encode(_Note(there=self._there)))
            self._surroundings.keep(KEPT, fd)
        finally:
            os.close(fd)

    def _read_note(self) -> dict[str, Variables]:
        fd = self._surroundings.kept.get(KEPT)
        if fd is None:
            return {}
        try:
            return typed.decode(os.pread(fd, MAX_NOTE_BYTES, 0), _Note).there
        except msgspec.MsgspecError as error:
            self._surroundings.warn(f"what storage there was is not known any more: {error}")
            return {}
