"""What a client of UDisks2 sees: drives, file systems and mounts, each once.

UDisks2 tells of one stick in several signals (an object for the drive, one for each block device,
interfaces that come later), and of jobs and hints in between. Here its objects are put together:
a drive is there when a disk of it is, a file system when its interface and its drive are, a mount
for each mount point of it. `changes` compares two such pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from hostlab.init.devices.udisks2 import NAME, ROOT, file_name

MAX_OBJECTS: Final = 4096
Variables = tuple[tuple[str, str], ...]
Picture = Mapping[str, Variables]
"""Key -> variables, in the order in which they come; the key begins with its kind."""
KINDS: Final = ("drive", "filesystem", "mount")
EVENTS: Final[Mapping[tuple[str, bool], str]] = {
    ("drive", True): "storage-drive-added",
    ("drive", False): "storage-drive-removed",
    ("filesystem", True): "storage-filesystem-added",
    ("filesystem", False): "storage-filesystem-removed",
    ("mount", True): "storage-mounted",
    ("mount", False): "storage-unmounted",
}
_Objects = dict[str, dict[str, dict[str, Any]]]


class Storage:
    """The objects of UDisks2 as they were told of, plain values without their signatures."""

    def __init__(self) -> None:
        self.objects: _Objects = {}

    def replace(self, objects: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
        """What GetManagedObjects says."""
        self.objects = {}
        for path, interfaces in objects.items():
            self.added(path, interfaces)

    def added(self, path: str, interfaces: Mapping[str, Mapping[str, Any]]) -> None:
        """What InterfacesAdded says."""
        wanted = {name: dict(each) for name, each in interfaces.items() if _counts(path, name)}
        if wanted and (path in self.objects or len(self.objects) < MAX_OBJECTS):
            self.objects.setdefault(path, {}).update(wanted)

    def removed(self, path: str, interfaces: list[str]) -> None:
        """What InterfacesRemoved says."""
        found = self.objects.get(path)
        if found is None:
            return
        for name in interfaces:
            found.pop(name, None)
        if not found:
            del self.objects[path]

    def changed(self, path: str, interface: str, properties: Mapping[str, Any]) -> None:
        """What PropertiesChanged says."""
        found = self.objects.get(path, {}).get(interface)
        if found is not None:
            found.update(properties)

    def picture(self) -> dict[str, Variables]:
        """What there is now: drives, then file systems, then mounts."""
        blocks = {
            path: interfaces
            for path, interfaces in sorted(self.objects.items())
            if f"{NAME}.Block" in interfaces
        }
        found: dict[str, Variables] = {}
        for interfaces in blocks.values():
            path = str(interfaces[f"{NAME}.Block"].get("Drive", "/"))
            drive = self.objects.get(path, {}).get(f"{NAME}.Drive")
            is_whole = f"{NAME}.Partition" not in interfaces
            if drive is not None and is_whole and f"drive {path}" not in found:
                found[f"drive {path}"] = _drive(path, drive, interfaces[f"{NAME}.Block"])
        mounts: dict[str, Variables] = {}
        for path, interfaces in blocks.items():
            filesystem = interfaces.get(f"{NAME}.Filesystem")
            of_drive = str(interfaces[f"{NAME}.Block"].get("Drive", "/"))
            # It waits for a drive that is not told of yet; loop and mapped devices have none.
            if filesystem is None or (of_drive != "/" and f"drive {of_drive}" not in found):
                continue
            variables = self._filesystem(interfaces[f"{NAME}.Block"])
            found[f"filesystem {path}"] = variables
            for point in filesystem.get("MountPoints", ()):
                name = file_name(point)
                mounts[f"mount {path} {name}"] = (("MOUNTPOINT", name), *variables)
        return found | mounts

    def _filesystem(self, block: Mapping[str, Any]) -> Variables:
        path = str(block.get("Drive", "/"))
        drive = self.objects.get(path, {}).get(f"{NAME}.Drive", {})
        return (
            ("DEVNAME", file_name(block.get("Device"))),
            ("LABEL", str(block.get("IdLabel", ""))),
            ("UUID", str(block.get("IdUUID", ""))),
            ("TYPE", str(block.get("IdType", ""))),
            ("SIZE", str(block.get("Size", 0))),
            ("DRIVE", path),
            *_of_drive(drive),
        )


def changes(before: Picture, now: Picture) -> Iterator[tuple[str, Variables]]:
    """The events that lead from one picture to another: what goes first, in reverse."""
    for key in list(before)[::-1]:
        if key not in now:
            yield EVENTS[_kind(key), False], before[key]
    for key, variables in now.items():
        if key not in before:
            yield EVENTS[_kind(key), True], variables


def _kind(key: str) -> str:
    return key.partition(" ")[0]


def _counts(path: str, interface: str) -> bool:
    names = ("Drive", "Block", "Partition", "Filesystem")
    return path.startswith(f"{ROOT}/") and interface.removeprefix(f"{NAME}.") in names


def _drive(path: str, drive: Mapping[str, Any], block: Mapping[str, Any]) -> Variables:
    return (
        ("DRIVE", path),
        ("DEVNAME", file_name(block.get("Device"))),
        *_of_drive(drive),
        ("SIZE", str(drive.get("Size", 0))),
    )


def _of_drive(drive: Mapping[str, Any]) -> Variables:
    return (
        ("VENDOR", str(drive.get("Vendor", ""))),
        ("MODEL", str(drive.get("Model", ""))),
        ("SERIAL", str(drive.get("Serial", ""))),
        ("BUS", str(drive.get("ConnectionBus", ""))),
        ("REMOVABLE", "1" if drive.get("Removable") else "0"),
    )
