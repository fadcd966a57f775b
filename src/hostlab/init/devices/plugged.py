"""What is plugged into a node, written where those inside can read it.

A node's kernel is the machine's, so its /sys cannot tell what `hostlab device plug` has plugged in.
A file a device in `RECORDS` does: who comes late (a source that opens, a listing, the stand-in for
UDisks2) reads it. It is there before the events that say `add`, and gone before those of `remove`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import msgspec

from hostlab import typed
from hostlab.linux.uevents import UDEV, Uevent, of_device

RECORDS: Final = "/run/hostlab/devices"
SUFFIX: Final = ".json"
MAX_RECORDS: Final = 256
MAX_RECORD_BYTES: Final = 1 << 20
VERSION: Final = 1


class Plugged(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was plugged in; unknown fields are of a later version, and left out."""

    name: str
    devices: tuple[dict[str, str], ...]
    """What udev says of each of its devices, in the order in which they appear."""
    content: str | None = None
    """The directory that stands for what is on it."""
    directories: tuple[str, ...] = ()
    """Those of /sys that are laid over to show it."""
    files: dict[str, str] = msgspec.field(default_factory=dict)
    links: dict[str, str] = msgspec.field(default_factory=dict)
    """What is shown there, by its path."""
    version: int = VERSION

    def arrival(self) -> tuple[Uevent, ...]:
        """What udev says when it comes."""
        return tuple(of_device("add", device, UDEV) for device in self.devices)

    def departure(self) -> tuple[Uevent, ...]:
        """What udev says when it goes: the last that came is the first to go."""
        found = []
        for device in self.devices[::-1]:
            # A driver that is told of was bound after the device had come.
            if "DRIVER" in device:
                found.append(of_device("unbind", device, UDEV))
            left = {key: value for key, value in device.items() if key != "DRIVER"}
            found.append(of_device("remove", left, UDEV))
        return tuple(found)


def read_records(directory: str = RECORDS) -> tuple[Sequence[Plugged], Sequence[str]]:
    """What is plugged in, by name; and what is wrong with files that say nothing, for people."""
    found, wrong = [], []
    names: list[str] = []
    with suppress(FileNotFoundError):
        names = sorted(name for name in os.listdir(directory) if name.endswith(SUFFIX))
    for name in names[:MAX_RECORDS]:
        try:
            with open(f"{directory}/{name}", "rb") as file:
                found.append(typed.decode(file.read(MAX_RECORD_BYTES), Plugged))
        except FileNotFoundError:
            continue  # It has been unplugged meanwhile.
        except (OSError, msgspec.MsgspecError) as error:
            wrong.append(f"{directory}/{name}: {error}")
    if len(names) > MAX_RECORDS:
        wrong.append(f"{directory}: of {len(names)} records the first {MAX_RECORDS} are read")
    return [each for each in found if all("DEVPATH" in one for one in each.devices)], wrong
