"""Mounts that a description asks for: trees of the machine, and what a bundle lists.

A tree is picked up before the node's root is entered (open_tree(2)) and put down afterwards
(move_mount(2)): by then every path, and every symbolic link in it, is the node's own. With paths
below the root's old place a link such as `/var/run -> /run` would lead out of it.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Sequence
from typing import Final

from hostlab.errors import Problem
from hostlab.linux.libc import mount, syscall
from hostlab.linux.mounts import AT_FDCWD, AT_RECURSIVE, MS_BIND, MS_REC, MS_REMOUNT
from hostlab.spec.model import Mount
from hostlab.spec.mount_options import (
    MS_NODEV,
    MS_NODIRATIME,
    MS_NOEXEC,
    MS_NOSUID,
    MS_NOSYMFOLLOW,
    MS_RDONLY,
    MountFlags,
    mount_flags,
)

OPEN_TREE_CLONE: Final = 1
MOVE_MOUNT_F_EMPTY_PATH: Final = 4
AT_EMPTY_PATH: Final = 0x1000
_ATTRIBUTES: Final = {
    MS_RDONLY: 0x1,
    MS_NOSUID: 0x2,
    MS_NODEV: 0x4,
    MS_NOEXEC: 0x8,
    MS_NODIRATIME: 0x80,
    MS_NOSYMFOLLOW: 0x200000,
}
"""Flags of mount(2) as mount_setattr(2) has them."""
_KERNEL_TYPES: Final = {"cgroup": "cgroup2"}
"""A node has one cgroup, in the unified hierarchy; v1's are the lab's limits, not for inside."""


def pick_up(source: str, *, recursive: bool = True, flags: MountFlags | None = None) -> int:
    """A detached copy of a tree of the machine, with these flags; returns its descriptor."""
    deep = AT_RECURSIVE if recursive else 0
    how = OPEN_TREE_CLONE | os.O_CLOEXEC | deep
    fd = syscall("open_tree", AT_FDCWD, source.encode(), how, what=source)
    if flags is not None:
        on = sum(bit for flag, bit in _ATTRIBUTES.items() if flags.flags & flag)
        off = sum(bit for flag, bit in _ATTRIBUTES.items() if flags.cleared & flag)
        _set_attributes(fd, on, off, deep=0)
        _set_attributes(fd, flags.recursive_set, flags.recursive_clear, deep=AT_RECURSIVE)
    return fd


def put_down(fd: int, target: str, *, readonly: bool = False) -> None:
    """Put a picked-up tree at a path of the calling process' root, made where it is missing."""
    if readonly:
        _set_attributes(fd, _ATTRIBUTES[MS_RDONLY], 0, deep=AT_RECURSIVE)
    _make_place(target, is_directory=os.path.isdir(f"/proc/self/fd/{fd}"))
    place = target.encode()
    syscall("move_mount", fd, b"", AT_FDCWD, place, MOVE_MOUNT_F_EMPTY_PATH, what=place)
    os.close(fd)


def prepare(mounts: Sequence[Mount]) -> list[tuple[Mount, int]]:
    """Pick up what the bind mounts of a bundle show; -1 for every other mount."""
    found = []
    for wanted in mounts:
        flags = mount_flags(wanted.options)
        fd = -1
        if flags.flags & MS_BIND or wanted.type == "bind":
            try:
                fd = pick_up(wanted.source, recursive=bool(flags.flags & MS_REC), flags=flags)
            except OSError as error:
                raise _refused(wanted, error) from None
        found.append((wanted, fd))
    return found


def carry_out(prepared: Sequence[tuple[Mount, int]]) -> None:
    """Make a bundle's mounts in their order, inside the node's root."""
    for wanted, fd in prepared:
        try:
            _carry_out(wanted, fd)
        except OSError as error:
            raise _refused(wanted, error) from None


def _carry_out(wanted: Mount, fd: int) -> None:
    flags = mount_flags(wanted.options)
    target = wanted.target.encode()
    if fd >= 0:
        put_down(fd, wanted.target)
    elif flags.flags & MS_REMOUNT:
        mount(b"none", target, None, flags.flags, flags.data.encode() or None)
    else:
        kind = _KERNEL_TYPES.get(wanted.type, wanted.type).encode()
        _make_place(wanted.target, is_directory=True)
        source = (wanted.source or "none").encode()
        mount(source, target, kind, flags.flags, flags.data.encode() or None)
        place = os.open(target, os.O_PATH | os.O_CLOEXEC)
        try:
            _set_attributes(place, flags.recursive_set, flags.recursive_clear, deep=AT_RECURSIVE)
        finally:
            os.close(place)
    for propagation in flags.propagation:
        mount(b"none", target, None, propagation, None)


def _set_attributes(fd: int, on: int, off: int, *, deep: int) -> None:
    if not on and not off:
        return
    attributes = struct.pack("=QQQQ", on, off, 0, 0)
    how = AT_EMPTY_PATH | deep
    syscall("mount_setattr", fd, b"", how, attributes, len(attributes), what="mount_setattr")


def _make_place(target: str, *, is_directory: bool) -> None:
    if os.path.exists(target):
        return
    if os.path.islink(target):
        os.unlink(target)
    if is_directory:
        os.makedirs(target)
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def _refused(wanted: Mount, error: OSError) -> Problem:
    reason = os.strerror(error.errno or errno.EIO)
    hint = "the kernel mounts in a user namespace only what its users may mount (user_namespaces)"
    message = f"mount {wanted.target} ({wanted.type} of {wanted.source or 'none'}): {reason}"
    is_privilege = error.errno in (errno.EPERM, errno.EACCES)
    return Problem("mount", message, hint=hint if is_privilege else None)
