"""Probes of what a node's root is made of: file systems mounted in a user namespace."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from hostlab.linux import clone, mounts
from hostlab.linux.libc import mount
from hostlab.observe.finding import Finding, State, tried

GROUP: Final = "files"


def _ok(name: str) -> Finding:
    return Finding(GROUP, name, State.OK, "mounted in a user namespace")


def _overlay(lower: str, options: str) -> None:
    """Mount an overlay on a tmpfs of our own and write a file through it."""
    mounts.make_private()
    mount(b"tmpfs", b"/tmp", b"tmpfs", 0, b"mode=755")
    for name in ("lower", "upper", "work", "merged"):
        os.mkdir(f"/tmp/{name}")
    data = f"lowerdir={lower or '/tmp/lower'},upperdir=/tmp/upper,workdir=/tmp/work{options}"
    mount(b"overlay", b"/tmp/merged", b"overlay", 0, data.encode())
    Path("/tmp/merged/hostlab-doctor").write_text("x")


def file_systems() -> Iterator[Finding]:
    """What a node's root is made of, each mounted in a user and a mount namespace."""
    new = clone.CLONE_NEWNS
    cases: tuple[tuple[str, Callable[[], object], int, str], ...] = (
        ("tmpfs", lambda: mount(b"tmpfs", b"/tmp", b"tmpfs", 0, None), new, "a kernel with it"),
        ("overlay", lambda: _overlay("", ",userxattr"), new, "Linux 5.11"),
        (
            "overlay of a top-level directory",
            lambda: _overlay("/usr", ",userxattr"),
            new,
            "Linux 5.11",
        ),
        (
            "sysfs",
            lambda: mount(b"sysfs", b"/sys", b"sysfs", 0, None),
            new | clone.CLONE_NEWNET,
            "show /sys whole to this container",
        ),
    )
    for name, work, flags, remedy in cases:
        outcome = tried(work, flags=flags, is_rooted=True)
        if outcome.is_ok:
            yield _ok(name)
        else:
            yield Finding(GROUP, name, State.MISSING, outcome.error or "", remedy)
    yield _overlay_of_root()
    yield _proc()


def _overlay_of_root() -> Finding:
    name = "overlay of /"
    outcome = tried(lambda: _overlay("/", ",userxattr"), flags=clone.CLONE_NEWNS, is_rooted=True)
    if outcome.is_ok:
        return _ok(name)
    detail = f"{outcome.error} (locked mounts below /); an overlay a top-level directory instead"
    return Finding(GROUP, name, State.LIMITED, detail)


def _proc() -> Finding:
    """A new /proc needs a new PID namespace, and one that is shown whole (mount_too_revealing)."""

    def mounted() -> None:
        pid = os.fork()
        if pid == 0:
            try:
                mounts.make_private()
                mount(b"proc", b"/proc", b"proc", 0, None)
            except OSError as error:
                os._exit(error.errno or 255)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if status:
            number = os.waitstatus_to_exitcode(status)
            raise OSError(number, os.strerror(number))

    outcome = tried(mounted, flags=clone.CLONE_NEWPID | clone.CLONE_NEWNS, is_rooted=True)
    if outcome.is_ok:
        return _ok("proc")
    remedy = "in a container: --security-opt systempaths=unconfined"
    return Finding(GROUP, "proc", State.MISSING, outcome.error or "", remedy)


PROBES: Final[tuple[Callable[[], Iterator[Finding]], ...]] = (file_systems,)
