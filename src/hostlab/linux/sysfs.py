"""What /sys and udev's database say of the devices that are there.

The kernel shows each device as a directory below /sys/devices with a file `uevent`, and by class
and bus as links (Documentation/admin-guide/sysfs-rules.rst). udevd keeps what its rules found out
in /run/udev/data, a file a device, named by its number, its interface's index, or its subsystem
and name (libudev, `device_get_device_id`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from hostlab.linux.uevents import UDEV, Uevent, of_device

SYS: Final = "/sys"
UDEV_DATA: Final = "/run/udev/data"
UDEV_TAGS: Final = "/run/udev/tags"
UDEV_CONTROL: Final = "/run/udev/control"
"""Where udevd listens; by it libudev tells whether one runs (sd_device_monitor_new_full)."""
MAX_FILE_BYTES: Final = 1 << 16
MAX_DEVICES: Final = 65536
"""Of one subsystem."""


@dataclass(frozen=True, slots=True)
class Tree:
    """Where the two are; other places than usual for tests."""

    sys: str = SYS
    data: str = UDEV_DATA


def udev_runs(control: str = UDEV_CONTROL) -> bool:
    """Whether the events of udev are to be listened to, as libudev decides it."""
    return os.path.exists(control)


def devices(subsystem: str, tree: Tree = Tree()) -> Iterator[Uevent]:
    """The devices of a subsystem as `add` events would describe them, by their paths.

    A device that goes meanwhile is left out.
    """
    if "/" in subsystem or subsystem in ("", ".", ".."):
        return
    found: set[str] = set()
    for place in (f"class/{subsystem}", f"bus/{subsystem}/devices"):
        with suppress(OSError), os.scandir(f"{tree.sys}/{place}") as entries:
            for entry in entries:
                path = os.path.realpath(entry.path)
                if len(found) < MAX_DEVICES and path.startswith(f"{tree.sys}/devices/"):
                    found.add(path)
    for path in sorted(found):
        event = device_at(path.removeprefix(tree.sys), tree)
        if event is not None and event.subsystem == subsystem:
            yield event


def device_at(devpath: str, tree: Tree = Tree()) -> Uevent | None:
    """The device at a path below /sys as an `add` event of udev; None when there is none."""
    path = f"{tree.sys}{devpath}"
    text = _read(f"{path}/uevent")
    if text is None:
        return None
    said = {"DEVPATH": devpath}
    with suppress(OSError):
        said["SUBSYSTEM"] = os.path.basename(os.readlink(f"{path}/subsystem"))
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            said[key] = value
    if not said.get("DEVNAME", "/").startswith("/"):
        said["DEVNAME"] = f"/dev/{said['DEVNAME']}"
    stored = _read(f"{tree.data}/{database_name(said)}")
    if stored is not None:
        said |= database_properties(stored)
    return of_device("add", said, UDEV)


def database_name(properties: Mapping[str, str]) -> str:
    """The name of a device's file in udev's database."""
    subsystem = properties.get("SUBSYSTEM", "")
    if "MAJOR" in properties:
        kind = "b" if subsystem == "block" else "c"
        return f"{kind}{properties['MAJOR']}:{properties.get('MINOR', '0')}"
    if "IFINDEX" in properties:
        return f"n{properties['IFINDEX']}"
    name = properties["DEVPATH"].rpartition("/")[2]
    return f"+{subsystem}:{name}"


def is_in_database(event: Uevent, tree: Tree = Tree()) -> bool:
    """Whether udev has had to do with a device."""
    return os.path.exists(f"{tree.data}/{database_name(dict(event.properties))}")


def database_properties(text: str) -> dict[str, str]:
    """What a file of the database adds: `E:` properties, `S:` links, `G:` tags."""
    found: dict[str, str] = {}
    links, tags = [], []
    for line in text.splitlines():
        kind, _, rest = line.partition(":")
        if kind == "E" and "=" in rest:
            key, _, value = rest.partition("=")
            found[key] = value
        elif kind == "S":
            links.append(f"/dev/{rest}")
        elif kind == "G":
            tags.append(rest)
    if links:
        found["DEVLINKS"] = " ".join(links)
    if tags:
        found["TAGS"] = f":{':'.join(tags)}:"
    return found


def database_text(event: Uevent, *, initialized_usec: int = 1) -> str:
    """A device's file in the database, as udevd writes it."""
    links = [link.removeprefix("/dev/") for link in event.get("DEVLINKS").split()]
    tags = [tag for tag in event.get("TAGS").split(":") if tag]
    lines = [f"S:{link}" for link in links]
    lines.append(f"I:{initialized_usec}")
    lines += [f"E:{key}={value}" for key, value in event.properties if is_udevs(key)]
    lines += [f"G:{tag}" for tag in tags]
    lines += [f"Q:{tag}" for tag in tags]
    lines.append("V:1")
    return "".join(f"{line}\n" for line in lines)


_KERNELS: Final = frozenset(
    (
        *("ACTION", "BUSNUM", "CURRENT_TAGS", "DEVICE", "DEVLINKS", "DEVMODE", "DEVNAME", "DEVNUM"),
        *("DEVPATH", "DEVTYPE", "DISKSEQ", "DRIVER", "EV", "HID_ID", "HID_NAME", "HID_PHYS"),
        *("HID_UNIQ", "IFINDEX", "INTERFACE", "KEY", "MAJOR", "MINOR", "MODALIAS", "MSC", "NAME"),
        *("PARTN", "PARTNAME", "PHYS", "PRODUCT", "PROP", "REL", "SEQNUM", "SUBSYSTEM", "TAGS"),
        *("TYPE", "UNIQ", "USEC_INITIALIZED"),
    )
)


def is_udevs(key: str) -> bool:
    """Whether a property is what udev's rules add, and not the kernel's own or an index of it."""
    return key not in _KERNELS


def of_kernel(properties: Mapping[str, str]) -> dict[str, str]:
    """What of a device's properties the kernel says, as it says it."""
    udevs = ("CURRENT_TAGS", "DEVLINKS", "TAGS", "USEC_INITIALIZED")
    found = {k: v for k, v in properties.items() if k in _KERNELS and k not in udevs}
    if "DEVNAME" in found:
        found["DEVNAME"] = found["DEVNAME"].removeprefix("/dev/")
    return found


def _read(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_FILE_BYTES).decode(errors="surrogateescape")
    except OSError:
        return None
