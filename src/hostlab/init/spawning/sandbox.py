"""What a process sees of the file system: private temporary directories, read-only paths, a root.

Everything happens in the process's own mount namespace, after `clone3` and before `execve`, so
the node has nothing to undo when the process ends, however it ends. A process that may not make a
mount namespace, a plain user's, first makes a user namespace in which its user has the same
number; `execve` takes away what it may do there (user_namespaces(7)).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from typing import Final

from hostlab.linux.capabilities import remember_bounding_set
from hostlab.linux.clone import CLONE_NEWNS, CLONE_NEWUSER
from hostlab.linux.libc import mount, prctl, syscall, unshare
from hostlab.linux.mounts import (
    AT_FDCWD,
    MS_NODEV,
    MS_NOSUID,
    MS_REC,
    MS_SLAVE,
    bind,
    make_readonly,
    make_writable,
)

TEMPORARY: Final = ("/tmp", "/var/tmp")
PR_GET_DUMPABLE: Final = 3
PR_SET_DUMPABLE: Final = 4
LEFT_ALONE: Final = re.compile(rb"/(dev|proc|sys)(/|$)")
"""Not made read-only with `/` (systemd.exec(5), "ProtectSystem=")."""
OPEN_TREE_CLONE: Final = 1
OPEN_TREE_CLOEXEC: Final = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH: Final = 4


def isolate() -> bool:
    """Enter a mount namespace of one's own, whose mounts the node does not see.

    What the node mounts later still comes in. True when it took a user namespace too; OSError
    EPERM where the kernel lets this user have none.
    """
    is_nested = False
    try:
        unshare(CLONE_NEWNS)
    except PermissionError:
        uid, gid = os.geteuid(), os.getegid()
        unshare(CLONE_NEWUSER | CLONE_NEWNS)
        is_nested = True
        # What is not dumpable has its files in /proc owned by the machine's root (proc(5)).
        dumpable = prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)
        prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
        _write("setgroups", "deny")
        _write("uid_map", f"{uid} {uid} 1")
        _write("gid_map", f"{gid} {gid} 1")
        prctl(PR_SET_DUMPABLE, dumpable, 0, 0, 0)
        remember_bounding_set(anew=True)
    mount(b"none", b"/", None, MS_REC | MS_SLAVE, None)
    return is_nested


def _write(name: str, value: str) -> None:
    fd = os.open(f"/proc/self/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def make_temporary(directory: str) -> tuple[str, ...]:
    """A job instance's own temporary directories, made if need be, in the order of `TEMPORARY`.

    The directory is one that only its owner may enter, so nobody else can have put anything there.
    """
    os.makedirs(directory, exist_ok=True)
    os.chmod(directory, 0o700)
    found = []
    for target in TEMPORARY:
        place = _place_of(directory, target)
        if not os.path.isdir(place):
            os.mkdir(place)
            os.chmod(place, 0o1777)
        found.append(place)
    return tuple(found)


def remove_temporary(directory: str) -> None:
    """Take them away with all that is in them; most are empty, and then that is three calls."""
    with contextlib.suppress(FileNotFoundError):
        try:
            for target in TEMPORARY:
                os.rmdir(_place_of(directory, target))
            os.rmdir(directory)
        except OSError:
            shutil.rmtree(directory)


def _place_of(directory: str, target: str) -> str:
    return f"{directory}/{target[1:].replace('/', '.')}"


def pick_up_temporary(directory: str) -> tuple[int, ...]:
    """Mounts of these directories, not yet anywhere: picked up before a `chroot` hides them."""
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC
    return tuple(
        syscall("open_tree", AT_FDCWD, place.encode(), flags, what=place)
        for place in make_temporary(directory)
    )


def cover_temporary(mounts: tuple[int, ...]) -> None:
    """Put these mounts, or else new empty file systems, over /tmp and /var/tmp."""
    options = MS_NOSUID | MS_NODEV
    for number, target in enumerate(TEMPORARY):
        # Where /var/tmp is a name of /tmp it must not be covered twice, and may be missing.
        if number and (os.path.islink(target) or not os.path.isdir(target)):
            continue
        place = target.encode()
        if mounts:
            syscall(
                "move_mount",
                mounts[number],
                b"",
                AT_FDCWD,
                place,
                MOVE_MOUNT_F_EMPTY_PATH,
                what=target,
            )
        else:
            mount(b"tmpfs", place, b"tmpfs", options, b"mode=1777")


def to_protect(words: Iterable[str]) -> Iterator[str]:
    """The paths to make read-only: one with a `-` before it only if it is there."""
    for word in words:
        path = word.removeprefix("-")
        if path == word or os.path.exists(path):
            yield path


def protect(path: str, *, besides: Iterable[str] = ()) -> None:
    """Make everything at and below a path read-only.

    Of `/` all but what `LEFT_ALONE` says, and what is mounted just `besides`.
    """
    place = path.encode()
    if path == "/":
        kept = {each.encode() for each in besides}
        for target in _mounted():
            if target not in kept:
                make_readonly(target)
        return
    bind(place, place, recursive=True)
    make_readonly(place, recursive=True)


def let_write(path: str) -> None:
    """Make a path writable again that lies in what was made read-only."""
    place = path.encode()
    bind(place, place)
    make_writable(place)


def hide(path: str) -> None:
    """Put something empty over a path, which nobody may write to."""
    place = path.encode()
    if os.path.isdir(path):
        mount(b"tmpfs", place, b"tmpfs", MS_NOSUID | MS_NODEV, b"mode=000,size=4k")
        make_readonly(place)
    else:
        bind(b"/dev/null", place)


def _mounted() -> list[bytes]:
    """Where something is mounted, the kernel's own file systems apart."""
    with open("/proc/self/mountinfo", "rb") as file:
        found = [line.split()[4] for line in file]
    decoded = [re.sub(rb"\\(\d{3})", lambda m: bytes([int(m[1], 8)]), each) for each in found]
    return [each for each in decoded if not LEFT_ALONE.match(each)]
