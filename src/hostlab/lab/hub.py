"""The hub's process: into the lab's own namespaces, then an init like any other.

`hostlab up` starts it as a program of its own (a big or threaded caller is never forked), hands it
its listening control socket, and writes its user map. What happens in which user namespace matters:
as root the machine's bare root file system is bound before the lab's user namespace is entered,
because inside it the mounts below `/` are locked.
"""

from __future__ import annotations

import contextlib
import gc
import os
import socket
from typing import Any, Final

import msgspec

from hostlab import typed
from hostlab.init.holder import Holder, Inheritance
from hostlab.lab.paths import LabDirectory
from hostlab.lab.rootfs import DEVICES
from hostlab.lab.stage import HubConfig, supervise
from hostlab.lab.survey import survey
from hostlab.linux.clone import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
)
from hostlab.linux.libc import prctl, unshare
from hostlab.linux.mounts import bind, make_private, make_readonly
from hostlab.linux.scm_rights import receive

PR_SET_DUMPABLE: Final = 4
LIMITED_KINDS: Final = frozenset(
    [
        "ext2",
        "ext3",
        "ext4",
        "xfs",
        "btrfs",
        "f2fs",
        "zfs",
        "bcachefs",
        "overlay",
        "virtiofs",
        "9p",
        "nfs",
        "nfs4",
        "ceph",
        "fuse",
    ]
)
"""File systems below `/` that hold the machine's files, and that a node sees too."""
_HIDDEN: Final = ("/proc", "/sys", "/dev", "/run", "/tmp")
ANSWER_BYTES: Final = 4096
START_BYTES: Final = 1 << 16


class Start(msgspec.Struct, frozen=True):
    """What the caller tells the hub (`hub_start`).

    Three descriptors come with it: the listening control socket, the socket pair to the caller and
    the memfd that marks the lab's processes: this one's from now on.
    """

    name: str
    base: str
    unified: str | None
    v1: dict[str, str]
    maps_itself: bool
    """The hub writes its own user map: one id."""


def main() -> None:
    """The program (`hub_program`)."""
    with socket.fromfd(0, socket.AF_UNIX, socket.SOCK_SEQPACKET) as caller:
        said, descriptors = receive(caller, START_BYTES)
    if not said:
        return  # The caller needs no hub.
    start = typed.decode(said, Start)
    control, link, mark = descriptors
    if os.fork():
        os._exit(0)
    os.setsid()
    _become(start, socket.socket(fileno=control), socket.socket(fileno=link), mark)


def _become(start: Start, control: socket.socket, link: socket.socket, mark: int) -> None:
    try:
        config = _enter(start, link, mark)
    except OSError as error:
        link.send(
            msgspec.json.encode({"error": f"{error.strerror or error}", "errno": error.errno})
        )
        os._exit(1)
    link.send(msgspec.json.encode({"ready": True}))
    link.close()
    gc.collect()
    gc.freeze()
    _hold(config, control)


def _hold(config: HubConfig, control: socket.socket) -> None:
    def start(inheritance: Inheritance) -> None:
        supervise(config, inheritance)

    Holder(control, start, eager=True, dies_with_holder=True).hold()


def _enter(start: Start, link: socket.socket, mark: int) -> HubConfig:
    directory = LabDirectory(start.name, start.base)
    uid, gid = os.geteuid(), os.getegid()
    _log_to(f"{directory.path}/hub.log")
    lower, below = (None, ()) if uid else _bind_machine(f"{directory.path}/lower")
    _exchange(link, {"pid": os.getpid()})
    unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)
    if start.maps_itself:
        _map_self(uid, gid)
    _exchange(link, {"unshared": True})
    if not start.maps_itself:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    unshare(CLONE_NEWCGROUP)
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    make_private()
    return HubConfig(
        directory=directory,
        mark=mark,
        unified=start.unified,
        v1=start.v1,
        survey=survey(lower, below, base=f"{directory.path}/root"),
        single_id=start.maps_itself,
    )


def _exchange(link: socket.socket, message: dict[str, Any]) -> None:
    """Say where the hub stands and wait until the caller has done its part."""
    link.send(msgspec.json.encode(message))
    if not link.recv(ANSWER_BYTES):
        os._exit(1)


def _bind_machine(lower: str) -> tuple[str, tuple[str, ...]]:
    unshare(CLONE_NEWNS)
    make_private()
    with contextlib.suppress(FileExistsError):
        os.mkdir(lower, mode=0o700)
    bind(b"/", lower.encode())
    make_readonly(lower.encode())
    _lock_devices()
    below = []
    with open("/proc/self/mountinfo") as lines:
        for line in lines:
            left, _, right = line.partition(" - ")
            target, kind = left.split()[4], right.split()[0]
            hidden = any(target == top or target.startswith(f"{top}/") for top in _HIDDEN)
            if target not in ("/", lower) and kind in LIMITED_KINDS and not hidden:
                below.append(target)
    return lower, tuple(path for path in below if os.path.isdir(path))


def _lock_devices() -> None:
    """Device files are the machine's own inodes: a node's root could change their mode and owner.

    Read-only here, before the lab's user namespace, they are so for good in all that is bound
    from them there (mount_namespaces(7)). A plain user does not own them in the first place.
    """
    for name in DEVICES:
        path = f"/dev/{name}".encode()
        if os.path.exists(path):
            bind(path, path)
            make_readonly(path)


def _map_self(uid: int, gid: int) -> None:
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"0 {uid} 1"),
        ("gid_map", f"0 {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _log_to(path: str) -> None:
    """Standard input from nowhere, output to the hub's log: the caller's terminal is not ours."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    for fd, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(fd, target)
    with contextlib.suppress(OSError):
        os.chdir("/")
