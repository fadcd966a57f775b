"""A node's file system: the machine's own under an overlay, with private /proc, /sys, /dev, /run.

Everything here happens in the node's own mount namespace, between `clone3` and the node's first
process, so what it makes vanishes with the node. The writable layer is a tmpfs of that namespace
too: nothing is ever written to the machine's disks.

An overlay whose lower layer is `/` is refused to a plain user, because the mounts below `/` are
locked in his namespace (mount_namespaces(7)); an overlay for each top-level directory is allowed.
As root the hub binds `/` alone, without what is mounted below it, before it gives up the machine's
user namespace, and one overlay serves. The hub finds out once (`lab.survey`); a node only follows.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from hostlab.lab import attach
from hostlab.linux.libc import mount
from hostlab.linux.mounts import (
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    MS_REMOUNT,
    bind,
    enter_root,
    make_readonly,
)
from hostlab.spec.model import Mount
from hostlab.spec.mount_options import mount_flags

if TYPE_CHECKING:
    from hostlab.lab.root_table import RootTable

DEVICES: Final = ("full", "null", "random", "tty", "urandom", "zero", "net/tun")
"""Devices without a hold on the machine; a user namespace cannot make nodes, so they are bound."""

MASKED: Final = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/kmsg",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
"""What tells of the machine, or of its other users; as container runtimes mask it."""

KERNEL_LOG: Final = "/proc/kmsg"
"""Daemons read it until they die; rsyslogd reads the end of a /dev/null again without a pause."""

READONLY: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
"""What would change the machine: these files ask for uid 0, not for a capability (proc(5))."""

FROZEN_COPIED: Final = ("/etc",)
FROZEN_EMPTY: Final = ("/var/log", "/var/tmp")
"""What a node can write although there is no overlay for it."""
COPIED_BYTES: Final = 1 << 20
OWN_MOUNTS: Final = {
    "/dev": "tmpfs",
    "/dev/mqueue": "mqueue",
    "/dev/pts": "devpts",
    "/dev/shm": "tmpfs",
    "/proc": "proc",
    "/run": "tmpfs",
    "/sys": "sysfs",
    "/tmp": "tmpfs",
}
"""What every node has; a bundle that lists one of them gives its options only."""
DEVICE_DIRECTORIES: Final = (b"/pts", b"/shm", b"/mqueue", b"/net")
DEVICE_LINKS: Final = (
    (b"/ptmx", b"pts/ptmx"),
    (b"/fd", b"/proc/self/fd"),
    (b"/stdin", b"/proc/self/fd/0"),
    (b"/stdout", b"/proc/self/fd/1"),
    (b"/stderr", b"/proc/self/fd/2"),
)
DEVPTS_OPTIONS: Final = "newinstance,ptmxmode=0666,mode=0620"
SHUT: Final = b"/dev/.shut"
"""A socket, for a moment."""
USERXATTR: Final = b",userxattr"
"""Linux 5.11."""
_SMALL: Final = MS_NOSUID | MS_NODEV


class Survey(msgspec.Struct, frozen=True):
    """What the hub found out once about the machine's file system, for every node to use."""

    layers: tuple[tuple[str, str], ...]
    """(target, lower directory) of each overlay; the first is `/` or there is none for it."""
    frozen: tuple[tuple[str, str], ...]
    """(target, directory) of what the kernel puts under no overlay: shown read-only."""
    directories: tuple[str, ...]
    """Empty directories of a root that is not an overlay itself."""
    symlinks: tuple[tuple[str, str], ...]
    """(name, destination) in such directories."""
    files: tuple[str, ...]
    """Files in such directories."""
    devices: tuple[str, ...]
    masked_files: tuple[str, ...]
    masked_directories: tuple[str, ...]
    readonly: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    """What is not as it should be in the nodes, for people."""


class RootPlan(msgspec.Struct, frozen=True):
    """What one node's file system is to be."""

    survey: Survey
    base: str
    """An empty directory of the machine to mount on; every node uses the same one."""
    size_bytes: int | None = None
    """Limit of the writable layer."""
    lower: str | None = None
    """A directory instead of the machine's root."""
    bind_root: str | None = None
    """A directory that is the root itself, written in place (an OCI bundle)."""
    readonly: bool = False
    mounts: tuple[Mount, ...] = ()
    """What a bundle lists, in its order."""
    volumes: tuple[tuple[str, str, bool], ...] = ()
    """(source, target, writable)."""
    hosts: str = ""
    """The file shown at /etc/hosts."""
    resolv_conf: str = ""
    masked: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    unmasked: bool = False
    """Leave /proc and /sys bare, so that a lab inside the node may mount its own."""
    table: RootTable | None = None
    """The same as calls that the hub has written down, where that can be."""


def build(plan: RootPlan) -> None:
    """Build the root, enter it, and let go of the machine's; runs as the node's first process."""
    own = {m.target: m for m in plan.mounts if OWN_MOUNTS.get(m.target) == m.type}
    if plan.table is not None:
        plan.table.make.do()
        if plan.table.is_entered:
            return
        root = plan.base.encode() + b"/root"
    else:
        root = _make(plan, own)
    further = attach.prepare([m for m in plan.mounts if m.target not in own])
    volumes = [(attach.pick_up(source), target, not ok) for source, target, ok in plan.volumes]
    names = [(attach.pick_up(file), place, True) for file, place in shown(plan)]
    enter_root(root)
    attach.carry_out(further)
    for fd, target, readonly in (*volumes, *names):
        attach.put_down(fd, target, readonly=readonly)


def shown(plan: RootPlan) -> tuple[tuple[str, str], ...]:
    """(file of the lab, where a node sees it)."""
    both = ((plan.hosts, "/etc/hosts"), (plan.resolv_conf, "/etc/resolv.conf"))
    return tuple((file, place) for file, place in both if file)


def _make(plan: RootPlan, own: Mapping[str, Mount]) -> bytes:
    base = plan.base.encode()
    options = b"mode=0755" + (f",size={plan.size_bytes}".encode() if plan.size_bytes else b"")
    mount(b"tmpfs", base, b"tmpfs", 0, options)
    if plan.bind_root is not None:
        root = plan.bind_root.encode()
        bind(root, root, recursive=True)
    else:
        root = base + b"/root"
        os.mkdir(root)
        _overlays(plan, base, root)
    _kernel_mounts(plan, root, own)
    return root


def seal(plan: RootPlan) -> None:
    """Mask and protect; after this only the network's own settings can still be written."""
    if plan.table is not None:
        plan.table.seal.do()
    elif not plan.unmasked:
        _mask(plan)
    if plan.readonly:
        make_readonly(b"/")


def _overlays(plan: RootPlan, base: bytes, root: bytes) -> None:
    survey = plan.survey
    if plan.lower is not None:
        layers: Sequence[tuple[str, str]] = (("/", plan.lower),)
    else:
        layers = survey.layers
        if survey.directories:
            bind(root, root)  # pivot_root(2) wants a mount
        for target, directory in survey.frozen:
            _frozen(target, directory, root)
        for name in survey.directories:
            os.makedirs(root + b"/" + name.encode(), exist_ok=True)
        for name, destination in survey.symlinks:
            os.symlink(destination.encode(), root + b"/" + name.encode())
        for name in survey.files:
            _place_file(f"/{name}", f"{os.fsdecode(root)}/{name}")
    for number, (target, lower) in enumerate(layers):
        upper, work = base + b"/u%d" % number, base + b"/w%d" % number
        os.mkdir(upper)
        os.mkdir(work)
        place = root if target == "/" else root + target.encode()
        if target != "/":
            os.makedirs(place, exist_ok=True)
        overlay(lower.encode(), upper, work, place)


def overlay(lower: bytes, upper: bytes, work: bytes, place: bytes) -> None:
    """Mount an overlay of one lower directory; EINVAL where the kernel wants none.

    With `userxattr`, as a user namespace needs it, where the kernel has that (Linux 5.11).
    """
    options = overlay_options(lower, upper, work)
    try:
        mount(b"overlay", place, b"overlay", 0, options)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        mount(b"overlay", place, b"overlay", 0, options.removesuffix(USERXATTR))


def overlay_options(lower: bytes, upper: bytes, work: bytes) -> bytes:
    """Of an overlay in a user namespace."""
    escaped = lower.replace(b"\\", b"\\\\").replace(b",", b"\\,").replace(b":", b"\\:")
    return b"lowerdir=%s,upperdir=%s,workdir=%s" % (escaped, upper, work) + USERXATTR


def _frozen(target: str, directory: str, root: bytes) -> None:
    """A directory read-only, less what no node can do without: its own /etc, room for logs."""
    place = root + target.rstrip("/").encode()
    os.makedirs(place, exist_ok=True)
    bind(directory.encode(), place, recursive=True)
    make_readonly(place, recursive=True)
    for path in (*FROZEN_COPIED, *FROZEN_EMPTY):
        if f"{path}/".startswith(target.rstrip("/") + "/") and os.path.isdir(path):
            inner = root + path.encode()
            copied = path in FROZEN_COPIED
            mount(b"tmpfs", inner, b"tmpfs", _SMALL, b"mode=0755" if copied else b"mode=1777")
            if copied:
                with suppress(shutil.Error):  # at the end, for what this user may not read
                    shutil.copytree(
                        path,
                        os.fsdecode(inner),
                        symlinks=True,
                        dirs_exist_ok=True,
                        copy_function=_place_file,
                    )


def _place_file(source: str, target: str) -> None:
    """A copy where it is small and may be read; else the file itself, read-only."""
    found = os.stat(source)
    try:
        if stat.S_ISREG(found.st_mode) and found.st_size <= COPIED_BYTES:
            shutil.copyfile(source, target)
            os.chmod(target, stat.S_IMODE(found.st_mode))
            return
    except PermissionError:
        pass
    os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    bind(os.fsencode(source), os.fsencode(target))
    make_readonly(os.fsencode(target))


def _own(
    own: Mapping[str, Mount], root: bytes, target: str, flags: int, data: str | None = None
) -> None:
    """One of the mounts that every node has, with a bundle's options where it lists it."""
    kind = OWN_MOUNTS[target].encode()
    wanted = own.get(target)
    if wanted is not None:
        said = mount_flags(wanted.options)
        flags, data = flags | said.flags, said.data or data
    place = root + target.encode()
    try:
        mount(kind, place, kind, flags, data.encode() if data else None)
    except OSError as error:
        # A group of the bundle's that this user's lab does not have: `gid=5` of devpts.
        if error.errno != errno.EINVAL or not data or "gid=" not in data:
            raise
        rest = ",".join(part for part in data.split(",") if not part.startswith("gid="))
        mount(kind, place, kind, flags, rest.encode())


def _kernel_mounts(plan: RootPlan, root: bytes, own: Mapping[str, Mount]) -> None:
    if plan.lower is not None or plan.bind_root is not None:
        for name in (b"dev", b"proc", b"run", b"sys", b"tmp"):
            os.makedirs(root + b"/" + name, exist_ok=True)
    _own(own, root, "/proc", _SMALL | MS_NOEXEC)
    readonly = 0 if plan.unmasked else MS_RDONLY
    _own(own, root, "/sys", _SMALL | MS_NOEXEC | readonly)
    _own(own, root, "/run", _SMALL, "mode=0755")
    os.mkdir(root + b"/run/lock", 0o1777)
    _own(own, root, "/tmp", _SMALL, "mode=1777")
    _devices(plan.survey.devices, root, own)


def _devices(names: Sequence[str], root: bytes, own: Mapping[str, Mount]) -> None:
    dev = root + b"/dev"
    _own(own, root, "/dev", MS_NOSUID, "mode=0755")
    for directory in DEVICE_DIRECTORIES:
        os.mkdir(dev + directory)
    for name in names:
        node = dev + b"/" + name.encode()
        os.close(os.open(node, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o666))
        bind(b"/dev/" + name.encode(), node)
    _own(own, root, "/dev/pts", MS_NOSUID | MS_NOEXEC, DEVPTS_OPTIONS)
    _own(own, root, "/dev/shm", _SMALL, "mode=1777")
    _own(own, root, "/dev/mqueue", _SMALL | MS_NOEXEC)
    for link, destination in DEVICE_LINKS:
        os.symlink(destination, dev + link)


def _mask(plan: RootPlan) -> None:
    survey = plan.survey
    for path in (*survey.readonly, *plan.readonly_paths):
        place = path.encode()
        if os.path.exists(place):
            bind(place, place, recursive=True)
            make_readonly(place)
    if os.path.exists("/proc/sys/net"):
        _writable_again(b"/proc/sys/net")
    for path in survey.masked_files:
        if path == KERNEL_LOG:
            _shut(path.encode())
        else:
            bind(b"/dev/null", path.encode())
    for path in survey.masked_directories:
        mount(b"tmpfs", path.encode(), b"tmpfs", _SMALL | MS_NOEXEC | MS_RDONLY, b"size=0")
    for path in plan.masked:
        if os.path.isdir(path):
            mount(b"tmpfs", path.encode(), b"tmpfs", _SMALL | MS_RDONLY, b"size=0")
        elif os.path.exists(path):
            bind(b"/dev/null", path.encode())


def _shut(path: bytes) -> None:
    """Let nobody open a file: it becomes a socket, which open(2) refuses with ENXIO."""
    os.mknod(SHUT, stat.S_IFSOCK | 0o600)
    bind(SHUT, path)
    os.unlink(SHUT)


def _writable_again(path: bytes) -> None:
    """The network's own settings stay writable: the kernel keeps them apart for each namespace."""
    bind(path, path)
    mount(b"none", path, None, MS_REMOUNT | MS_BIND | _SMALL | MS_NOEXEC, None)
