"""The system calls that the floors need and Python 3.11 lacks, by the kernel's names.

`bench` has bindings of its own on purpose: a floor must not get faster or slower with hostlab's.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
from collections.abc import Callable
from typing import Any

CLONE_NEWTIME = 0x00000080
CLONE_PIDFD = 0x00001000
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

NODE_NAMESPACES = (
    CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET
)
"""What a node has of its own; the user namespace is the lab's."""

MS_REC = 0x4000
MS_PRIVATE = 0x40000
PR_SET_PDEATHSIG = 1
SYS_CLONE3 = 435
"""The same number on every architecture (include/uapi/asm-generic/unistd.h)."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _CloneArgs(ctypes.Structure):
    """struct clone_args, version 0 (include/uapi/linux/sched.h): the first 64 bytes."""

    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("pidfd", ctypes.c_uint64),
        ("child_tid", ctypes.c_uint64),
        ("parent_tid", ctypes.c_uint64),
        ("exit_signal", ctypes.c_uint64),
        ("stack", ctypes.c_uint64),
        ("stack_size", ctypes.c_uint64),
        ("tls", ctypes.c_uint64),
    )


def _check(result: int, call: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
    return result


def clone3(flags: int) -> int:
    """Clone this process as fork does, with `flags`; 0 in the child, its pid in the parent.

    The C library does not know of the child, so the child may only make system calls. Linux 5.3.
    """
    arguments = _CloneArgs(flags=flags, exit_signal=signal.SIGCHLD)
    size = ctypes.c_size_t(ctypes.sizeof(arguments))
    number = ctypes.c_long(SYS_CLONE3)
    return _check(_libc.syscall(number, ctypes.byref(arguments), size), "clone3")


def pause_for_ever() -> None:
    """Sleep until a signal ends the process; does not return."""
    while True:
        _libc.pause()


def die_with_parent() -> None:
    """Have the kernel send this process SIGKILL when the thread that made it ends."""
    _check(_libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")


def unshare(flags: int) -> None:
    """Leave the namespaces in `flags` for new ones (unshare(2))."""
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, flags: int) -> None:
    """Enter the namespaces in `flags` of a namespace's or a pidfd's descriptor (setns(2))."""
    _check(_libc.setns(fd, flags), "setns")


def make_mounts_private() -> None:
    """Cut this mount namespace off from the one it was copied from."""
    _check(_libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "mount / private")


def map_everyone(pid: int) -> None:
    """Map the user namespace of `pid` one to one; only the caller itself when unprivileged."""
    if os.geteuid() == 0:
        uid_map = gid_map = "0 0 4294967295"
    else:
        uid_map, gid_map = f"0 {os.geteuid()} 1", f"0 {os.getegid()} 1"
        _write(f"/proc/{pid}/setgroups", "deny")
    _write(f"/proc/{pid}/uid_map", uid_map)
    _write(f"/proc/{pid}/gid_map", gid_map)


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def forked(function: Callable[[], Any]) -> Any:
    """Run `function` in a forked child and return its result, which must survive JSON.

    For what would change this process: entering namespaces. RuntimeError with the child's own
    message when it failed.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _run_and_exit(function, writer)
    os.close(writer)
    with open(reader, "rb") as file:
        answer = file.read()
    os.waitpid(pid, 0)
    if not answer:
        raise RuntimeError("the forked child ended without an answer")
    outcome = json.loads(answer)
    if "error" in outcome:
        raise RuntimeError(outcome["error"])
    return outcome["result"]


def _run_and_exit(function: Callable[[], Any], writer: int) -> None:
    try:
        die_with_parent()
        answer = {"result": function()}
    except Exception as error:
        # The parent raises it again; a fork must never return into the parent's stack.
        answer = {"error": f"{type(error).__name__}: {error}"}
    with open(writer, "wb") as file:
        file.write(json.dumps(answer).encode())
    os._exit(0)


def pidfd_gone(error: OSError) -> bool:
    """Whether a call failed only because the process has ended already."""
    return error.errno == errno.ESRCH
