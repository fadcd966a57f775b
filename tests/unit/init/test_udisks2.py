"""UDisks2's picture of the recorded stick is the one that udisksd made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hostlab.init.devices.udisks2 import (
    MANAGER,
    ROOT,
    Objects,
    block_path,
    drive_path,
    file_name,
    objects_of,
    unescaped,
)
from hostlab.spec.device import Device, load_device

pytestmark = pytest.mark.unit

ROOT_DIRECTORY = Path(__file__).parents[3]
ACCOUNT = ROOT_DIRECTORY / "tests" / "data" / "udisks2-stick.txt"
WHEN = 1795875731668368
"""In the account."""


def recorded(name: str) -> Device:
    path = ROOT_DIRECTORY / "examples" / "devices" / f"{name}.yaml"
    return load_device(path.read_text(), file=path.name, directory="/")


def picture(device: Device, mounts: dict[str, tuple[str, ...]] | None = None) -> Objects:
    attributes = {entry.path: dict(entry.attributes) for entry in device.devices}
    return objects_of(
        [entry.udev_properties() for entry in device.devices],
        mounts or {},
        lambda path, name: attributes[path].get(name, ""),
        appeared_usec={entry.path: WHEN for entry in device.devices},
    )


def account() -> dict[str, dict[str, dict[str, str]]]:
    """What `udisksctl dump` printed."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    interface: dict[str, str] = {}
    key = ""
    for line in ACCOUNT.read_text().splitlines():
        if line.startswith("/"):
            objects = found.setdefault(line.rstrip(":"), {})
        elif line.startswith("  o"):
            interface = objects.setdefault(line.strip(" :"), {})
        elif line.startswith("    ") and ":" in line[:32] and line[4] != " ":
            key, _, value = line.strip().partition(":")
            interface[key] = value.strip()
        elif line.strip():
            interface[key] += f" {line.strip()}"
    return found


def printed(signature: str, value: Any) -> str:
    """As udisksctl prints it."""
    match signature:
        case "b":
            return "true" if value else "false"
        case "o":
            return f"'{value}'"
        case "ay":
            return file_name(value)
        case "aay":
            return " ".join(map(file_name, value))
        case "ao" | "as":
            return " ".join(value)
        case _:
            return str(value)


def test_it_is_udisksds() -> None:
    expected = account()
    del expected[MANAGER]
    got = {
        path: {
            interface: {key: printed(*value) for key, value in properties.items()}
            for interface, properties in interfaces.items()
        }
        for path, interfaces in picture(recorded("stick")).items()
    }
    assert got == expected


def test_in_udisksds_order() -> None:
    """Its monitor told of the drive, then the disk, then the partition."""
    assert [path.removeprefix(ROOT) for path in picture(recorded("stick"))] == [
        "/drives/QEMU_QEMU_HARDDISK_4C530001",
        "/block_devices/sda",
        "/block_devices/sda1",
    ]


def test_what_is_mounted() -> None:
    found = picture(recorded("stick"), {"/dev/sda1": ("/media/root/PHOTOS",)})
    filesystem = found[f"{ROOT}/block_devices/sda1"]["org.freedesktop.UDisks2.Filesystem"]
    assert filesystem["MountPoints"] == ("aay", [b"/media/root/PHOTOS\0"])


def test_a_mouse_is_no_storage() -> None:
    assert picture(recorded("mouse")) == {}


def test_a_disk_without_a_table_has_its_file_system_itself() -> None:
    disk = {"DEVPATH": "/devices/virtual/block/loop0", "SUBSYSTEM": "block", "DEVTYPE": "disk"}
    disk |= {"DEVNAME": "/dev/loop0", "ID_FS_USAGE": "filesystem", "MAJOR": "7", "MINOR": "300"}
    found = objects_of([disk], {}, lambda path, name: "", appeared_usec={})
    (path,) = found
    assert path == block_path(disk) == f"{ROOT}/block_devices/loop0"
    assert drive_path(disk) == "/"
    assert "org.freedesktop.UDisks2.Filesystem" in found[path]
    import os

    number = found[path]["org.freedesktop.UDisks2.Block"]["DeviceNumber"][1]
    assert (os.major(number), os.minor(number)) == (7, 300)


def test_names() -> None:
    assert unescaped(r"QEMU\x20HARDDISK\x20\x20") == "QEMU HARDDISK  "
    assert unescaped(r"F\xc3\xa4cher") == "Fächer"
    assert unescaped("Fächer") == "Fächer"
    assert block_path({"DEVPATH": "/devices/x/cciss!c0d0"}) == f"{ROOT}/block_devices/cciss_21c0d0"
