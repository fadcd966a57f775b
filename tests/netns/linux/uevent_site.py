"""A place where device events can be sent without the machine's hearing of it."""

from __future__ import annotations

import os
import select
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from hostlab.linux.clone import CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWUSER, clone3
from hostlab.linux.libc import mount
from hostlab.linux.mounts import make_private
from hostlab.linux.uevents import Uevent, of_device

DEADLINE_S = 60.0
STICK = "/devices/pci0000:00/0000:00:14.0/usb2/2-3/2-3:1.0/host7/target7:0:0/7:0:0:0/block/sdb"


def alone(work: Callable[[], None], *, uids: int = 1) -> None:
    """Run in user, network and mount namespaces of one's own, with an empty /run and /media.

    A failure is this test's. `uids` above 1 needs root.
    """
    if uids > 1 and os.geteuid():
        pytest.skip("here: only root can give a namespace several users")
    reader, writer = os.pipe()
    go_read, go_write = os.pipe()
    try:
        pid, pidfd = clone3(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS)
    except OSError as error:
        for fd in (reader, writer, go_read, go_write):
            os.close(fd)
        pytest.skip(f"no user namespace can be made: {error}")
    if pid == 0:
        try:
            os.read(go_read, 1)
            os.setgid(0)
            os.setuid(0)
            make_private()
            for place in (b"/run", b"/media"):
                if os.path.isdir(place):
                    mount(b"tmpfs", place, b"tmpfs", 0, b"mode=0755")
            work()
        except BaseException:
            os.write(writer, traceback.format_exc().encode()[-60000:])
        finally:
            os._exit(0)
    os.close(writer)
    os.close(go_read)
    Path(f"/proc/{pid}/setgroups").write_text("deny")
    Path(f"/proc/{pid}/uid_map").write_text(f"0 {os.geteuid()} {uids}")
    Path(f"/proc/{pid}/gid_map").write_text(f"0 {os.getegid()} 1")
    os.write(go_write, b"g")
    os.close(go_write)
    try:
        with os.fdopen(reader, "rb") as told:
            parts = []
            while select.select([told], [], [], DEADLINE_S * 2)[0]:
                data = os.read(told.fileno(), 65536)
                if not data:
                    break
                parts.append(data)
            else:
                os.kill(pid, 9)
                pytest.fail("the work in the namespaces has not ended")
    finally:
        os.close(pidfd)
        os.waitpid(pid, 0)
    text = b"".join(parts).decode()
    if text:
        pytest.fail(text, pytrace=False)


def disk(action: str = "add", number: int = 0, **more: str) -> Uevent:
    """An event of a disk as the kernel sends it."""
    name = "sdb" if not number else f"sdb{number}"
    path = STICK if not number else f"{STICK}/{name}"
    said = {"DEVPATH": path, "SUBSYSTEM": "block", "MAJOR": "8", "MINOR": str(16 + number)}
    said |= {"DEVNAME": name, "DEVTYPE": "partition" if number else "disk"}
    return of_device(action, said | more)
