"""Mount options by name: what the OCI runtime specification says each one does to a mount.

mount(2) takes a word of flags, at most one propagation type in a call of its own, and a string
that only the file system reads. mount_setattr(2) (Linux 5.12) takes attributes, and is the only
way to change a whole tree. A list such as `["rbind", "ro", "rslave", "size=64k"]` mixes all four;
the table below takes it apart. A name that is not in it belongs to the file system.

The numbers are the kernel's ABI (include/uapi/linux/mount.h); the names and their meaning are from
"Mounts" in the runtime specification's config.md and from mount(8).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_SYNCHRONOUS: Final = 16
MS_REMOUNT: Final = 32
MS_MANDLOCK: Final = 64
MS_DIRSYNC: Final = 128
MS_NOSYMFOLLOW: Final = 256
MS_NOATIME: Final = 1024
MS_NODIRATIME: Final = 2048
MS_BIND: Final = 4096
MS_REC: Final = 1 << 14
MS_SILENT: Final = 1 << 15
MS_UNBINDABLE: Final = 1 << 17
MS_PRIVATE: Final = 1 << 18
MS_SLAVE: Final = 1 << 19
MS_SHARED: Final = 1 << 20
MS_RELATIME: Final = 1 << 21
MS_I_VERSION: Final = 1 << 23
MS_STRICTATIME: Final = 1 << 24
MS_LAZYTIME: Final = 1 << 25

MOUNT_ATTR_RDONLY: Final = 0x1
MOUNT_ATTR_NOSUID: Final = 0x2
MOUNT_ATTR_NODEV: Final = 0x4
MOUNT_ATTR_NOEXEC: Final = 0x8
MOUNT_ATTR_ATIME: Final = 0x70
"""The field that holds one of the three below; a change names it as cleared."""
MOUNT_ATTR_RELATIME: Final = 0x0
MOUNT_ATTR_NOATIME: Final = 0x10
MOUNT_ATTR_STRICTATIME: Final = 0x20
MOUNT_ATTR_NODIRATIME: Final = 0x80
MOUNT_ATTR_NOSYMFOLLOW: Final = 0x200000


class MountOption(msgspec.Struct, frozen=True):
    """What one option does; every field that it does not touch is 0."""

    set: int = 0
    """Flags of mount(2) that it sets."""
    clear: int = 0
    """Flags of mount(2) that it clears."""
    propagation: int = 0
    """A propagation type, with MS_REC when it is for the whole tree; a mount(2) of its own."""
    recursive_set: int = 0
    """Attributes that mount_setattr(2) sets with AT_RECURSIVE."""
    recursive_clear: int = 0
    """Attributes that mount_setattr(2) clears with AT_RECURSIVE."""
    extension: str = ""
    """What the runtime does itself, by its name in the specification: `idmap`, `tmpcopyup`."""


def _pair(on: str, off: str, flag: int) -> dict[str, MountOption]:
    return {on: MountOption(set=flag), off: MountOption(clear=flag)}


def _recursive(on: str, off: str, attribute: int) -> dict[str, MountOption]:
    return {
        on: MountOption(recursive_set=attribute),
        off: MountOption(recursive_clear=attribute),
    }


def _atime(attribute: int) -> MountOption:
    return MountOption(recursive_set=attribute, recursive_clear=MOUNT_ATTR_ATIME)


MOUNT_OPTIONS: Final[Mapping[str, MountOption]] = {
    "defaults": MountOption(),
    "bind": MountOption(set=MS_BIND),
    "rbind": MountOption(set=MS_BIND | MS_REC),
    "remount": MountOption(set=MS_REMOUNT),
    **_pair("ro", "rw", MS_RDONLY),
    **_pair("nosuid", "suid", MS_NOSUID),
    **_pair("nodev", "dev", MS_NODEV),
    **_pair("noexec", "exec", MS_NOEXEC),
    **_pair("nosymfollow", "symfollow", MS_NOSYMFOLLOW),
    **_pair("sync", "async", MS_SYNCHRONOUS),
    **_pair("mand", "nomand", MS_MANDLOCK),
    **_pair("noatime", "atime", MS_NOATIME),
    **_pair("nodiratime", "diratime", MS_NODIRATIME),
    **_pair("relatime", "norelatime", MS_RELATIME),
    **_pair("strictatime", "nostrictatime", MS_STRICTATIME),
    **_pair("lazytime", "nolazytime", MS_LAZYTIME),
    **_pair("iversion", "noiversion", MS_I_VERSION),
    **_pair("silent", "loud", MS_SILENT),
    "dirsync": MountOption(set=MS_DIRSYNC),
    "private": MountOption(propagation=MS_PRIVATE),
    "rprivate": MountOption(propagation=MS_PRIVATE | MS_REC),
    "shared": MountOption(propagation=MS_SHARED),
    "rshared": MountOption(propagation=MS_SHARED | MS_REC),
    "slave": MountOption(propagation=MS_SLAVE),
    "rslave": MountOption(propagation=MS_SLAVE | MS_REC),
    "unbindable": MountOption(propagation=MS_UNBINDABLE),
    "runbindable": MountOption(propagation=MS_UNBINDABLE | MS_REC),
    **_recursive("rro", "rrw", MOUNT_ATTR_RDONLY),
    **_recursive("rnosuid", "rsuid", MOUNT_ATTR_NOSUID),
    **_recursive("rnodev", "rdev", MOUNT_ATTR_NODEV),
    **_recursive("rnoexec", "rexec", MOUNT_ATTR_NOEXEC),
    **_recursive("rnodiratime", "rdiratime", MOUNT_ATTR_NODIRATIME),
    **_recursive("rnosymfollow", "rsymfollow", MOUNT_ATTR_NOSYMFOLLOW),
    "rrelatime": _atime(MOUNT_ATTR_RELATIME),
    "rnoatime": _atime(MOUNT_ATTR_NOATIME),
    "rstrictatime": _atime(MOUNT_ATTR_STRICTATIME),
    "ratime": _atime(MOUNT_ATTR_RELATIME),
    "rnorelatime": _atime(MOUNT_ATTR_STRICTATIME),
    "rnostrictatime": _atime(MOUNT_ATTR_RELATIME),
    "idmap": MountOption(extension="idmap"),
    "ridmap": MountOption(extension="ridmap"),
    "tmpcopyup": MountOption(extension="tmpcopyup"),
}
"""Every option that is not the file system's own, by name."""

DATA_OPTIONS: Final[Mapping[str, frozenset[str]]] = {
    "tmpfs": frozenset(
        [
            "size",
            "nr_blocks",
            "nr_inodes",
            "mode",
            "uid",
            "gid",
            "mpol",
            "huge",
            "inode32",
            "inode64",
            "noswap",
        ]
    ),
    "devpts": frozenset(("newinstance", "ptmxmode", "mode", "uid", "gid", "max")),
    "proc": frozenset(("hidepid", "gid", "subset")),
    "overlay": frozenset(
        [
            "lowerdir",
            "upperdir",
            "workdir",
            "datadir",
            "redirect_dir",
            "index",
            "metacopy",
            "xino",
            "volatile",
            "userxattr",
            "nfs_export",
            "uuid",
            "verity",
        ]
    ),
    "sysfs": frozenset(),
    "mqueue": frozenset(),
}
"""Options that a file system reads itself, for those whose whole list is known (kernel
Documentation/filesystems). Of any other type nothing can be said before the kernel has."""


class MountFlags(msgspec.Struct, frozen=True, kw_only=True):
    """A list of options taken apart, the later of two that contradict having won."""

    flags: int = 0
    """The flags of the first mount(2)."""
    cleared: int = 0
    """Flags that were cleared by name: a bind mount keeps its source's others."""
    propagation: tuple[int, ...] = ()
    """Each is a mount(2) with no source, type or data, in this order."""
    recursive_set: int = 0
    recursive_clear: int = 0
    extensions: tuple[str, ...] = ()
    data: str = ""
    """What the file system reads, joined by commas."""


def mount_flags(options: Iterable[str]) -> MountFlags:
    """Take a mount's options apart; a name that is not in `MOUNT_OPTIONS` is data."""
    flags = cleared = attributes = attributes_cleared = 0
    propagation: list[int] = []
    extensions: list[str] = []
    data: list[str] = []
    for name in options:
        option = MOUNT_OPTIONS.get(name)
        if option is None:
            data.append(name)
            continue
        flags = flags & ~option.clear | option.set
        cleared = cleared & ~option.set | option.clear
        attributes = attributes & ~option.recursive_clear | option.recursive_set
        # The field of the atime attributes is named as cleared whenever one of them is set.
        kept = attributes_cleared & (~option.recursive_set | MOUNT_ATTR_ATIME)
        attributes_cleared = kept | option.recursive_clear
        if option.propagation:
            propagation.append(option.propagation)
        if option.extension:
            extensions.append(option.extension)
    return MountFlags(
        flags=flags,
        cleared=cleared,
        propagation=tuple(propagation),
        recursive_set=attributes,
        recursive_clear=attributes_cleared,
        extensions=tuple(extensions),
        data=",".join(data),
    )


def unknown_data(fstype: str, options: Iterable[str]) -> tuple[str, ...]:
    """Options that neither mount(2) nor a file system of this type knows; () when unsure."""
    known = DATA_OPTIONS.get(fstype)
    if known is None:
        return ()
    return tuple(
        option
        for option in options
        if option not in MOUNT_OPTIONS and option.partition("=")[0] not in known
    )
