"""mount(2) flags and the few composite calls that staging needs."""

from __future__ import annotations

import os
from typing import Final

from hostlab.linux.libc import mount, pivot_root, umount2

MS_RDONLY: Final = 0x1
MS_NOSUID: Final = 0x2
MS_NODEV: Final = 0x4
MS_NOEXEC: Final = 0x8
MS_REMOUNT: Final = 0x20
MS_NOSYMFOLLOW: Final = 0x100
MS_BIND: Final = 0x1000
MS_MOVE: Final = 0x2000
MS_REC: Final = 0x4000
MS_UNBINDABLE: Final = 0x20000
MS_PRIVATE: Final = 0x40000
MS_SLAVE: Final = 0x80000
MS_RELATIME: Final = 0x200000
MNT_DETACH: Final = 2

_LOCKABLE: Final = {
    "ro": MS_RDONLY,
    "nosuid": MS_NOSUID,
    "nodev": MS_NODEV,
    "noexec": MS_NOEXEC,
    "noatime": 0x400,
    "nodiratime": 0x800,
    "relatime": MS_RELATIME,
}


def make_private() -> None:
    """Cut this mount namespace off: nothing mounted here is seen elsewhere, nor the reverse."""
    mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None)


def bind(source: bytes, target: bytes, *, recursive: bool = False) -> None:
    """Show `source` at `target` too."""
    mount(source, target, None, MS_BIND | (MS_REC if recursive else 0), None)


def locked_flags(options: str) -> int:
    """The flags in a mountinfo options field that a user namespace may not take off again.

    mount_namespaces(7), "Restrictions on mount namespaces": a remount that leaves one of them out
    is refused with EPERM, so a read-only remount repeats them.
    """
    found = 0
    for option in options.split(","):
        found |= _LOCKABLE.get(option, 0)
    return found


def make_readonly(target: bytes, *, keep: int = 0) -> None:
    """Remount one bind mount read-only; `keep` are the flags it has and must not lose."""
    mount(b"none", target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | keep, None)


def enter_root(new_root: bytes) -> None:
    """Make `new_root`, a mount point, the root of this mount namespace and let go of the old one.

    pivot_root(2), "pivot_root(".", ".")": old and new are stacked at the same place, so no
    directory is needed for the old one.
    """
    os.chdir(new_root)
    pivot_root(b".", b".")
    umount2(b".", MNT_DETACH)
    os.chdir("/")
