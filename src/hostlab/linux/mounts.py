"""mount(2) flags and the few composite calls that staging needs."""

from __future__ import annotations

import os
import struct
from typing import Final

from hostlab.linux.libc import mount, pivot_root, syscall, umount2

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
UMOUNT_NOFOLLOW: Final = 8
MOUNT_ATTR_RDONLY: Final = 1
AT_FDCWD: Final = -100
AT_RECURSIVE: Final = 0x8000


def make_private() -> None:
    """Cut this mount namespace off: nothing mounted here is seen elsewhere, nor the reverse."""
    mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None)


def bind(source: bytes, target: bytes, *, recursive: bool = False) -> None:
    """Show `source` at `target` too."""
    mount(source, target, None, MS_BIND | (MS_REC if recursive else 0), None)


def make_readonly(target: bytes, *, recursive: bool = False) -> None:
    """Make a mount read-only and leave its other flags alone; mount_setattr(2), Linux 5.12.

    A remount would have to repeat the flags that a user namespace may not take off, or be refused
    (mount_namespaces(7)).
    """
    attributes = struct.pack("=QQQQ", MOUNT_ATTR_RDONLY, 0, 0, 0)
    flags = AT_RECURSIVE if recursive else 0
    syscall("mount_setattr", AT_FDCWD, target, flags, attributes, len(attributes), what=target)


def make_writable(target: bytes) -> None:
    """Take the read-only flag off one mount; EPERM where a user namespace has locked it."""
    attributes = struct.pack("=QQQQ", 0, MOUNT_ATTR_RDONLY, 0, 0)
    syscall("mount_setattr", AT_FDCWD, target, 0, attributes, len(attributes), what=target)


def enter_root(new_root: bytes) -> None:
    """Make `new_root`, a mount point, the root of this mount namespace and let go of the old one.

    pivot_root(2), "pivot_root(".", ".")": old and new are stacked at the same place, so no
    directory is needed for the old one.
    """
    os.chdir(new_root)
    pivot_root(b".", b".")
    umount2(b".", MNT_DETACH)
    os.chdir("/")
