"""What is on a device, shown where people look for it."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping
from typing import Final

from hostlab.linux.libc import umount2
from hostlab.linux.mounts import MNT_DETACH, bind, make_readonly

MAX_SAME: Final = 1000
"""Mount points of one name."""


def free_name(point: str) -> str:
    """The name, or with a number behind it when it is taken."""
    for number in range(MAX_SAME):
        found = f"{point}{number or ''}"
        if not os.path.lexists(found):
            return found
    raise FileExistsError(errno.EEXIST, "no name is left for a mount point", point)


def show(content: str, point: str) -> None:
    """Show the content there: bound, where this process may mount, else by a symbolic link."""
    os.makedirs(point, mode=0o755)
    try:
        bind(content.encode(), point.encode())
        make_readonly(point.encode())
    except PermissionError:
        os.rmdir(point)
        os.symlink(content, point)


def take_away(point: str) -> None:
    """Take a mount point away, whichever of the two it is; who reads there goes on reading."""
    if os.path.islink(point):
        os.unlink(point)
        return
    with contextlib.suppress(OSError):
        umount2(point.encode(), MNT_DETACH)
    with contextlib.suppress(OSError):
        os.rmdir(point)


def found(directory: str, contents: Mapping[str, str]) -> dict[str, str]:
    """Name -> mount point, of what is shown there already; `contents` are directories by name.

    Whoever has shown it is gone, killed perhaps. What shows nothing any more is taken away.
    """
    shown: dict[str, str] = {}
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            names = [
                name
                for name, content in contents.items()
                if os.path.isdir(content)
                and os.path.isdir(entry.path)
                and os.path.samefile(content, entry.path)
            ]
            if names:
                shown[names[0]] = entry.path
            elif entry.is_symlink() and not os.path.exists(entry.path):
                os.unlink(entry.path)
    return shown
