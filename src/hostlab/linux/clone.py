"""New processes in new namespaces: clone3(2), and the way into existing ones: setns(2).

`clone3` forks the interpreter, so the child runs Python on copied pages, exactly like `os.fork`.
It is called through a handle that keeps the GIL, between the interpreter's own fork hooks
(`PyOS_BeforeFork`, `PyOS_AfterFork_Child`, `PyOS_AfterFork_Parent`), which is what `os.fork` does.
"""

from __future__ import annotations

import ctypes
import operator
import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Final

from hostlab.linux.libc import HELD_HANDLE, SYSCALL, oserror

CLONE_NEWTIME: Final = 0x00000080
CLONE_FS: Final = 0x00000200
CLONE_PIDFD: Final = 0x00001000
CLONE_PARENT: Final = 0x00008000
CLONE_PARENT_SETTID: Final = 0x00100000
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000
CLONE_INTO_CGROUP: Final = 0x200000000

NAMESPACE_FLAGS: Final = {
    "cgroup": CLONE_NEWCGROUP,
    "ipc": CLONE_NEWIPC,
    "mnt": CLONE_NEWNS,
    "net": CLONE_NEWNET,
    "pid": CLONE_NEWPID,
    "time": CLONE_NEWTIME,
    "user": CLONE_NEWUSER,
    "uts": CLONE_NEWUTS,
}
"""The kernel's names in /proc/PID/ns, and the flag of each."""


_ALONE: Final = 3
"""Links of /proc/self/task: its own, its parent's, and one for each thread."""


class CloneArgs(ctypes.Structure):
    """struct clone_args, include/uapi/linux/sched.h, version 2."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in [
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
            "cgroup",
        ]
    ]


_syscall = HELD_HANDLE.syscall
_syscall.restype = ctypes.c_long
_before_fork = ctypes.pythonapi.PyOS_BeforeFork
_after_fork_child = ctypes.pythonapi.PyOS_AfterFork_Child
_after_fork_parent = ctypes.pythonapi.PyOS_AfterFork_Parent
for _hook in (_before_fork, _after_fork_child, _after_fork_parent):
    _hook.restype = None
_call: Callable[[Callable[[], object]], object] = operator.call


def clone3(flags: int, *, cgroup: int | None = None, hooks: bool = True) -> tuple[int, int]:
    """Fork with `flags`; returns (pid, pidfd), or (0, -1) in the child.

    `cgroup` is a descriptor of a cgroup v2 directory in which the child starts (Linux 5.7).
    With CLONE_PARENT the child is its caller's sibling, and its exit signal is the caller's own;
    the kernel then wants none here. The pidfd is close-on-exec.

    Without `hooks` a child does without the interpreter's fork hooks, which touch, and so copy, up
    to two hundred pages: they renew locks that other threads may have held, forget those threads
    and pending signals, seed `random`. That is for one that soon executes a program, and for a
    holder, which has no use for any of it and forks its supervisors with the hooks. Threads other
    than the caller's would be waited for in vain, so with any of them the hooks run.
    """
    hooks = hooks or _has_other_threads()
    pid, pidfd = ctypes.c_int(-1), ctypes.c_int(-1)
    arguments = CloneArgs(
        flags=flags
        | CLONE_PIDFD
        | CLONE_PARENT_SETTID
        | (0 if cgroup is None else CLONE_INTO_CGROUP),
        pidfd=ctypes.addressof(pidfd),
        parent_tid=ctypes.addressof(pid),
        exit_signal=0 if flags & CLONE_PARENT else signal.SIGCHLD,
        cgroup=cgroup or 0,
    )
    size = ctypes.c_size_t(ctypes.sizeof(arguments))
    call = partial(_syscall, ctypes.c_long(SYSCALL["clone3"]), ctypes.byref(arguments), size)
    steps: tuple[Callable[[], object], ...] = (call, _after_fork_child) if hooks else (call,)
    if hooks:
        _before_fork()
    # In one call of the interpreter: after each it looks whether another thread wants its lock, and
    # a child would give it, and wait for that thread. `any` goes on after a 0, the child's result.
    if not any(map(_call, steps)):
        return 0, -1
    error = oserror("clone3", f"flags {flags:#x}") if pid.value < 0 else None
    if hooks:
        _after_fork_parent()
    if error is not None:
        raise error
    return pid.value, pidfd.value


def _has_other_threads() -> bool:
    """Whether it has, by the kernel: Python counts those that have begun to run its code."""
    try:
        return os.stat("/proc/self/task").st_nlink != _ALONE
    except OSError:
        return True


def namespace_fd(pid: int, kind: str) -> int:
    """A descriptor of one of a process' namespaces; needs ptrace access to it."""
    return os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
