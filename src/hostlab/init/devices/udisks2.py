"""UDisks2's picture of storage, made from what udev says: objects, interfaces, properties.

As udisksd 2.9.4 makes it of the same properties (tests/data/udisks2-stick.txt is its own account of
the recorded stick). A drive is what its disks have in common; a disk has a partition table if udev
found one; a partition, or a disk without a table, has a file system if udev found that.

A property is its D-Bus signature and its value; file names are bytes that end in a zero.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

NAME: Final = "org.freedesktop.UDisks2"
ROOT: Final = "/org/freedesktop/UDisks2"
MANAGER: Final = f"{ROOT}/Manager"
VERSION: Final = "2.9.4"
"""Whose interfaces these are."""
SECTOR_BYTES: Final = 512

Property = tuple[str, Any]
Interfaces = dict[str, dict[str, Property]]
Objects = dict[str, Interfaces]
Attribute = Callable[[str, str], str]
"""(device's path, name) -> what a file of its directory in /sys says; empty where it does not."""

_ESCAPE: Final = re.compile(r"\\x([0-9a-fA-F]{2})")
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9]")


def objects_of(
    devices: Iterable[Mapping[str, str]],
    mounts: Mapping[str, tuple[str, ...]],
    attribute: Attribute,
    *,
    appeared_usec: Mapping[str, int],
) -> Objects:
    """The objects of these devices, in the order in which udisksd tells of them.

    `devices` are udev's properties. `mounts` has the mount points by device file, `appeared_usec`
    when a disk was first seen, by its path, in microseconds since 1970.
    """
    blocks = [each for each in devices if each.get("SUBSYSTEM") == "block"]
    disks = {each["DEVPATH"]: each for each in blocks if each.get("DEVTYPE") == "disk"}
    found: Objects = {}
    for path, disk in disks.items():
        drive = drive_path(disk)
        if drive != "/" and drive not in found:
            when = appeared_usec.get(path, 0)
            found[drive] = {f"{NAME}.Drive": _drive(disk, attribute, when)}
        partitions = [
            each
            for each in blocks
            if each.get("DEVTYPE") == "partition" and each["DEVPATH"].rpartition("/")[0] == path
        ]
        block = _block(disk, drive, attribute)
        interfaces = {f"{NAME}.Block": block}
        if "ID_PART_TABLE_TYPE" in disk:
            interfaces[f"{NAME}.PartitionTable"] = {
                "Partitions": ("ao", [block_path(each) for each in partitions]),
                "Type": ("s", disk["ID_PART_TABLE_TYPE"]),
            }
        elif _has_filesystem(disk):
            interfaces[f"{NAME}.Filesystem"] = _filesystem(disk, mounts)
        found[block_path(disk)] = interfaces
        for each in partitions:
            found[block_path(each)] = _partition(each, disk, drive, mounts, attribute)
    return found


def _partition(
    device: Mapping[str, str],
    disk: Mapping[str, str],
    drive: str,
    mounts: Mapping[str, tuple[str, ...]],
    attribute: Attribute,
) -> Interfaces:
    block = _block(device, drive, attribute)
    kind = device.get("ID_PART_ENTRY_TYPE", "")
    if re.fullmatch("0x[0-9a-f]", kind):
        kind = f"0x0{kind[2:]}"
    found = {
        f"{NAME}.Block": block,
        f"{NAME}.Partition": {
            "Flags": ("t", int(device.get("ID_PART_ENTRY_FLAGS", "0"), 0)),
            "IsContained": ("b", False),
            "IsContainer": ("b", kind in ("0x05", "0x0f")),
            "Name": ("s", device.get("ID_PART_ENTRY_NAME", "")),
            "Number": ("u", _number(device, "ID_PART_ENTRY_NUMBER")),
            "Offset": ("t", _number(device, "ID_PART_ENTRY_OFFSET") * SECTOR_BYTES),
            "Size": ("t", _number(device, "ID_PART_ENTRY_SIZE") * SECTOR_BYTES),
            "Table": ("o", block_path(disk)),
            "Type": ("s", kind),
            "UUID": ("s", device.get("ID_PART_ENTRY_UUID", "")),
        },
    }
    if _has_filesystem(device):
        found[f"{NAME}.Filesystem"] = _filesystem(device, mounts)
    return found


def _block(device: Mapping[str, str], drive: str, attribute: Attribute) -> dict[str, Property]:
    path = device["DEVPATH"]
    name = device.get("DEVNAME", "")
    by_uuid = device.get("ID_FS_UUID")
    is_usb = device.get("ID_BUS") == "usb"
    size = attribute(path, "size") or device.get("ID_PART_ENTRY_SIZE", "0")
    return {
        "Configuration": ("a(sa{sv})", []),
        "CryptoBackingDevice": ("o", "/"),
        "Device": ("ay", _file(name)),
        "DeviceNumber": ("t", _device_number(device)),
        "Drive": ("o", drive),
        "HintAuto": ("b", is_usb),
        "HintIconName": ("s", ""),
        "HintIgnore": ("b", device.get("UDISKS_IGNORE") == "1"),
        "HintName": ("s", device.get("UDISKS_NAME", "")),
        "HintPartitionable": ("b", True),
        "HintSymbolicIconName": ("s", ""),
        "HintSystem": ("b", not is_usb),
        "Id": ("s", f"by-uuid-{by_uuid}" if by_uuid else ""),
        "IdLabel": ("s", unescaped(device.get("ID_FS_LABEL_ENC", ""))),
        "IdType": ("s", device.get("ID_FS_TYPE", "")),
        "IdUUID": ("s", unescaped(device.get("ID_FS_UUID_ENC", ""))),
        "IdUsage": ("s", device.get("ID_FS_USAGE", "")),
        "IdVersion": ("s", device.get("ID_FS_VERSION", "")),
        "MDRaid": ("o", "/"),
        "MDRaidMember": ("o", "/"),
        "PreferredDevice": ("ay", _file(name)),
        "ReadOnly": ("b", attribute(path, "ro") == "1"),
        "Size": ("t", int(size) * SECTOR_BYTES if size.isdecimal() else 0),
        "Symlinks": ("aay", [_file(link) for link in sorted(device.get("DEVLINKS", "").split())]),
        "UserspaceMountOptions": ("as", []),
    }


def _filesystem(
    device: Mapping[str, str], mounts: Mapping[str, tuple[str, ...]]
) -> dict[str, Property]:
    points = mounts.get(device.get("DEVNAME", ""), ())
    return {"MountPoints": ("aay", [_file(point) for point in points]), "Size": ("t", 0)}


def _drive(disk: Mapping[str, str], attribute: Attribute, when: int) -> dict[str, Property]:
    path = disk["DEVPATH"]
    vendor, model, serial = _names(disk)
    is_removable = attribute(path, "removable") == "1"
    is_usb = disk.get("ID_BUS") == "usb"
    size = attribute(path, "size")
    sort = "hotplug" if is_removable or is_usb else "fixed"
    interface = re.match(r".*/\d+-[\d.]+:\d+\.\d+(?=/)", path)
    return {
        "CanPowerOff": ("b", is_usb),
        "Configuration": ("a{sv}", {}),
        "ConnectionBus": ("s", "usb" if is_usb else ""),
        "Ejectable": ("b", is_removable),
        "Id": ("s", "-".join(_NO_NAME.sub("-", part) for part in (vendor, model, serial) if part)),
        "Media": ("s", ""),
        "MediaAvailable": ("b", True),
        "MediaChangeDetected": ("b", True),
        "MediaCompatibility": ("as", []),
        "MediaRemovable": ("b", is_removable),
        "Model": ("s", model),
        "Optical": ("b", False),
        "OpticalBlank": ("b", False),
        "OpticalNumAudioTracks": ("u", 0),
        "OpticalNumDataTracks": ("u", 0),
        "OpticalNumSessions": ("u", 0),
        "OpticalNumTracks": ("u", 0),
        "Removable": ("b", is_removable or is_usb),
        "Revision": ("s", disk.get("ID_REVISION", "")),
        "RotationRate": ("i", -1),
        "Seat": ("s", disk.get("ID_SEAT", "seat0")),
        "Serial": ("s", serial),
        "SiblingId": ("s", f"/sys{interface[0]}" if interface else ""),
        "Size": ("t", int(size) * SECTOR_BYTES if size.isdecimal() else 0),
        "SortKey": ("s", f"01{sort}/{when}" if sort == "hotplug" else f"00fixed/{when}"),
        "TimeDetected": ("t", when),
        "TimeMediaDetected": ("t", when),
        "Vendor": ("s", vendor),
        "WWN": ("s", disk.get("ID_WWN_WITH_EXTENSION", "")),
    }


def _names(disk: Mapping[str, str]) -> tuple[str, str, str]:
    """Vendor, model, serial number."""
    vendor = unescaped(disk.get("ID_VENDOR_ENC", disk.get("ID_VENDOR", ""))).strip()
    model = unescaped(disk.get("ID_MODEL_ENC", disk.get("ID_MODEL", ""))).strip()
    return vendor, model, disk.get("ID_SERIAL_SHORT", disk.get("ID_SERIAL", ""))


def drive_path(disk: Mapping[str, str]) -> str:
    """The object of a disk's drive; `/` for a disk that is no drive's, such as a loop device."""
    parts = [part for part in _names(disk) if part]
    if not parts:
        return "/"
    return f"{ROOT}/drives/{_NO_NAME.sub('_', '_'.join(parts))}"


def block_path(device: Mapping[str, str]) -> str:
    """The object of a block device."""
    name = device["DEVPATH"].rpartition("/")[2]
    escaped = re.sub(r"[^A-Za-z0-9]", lambda found: f"_{ord(found[0]):02x}", name)
    return f"{ROOT}/block_devices/{escaped}"


def unescaped(text: str) -> str:
    """A value of udev's `_ENC` properties as it was."""
    data = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
    return data.encode("latin-1", "replace").decode("utf-8", "replace") if data != text else text


def file_name(value: object) -> str:
    """A file name of a property as text."""
    return bytes(value).rstrip(b"\0").decode(errors="replace") if isinstance(value, bytes) else ""


def _has_filesystem(device: Mapping[str, str]) -> bool:
    return device.get("ID_FS_USAGE") == "filesystem"


def _file(name: str) -> bytes:
    return name.encode(errors="surrogateescape") + b"\0"


def _number(device: Mapping[str, str], key: str) -> int:
    text = device.get(key, "0")
    return int(text) if text.isdecimal() else 0


def _device_number(device: Mapping[str, str]) -> int:
    major, minor = _number(device, "MAJOR"), _number(device, "MINOR")
    return (major & 0xFFF) << 8 | (minor & 0xFF) | (minor & ~0xFF) << 12


def manager() -> Interfaces:
    """What the stand-in says of itself, its name first."""
    return {
        f"{NAME}.Manager": {
            "DefaultEncryptionType": ("s", ""),
            "SupportedEncryptionTypes": ("as", []),
            "SupportedFilesystems": ("as", []),
            "Version": ("s", f"{VERSION} (a stand-in of hostlab)"),
        }
    }
