"""What the machine's file system can be for nodes; the hub finds out once, by trying.

The kernel refuses an overlay over a directory that has mounts below it, which are locked in a
plain user's namespace (mount_namespaces(7)): such a directory is taken apart, an overlay for each
of those in it. It also refuses an overlay over an overlay over an overlay
(FILESYSTEM_MAX_STACK_DEPTH, include/linux/fs.h), which a lab in a node of a lab in a node would
have: there, and wherever else it says no, the directory is shown read-only, with a warning.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from hostlab.lab.rootfs import (
    DEVICES,
    FROZEN_COPIED,
    FROZEN_EMPTY,
    MASKED,
    READONLY,
    Survey,
    overlay,
)
from hostlab.linux.libc import mount, umount2
from hostlab.linux.mounts import MNT_DETACH

_PRIVATE_TOP: Final = frozenset(("dev", "proc", "run", "sys", "tmp", "lost+found"))


class _Layout(msgspec.Struct):
    """A root that is put together from parts."""

    layers: list[tuple[str, str]] = msgspec.field(default_factory=list)
    frozen: list[tuple[str, str]] = msgspec.field(default_factory=list)
    directories: list[str] = msgspec.field(default_factory=list)
    symlinks: list[tuple[str, str]] = msgspec.field(default_factory=list)
    files: list[str] = msgspec.field(default_factory=list)

    def take_apart(self, directory: str, split: frozenset[str]) -> None:
        """Sort what is in a directory; one in `split` is taken apart itself."""
        for entry in sorted(os.scandir(directory or "/"), key=lambda e: e.name):
            path = f"{directory}/{entry.name}"
            if not directory and entry.name in _PRIVATE_TOP:
                continue
            try:
                if entry.is_symlink():
                    self.symlinks.append((path[1:], os.readlink(path)))
                elif entry.is_dir() and path not in split:
                    self.layers.append((path, path))
                elif entry.is_dir() and os.access(path, os.R_OK | os.X_OK):
                    self.directories.append(path[1:])
                    self.take_apart(path, split)
                elif entry.is_dir():
                    self.frozen.append((path, path))
                elif directory and entry.is_file():
                    self.files.append(path[1:])
            except PermissionError:  # a mount that is another user's alone
                continue


def survey(lower: str | None, below: Iterable[str] = (), *, base: str) -> Survey:
    """Look at the machine; `lower` is its bare root, or None where a user may not have one.

    `below` are other real file systems mounted on the machine's root that nodes should see. `base`
    is an empty directory to try overlays in; nothing stays there.
    """
    layout = _Layout()
    if lower is not None:
        layout.layers = [("/", lower), *((target, target) for target in below)]
    else:
        layout.directories = [name for name in sorted(_PRIVATE_TOP) if name != "lost+found"]
        layout.take_apart("", frozenset(_with_mounts_below()))
    refused = frozenset(_refused(layout.layers, base))
    warnings: tuple[str, ...] = ()
    if refused:
        names = ", ".join(sorted(target for target, _ in refused))
        writable = ", ".join(("/run", "/tmp", *FROZEN_COPIED, *FROZEN_EMPTY))
        warnings = (
            f"the nodes see {names} read-only, for the kernel puts no further overlay there;"
            f" they can write {writable}",
        )
    present = [path for path in MASKED if os.path.exists(path)]
    return Survey(
        layers=tuple(layer for layer in layout.layers if layer not in refused),
        frozen=(*(layer for layer in layout.layers if layer in refused), *layout.frozen),
        directories=tuple(layout.directories),
        symlinks=tuple(layout.symlinks),
        files=tuple(layout.files),
        devices=tuple(name for name in DEVICES if os.path.exists(f"/dev/{name}")),
        masked_files=tuple(path for path in present if not os.path.isdir(path)),
        masked_directories=tuple(path for path in present if os.path.isdir(path)),
        readonly=tuple(path for path in READONLY if os.path.exists(path)),
        warnings=warnings,
    )


def _with_mounts_below() -> Iterator[str]:
    """Every directory on the way to a mount point."""
    with open("/proc/self/mountinfo", errors="surrogateescape") as lines:
        points = [line.split(" ")[4] for line in lines]
    for point in points:
        path = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), point)
        while (path := os.path.dirname(path)) != "/":
            yield path


def _refused(layers: Iterable[tuple[str, str]], base: str) -> Iterator[tuple[str, str]]:
    """The layers that the kernel puts under no overlay."""
    mount(b"tmpfs", base.encode(), b"tmpfs", 0, b"mode=0700")
    try:
        upper, work, place = (f"{base}/{name}".encode() for name in ("upper", "work", "place"))
        for directory in (upper, work, place):
            os.mkdir(directory)
        for target, lower in layers:
            try:
                overlay(lower.encode(), upper, work, place)
            except OSError:
                yield target, lower
            else:
                umount2(place, MNT_DETACH)
    finally:
        umount2(base.encode(), MNT_DETACH)
