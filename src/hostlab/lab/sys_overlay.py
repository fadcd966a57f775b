"""A node's /sys with more in it than the kernel shows: overlays over some of its directories.

The kernel's sysfs can be given no directory. So what is plugged in is shown by overlays whose lower
layers are the kernel's own directories and whose upper ones lie in a tmpfs that nobody sees. They
are read-only to the node, as its /sys is; who plugs writes through a copy of the mount that is not.
Inside a user namespace that needs nothing but the namespace (Linux 5.11, for overlays).

A lower layer is the directory without what is mounted in it, so a cover of `rootfs.MASKED` would be
taken off. The directory below /sys/devices that is laid over is therefore the deepest one that the
kernel has of a device's path, and one with a cover in it is refused.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from hostlab.lab.attach import AT_EMPTY_PATH, OPEN_TREE_CLONE
from hostlab.lab.rootfs import MASKED, overlay
from hostlab.linux.libc import mount, syscall, umount2
from hostlab.linux.mounts import (
    AT_FDCWD,
    MNT_DETACH,
    MOUNT_ATTR_RDONLY,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
)

SYS: Final = "/sys"
WORKSHOP: Final = "/run/hostlab/.sys"
"""Where the layers are made, for the moment in which they are mounted."""
INDEXES: Final = ("block", "bus", "class", "dev")
"""Directories of links to devices."""
MOUNT_ATTR_NOSUID: Final = 2
MOUNT_ATTR_NODEV: Final = 4
MOUNT_ATTR_NOEXEC: Final = 8
MAX_BYTES: Final = 16 << 20
"""Of all that is plugged into one node."""


def base_of(path: str, *, sys: str = SYS) -> str:
    """The deepest directory of /sys that there is above a device that is to be shown."""
    found = os.path.dirname(path)
    while not os.path.isdir(f"{sys}{found}"):
        found = os.path.dirname(found)
    return f"{sys}{found}"


def shown_by_overlay(path: str) -> bool:
    """Whether the directory of /sys lies on an overlay already."""
    return os.stat(path).st_dev != os.stat(SYS).st_dev


def lay_over(directories: Sequence[str]) -> None:
    """Mount an overlay at each of these, but where there is one; OSError when that cannot be."""
    wanted = [each for each in directories if not shown_by_overlay(each)]
    if not wanted:
        return
    for each in wanted:
        covered = [path for path in MASKED if path.startswith(f"{each}/")]
        if covered:
            raise PermissionError(1, f"it would uncover {covered[0]}", each)
    os.makedirs(WORKSHOP, mode=0o700, exist_ok=True)
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    options = f"mode=0700,size={MAX_BYTES}".encode()
    mount(b"tmpfs", WORKSHOP.encode(), b"tmpfs", flags, options)
    try:
        for number, each in enumerate(wanted):
            upper, work = f"{WORKSHOP}/u{number}", f"{WORKSHOP}/w{number}"
            os.mkdir(upper, 0o755)
            os.mkdir(work)
            overlay(each.encode(), upper.encode(), work.encode(), each.encode())
            _set_attributes(each)
    finally:
        umount2(WORKSHOP.encode(), MNT_DETACH)


def _set_attributes(path: str) -> None:
    """As a node's /sys is mounted; by mount_setattr(2), which leaves the rest alone."""
    on = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
    wanted = struct.pack("=QQQQ", on, 0, 0, 0)
    syscall("mount_setattr", AT_FDCWD, path.encode(), 0, wanted, len(wanted), what=path)


def change(directories: Sequence[str], work: Callable[[Callable[[str], str]], None]) -> None:
    """Do `work` with a way to write: it is given what turns a path of /sys into a writable one.

    That is relative to the working directory, which it sets, and good until the next is asked for:
    whoever is in a node's mount namespace only has no /proc by which a descriptor has a name.
    """
    opened: dict[str, int] = {}
    try:
        for each in directories:
            fd = syscall(
                "open_tree", AT_FDCWD, each.encode(), OPEN_TREE_CLONE | os.O_CLOEXEC, what=each
            )
            opened[each] = fd
            attributes = struct.pack("=QQQQ", 0, MOUNT_ATTR_RDONLY, 0, 0)
            syscall("mount_setattr", fd, b"", AT_EMPTY_PATH, attributes, len(attributes), what=each)

        def writable(path: str) -> str:
            for each, fd in opened.items():
                if path.startswith(f"{each}/"):
                    os.fchdir(fd)
                    return path.removeprefix(f"{each}/")
            raise FileNotFoundError(2, "it is on no overlay", path)

        work(writable)
    finally:
        for fd in opened.values():
            os.close(fd)


def entries(
    path: str, properties: Mapping[str, str], attributes: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """The files and the links of one device below /sys: path -> content, path -> destination."""
    device = f"{SYS}{path}"
    name = path.rpartition("/")[2]
    subsystem = properties.get("SUBSYSTEM", "")
    said = "".join(
        f"{key}={value}\n"
        for key, value in properties.items()
        if key not in ("DEVPATH", "SUBSYSTEM")
    )
    files = {f"{device}/uevent": said}
    files |= {f"{device}/{key}": f"{value}\n" for key, value in attributes.items()}
    is_bus = os.path.isdir(f"{SYS}/bus/{subsystem}") or subsystem in BUSES
    group = f"bus/{subsystem}" if is_bus else f"class/{subsystem}"
    index = f"{SYS}/bus/{subsystem}/devices" if is_bus else f"{SYS}/class/{subsystem}"
    links = {f"{device}/subsystem": os.path.relpath(f"{SYS}/{group}", device)}
    links[f"{index}/{name}"] = os.path.relpath(device, index)
    if subsystem == "block" and properties.get("DEVTYPE") == "disk":
        links[f"{SYS}/block/{name}"] = os.path.relpath(device, f"{SYS}/block")
    if "MAJOR" in properties:
        numbers = f"{properties['MAJOR']}:{properties.get('MINOR', '0')}"
        files.setdefault(f"{device}/dev", f"{numbers}\n")
        by_number = f"{SYS}/dev/{'block' if subsystem == 'block' else 'char'}"
        links[f"{by_number}/{numbers}"] = os.path.relpath(device, by_number)
    return files, links


BUSES: Final = frozenset({"hid", "scsi", "usb"})
"""Subsystems that are buses, on kernels that have none of them yet."""


def add(files: Mapping[str, str], links: Mapping[str, str], write: Callable[[str], str]) -> None:
    """Write them; what is there already is replaced."""
    for path, text in files.items():
        place = write(path)
        _make_directory_of(place)
        fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o444)
        with os.fdopen(fd, "wb") as file:
            file.write(text.encode(errors="surrogateescape"))
    for path, destination in links.items():
        place = write(path)
        _make_directory_of(place)
        with suppress(FileNotFoundError):
            os.unlink(place)
        os.symlink(destination, place)


def _make_directory_of(place: str) -> None:
    if directory := os.path.dirname(place):
        os.makedirs(directory, mode=0o755, exist_ok=True)


def remove(devices: Sequence[str], links: Sequence[str], write: Callable[[str], str]) -> None:
    """Take links and the directories of devices away; what is not there is no matter."""
    for path in links:
        with suppress(FileNotFoundError):
            os.unlink(write(path))
    for path in devices:
        with suppress(FileNotFoundError):
            shutil.rmtree(write(f"{SYS}{path}"))
