"""A node's usual file system as two tables of system calls, made once by the hub for all its nodes.

What `rootfs` does by Python dirties half a megabyte of what a node shares with its hub, and takes
longer than the kernel does. So where nothing of it depends on the node (the machine's root below
one overlay, no bundle) the hub writes the calls down, and each node makes them
(`linux.vfork.Calls`). Everything else, and every machine without a stub, is done by `rootfs`; a
test compares the two.
"""

from __future__ import annotations

import functools
import os
import stat
import struct
from typing import Final

import msgspec

from hostlab.lab.rootfs import (
    DEVICE_DIRECTORIES,
    DEVICE_LINKS,
    DEVPTS_OPTIONS,
    KERNEL_LOG,
    SHUT,
    Survey,
    overlay_options,
)
from hostlab.linux import vfork
from hostlab.linux.mounts import (
    AT_FDCWD,
    AT_RECURSIVE,
    MNT_DETACH,
    MOUNT_ATTR_RDONLY,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
)

_SMALL: Final = MS_NOSUID | MS_NODEV
_KERNEL: Final = _SMALL | MS_NOEXEC
_READONLY: Final = struct.pack("=QQQQ", MOUNT_ATTR_RDONLY, 0, 0, 0)


class RootTable(msgspec.Struct, frozen=True):
    """The calls that make a root, and those that seal it."""

    make: vfork.Calls
    seal: vfork.Calls
    is_entered: bool
    """Whether the first of them enter it, with what is shown in it; else `rootfs` does."""


@functools.lru_cache(maxsize=16)
def root_table(
    survey: Survey, base: str, size_bytes: int | None, shown: tuple[tuple[str, str], ...] | None
) -> RootTable | None:
    """The tables of all nodes with the machine's root; None where that takes more than calls.

    `shown` are (file, its place) to be seen in it read-only; None leaves them, and entering the
    root, to `rootfs`, and so does a place that a symbolic link leads to or that is not there.
    """
    parts = survey.frozen or survey.directories or survey.symlinks or survey.files
    is_plain = survey.layers and survey.layers[0][0] == "/" and not parts
    if not is_plain or not vfork.prepare():
        return None
    make, seal = vfork.Calls(), vfork.Calls()
    root = base.encode() + b"/root"
    _overlays(make, survey, base.encode(), root, size_bytes)
    _kernel_mounts(make, root)
    _devices(make, survey, root + b"/dev")
    is_entered = shown is not None and all(_is_file(place) for _, place in shown)
    if is_entered and shown is not None:
        _enter(make, root, shown)
    _mask(seal, survey)
    make.prepare()
    seal.prepare()
    return RootTable(make, seal, is_entered)


def _is_file(path: str) -> bool:
    return os.path.isfile(path) and os.path.realpath(path) == path


def _enter(calls: vfork.Calls, root: bytes, shown: tuple[tuple[str, str], ...]) -> None:
    for file, target in shown:
        place = root + target.encode()
        _bind(calls, file.encode(), place, deep=True)
        _make_readonly(calls, place, deep=True)
    # As `mounts.enter_root`.
    calls.add("chdir", root, what=root)
    calls.add("pivot_root", b".", b".", what=root)
    calls.add("umount2", b".", MNT_DETACH, what=b"the machine's root")
    calls.add("chdir", b"/", what=b"/")


def _mount(calls: vfork.Calls, kind: bytes, place: bytes, flags: int, data: bytes | None) -> None:
    calls.add("mount", kind, place, kind, flags, data, what=place)


def _bind(calls: vfork.Calls, source: bytes, place: bytes, *, deep: bool = False) -> None:
    calls.add("mount", source, place, None, MS_BIND | (MS_REC if deep else 0), None, what=place)


def _make_readonly(calls: vfork.Calls, place: bytes, *, deep: bool = False) -> None:
    how = AT_RECURSIVE if deep else 0
    size = len(_READONLY)
    calls.add("mount_setattr", AT_FDCWD, place, how, _READONLY, size, what=place)


def _overlays(
    calls: vfork.Calls, survey: Survey, base: bytes, root: bytes, size_bytes: int | None
) -> None:
    size = f",size={size_bytes}".encode() if size_bytes else b""
    _mount(calls, b"tmpfs", base, 0, b"mode=0755" + size)
    calls.add("mkdir", root, 0o777, what=root)
    for number, (target, lower) in enumerate(survey.layers):
        upper, work = base + b"/u%d" % number, base + b"/w%d" % number
        place = root if target == "/" else root + target.encode()
        calls.add("mkdir", upper, 0o777, what=upper)
        calls.add("mkdir", work, 0o777, what=work)
        _mount(calls, b"overlay", place, 0, overlay_options(lower.encode(), upper, work))


def _kernel_mounts(calls: vfork.Calls, root: bytes) -> None:
    _mount(calls, b"proc", root + b"/proc", _KERNEL, None)
    _mount(calls, b"sysfs", root + b"/sys", _KERNEL | MS_RDONLY, None)
    _mount(calls, b"tmpfs", root + b"/run", _SMALL, b"mode=0755")
    lock = root + b"/run/lock"
    calls.add("mkdir", lock, 0o1777, what=lock)
    _mount(calls, b"tmpfs", root + b"/tmp", _SMALL, b"mode=1777")


def _devices(calls: vfork.Calls, survey: Survey, dev: bytes) -> None:
    _mount(calls, b"tmpfs", dev, MS_NOSUID, b"mode=0755")
    for name in DEVICE_DIRECTORIES:
        calls.add("mkdir", dev + name, 0o777, what=dev + name)
    for device in survey.devices:
        place = dev + b"/" + device.encode()
        calls.add("mknod", place, stat.S_IFREG | 0o666, 0, what=place)
        _bind(calls, b"/dev/" + device.encode(), place)
    _mount(calls, b"devpts", dev + b"/pts", MS_NOSUID | MS_NOEXEC, DEVPTS_OPTIONS.encode())
    _mount(calls, b"tmpfs", dev + b"/shm", _SMALL, b"mode=1777")
    _mount(calls, b"mqueue", dev + b"/mqueue", _KERNEL, None)
    for link, destination in DEVICE_LINKS:
        calls.add("symlink", destination, dev + link, what=dev + link)


def _mask(calls: vfork.Calls, survey: Survey) -> None:
    """As `rootfs.seal`; what is there is the hub's knowledge: all nodes see the same kernel."""
    for path in survey.readonly:
        _bind(calls, path.encode(), path.encode(), deep=True)
        _make_readonly(calls, path.encode())
    net = b"/proc/sys/net"
    _bind(calls, net, net)
    calls.add("mount", b"none", net, None, MS_REMOUNT | MS_BIND | _KERNEL, None, what=net)
    for path in survey.masked_files:
        if path == KERNEL_LOG:
            calls.add("mknod", SHUT, stat.S_IFSOCK | 0o600, 0, what=SHUT)
            _bind(calls, SHUT, path.encode())
            calls.add("unlink", SHUT, what=SHUT)
        else:
            _bind(calls, b"/dev/null", path.encode())
    for path in survey.masked_directories:
        _mount(calls, b"tmpfs", path.encode(), _KERNEL | MS_RDONLY, b"size=0")
