"""A node's /sys with more in it than the kernel shows: overlays over some of its directories.

The kernel's sysfs can be given no directory. So what is plugged in is shown by overlays whose lower
layers are the kernel's own directories, and whose upper ones are written before they are mounted,
anew at each change: a plain user's overlay lets nobody write into a directory that belongs to the
machine's root. They are read-only, as a node's /sys is. Inside a user namespace that needs nothing
but the namespace (Linux 5.11, for overlays).

A lower layer is the directory without what is mounted in it, so a cover of `rootfs.MASKED` would be
taken off. The directory below /sys/devices that is laid over is therefore the deepest one that the
kernel has of a device's path, and one with a cover in it is refused.

Whoever is in a node's mount namespace only, and not in its PID namespace, has no /proc: nothing
here needs one.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final

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
WORKSHOP: Final = "/sys/kernel"
"""Covered for the moment in which the layers are made: no user of the node can move it away, and
have what is uncovered afterwards be something else."""
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


def directories_for(paths: Iterable[str]) -> tuple[str, ...]:
    """The directories of /sys to be laid over, so that devices at these paths are shown."""
    bases = {base_of(path) for path in paths}
    indexes = {f"{SYS}/{name}" for name in INDEXES if os.path.isdir(f"{SYS}/{name}")}
    return tuple(sorted(bases | indexes))


def show(
    directories: Iterable[str],
    before: Iterable[str],
    files: Mapping[str, str],
    links: Mapping[str, str],
) -> None:
    """Lay over these directories, instead of those of before, to show files and links.

    OSError when that cannot be; then nothing is shown.
    """
    wanted = _topmost(directories)
    for each in wanted:
        covered = [path for path in MASKED if path.startswith(f"{each}/")]
        if covered:
            raise PermissionError(errno.EPERM, f"it would uncover {covered[0]}", each)
    options = f"mode=0700,size={MAX_BYTES}".encode()
    mount(b"tmpfs", WORKSHOP.encode(), b"tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options)
    try:
        layers = {each: f"{WORKSHOP}/{number}" for number, each in enumerate(wanted)}
        for layer in layers.values():
            for directory in (layer, f"{layer}/upper", f"{layer}/work"):
                os.mkdir(directory, 0o755)
        _write(layers, files, links)
        # Only now is the old one taken away: nobody looks for long at less than there is.
        for each in _topmost(before):
            _uncover(each)
        for each, layer in layers.items():
            place = each.encode()
            overlay(place, f"{layer}/upper".encode(), f"{layer}/work".encode(), place)
            _set_attributes(each)
    finally:
        umount2(WORKSHOP.encode(), MNT_DETACH)


def hide(directories: Iterable[str]) -> None:
    """Show nothing but the kernel's own again."""
    for each in _topmost(directories):
        _uncover(each)


def _topmost(directories: Iterable[str]) -> list[str]:
    """Those that do not lie below others of them."""
    whole = sorted(set(directories))
    return [each for each in whole if not any(each.startswith(f"{other}/") for other in whole)]


def _uncover(path: str) -> None:
    """Take an overlay off; of one that is none, or is gone, nothing."""
    with suppress(OSError):
        if os.stat(path).st_dev != os.stat(SYS).st_dev:
            umount2(path.encode(), MNT_DETACH)


def _write(layers: Mapping[str, str], files: Mapping[str, str], links: Mapping[str, str]) -> None:
    def place(path: str) -> str:
        for each, layer in layers.items():
            if path.startswith(f"{each}/"):
                found = f"{layer}/upper{path.removeprefix(each)}"
                os.makedirs(os.path.dirname(found), mode=0o755, exist_ok=True)
                return found
        raise FileNotFoundError(errno.ENOENT, "it is on no overlay", path)

    for path, text in files.items():
        fd = os.open(place(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o444)
        with os.fdopen(fd, "wb") as file:
            file.write(text.encode(errors="surrogateescape"))
    for path, destination in links.items():
        with suppress(FileExistsError):
            os.symlink(destination, place(path))


def _set_attributes(path: str) -> None:
    """As a node's /sys is mounted; by mount_setattr(2), which leaves the rest alone."""
    on = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
    wanted = struct.pack("=QQQQ", on, 0, 0, 0)
    syscall("mount_setattr", AT_FDCWD, path.encode(), 0, wanted, len(wanted), what=path)


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
