"""The one libc handle, and the system calls that Python's `os` does not wrap.

Every function here keeps the kernel's name and argument order, releases the GIL only where a call
can block, and raises `OSError` with the call and its object named. Numbers of system calls are
those of the machine's own architecture; from 424 on they are the same on all of them.
"""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False
"""As `typing` has it, which is not loaded here (`init.standalone.program`)."""
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Final

_SYSCALLS: Final = {
    "x86_64": {"bpf": 321, "pivot_root": 155, "sched_setattr": 314, "seccomp": 317, "setns": 308},
    "aarch64": {"bpf": 280, "pivot_root": 41, "sched_setattr": 274, "seccomp": 277, "setns": 268},
}
_GENERIC_SYSCALLS: Final = {
    "open_tree": 428,
    "move_mount": 429,
    "clone3": 435,
    "close_range": 436,
    "mount_setattr": 442,
}
SYSCALL: Final = _GENERIC_SYSCALLS | _SYSCALLS.get(os.uname().machine, {})

_FD_END: Final = 0x7FFFFFFF

_int, _str, _ulong, _ptr = ctypes.c_int, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_void_p

_SIGNATURES: Final[dict[str, tuple[Any, ...]]] = {
    "mount": (_str, _str, _str, _ulong, _str),
    "umount2": (_str, _int),
    "unshare": (_int,),
    "setns": (_int, _int),
    "sethostname": (_str, ctypes.c_size_t),
    "setfsuid": (_int,),
    "sched_getcpu": (),
    "prctl": (_int, _ulong, _ulong, _ulong, _ulong),
    "signalfd": (_int, _ptr, _int),
    "sigemptyset": (_ptr,),
    "sigprocmask": (_int, _ptr, _ptr),
    "sigaddset": (_ptr, _int),
}

HANDLE: Final = ctypes.CDLL(None, use_errno=True)
"""Releases the GIL around each call."""
HELD_HANDLE: Final = ctypes.PyDLL(None, use_errno=True)
"""Keeps the GIL: for `clone3`, whose child must own it when it returns."""


def oserror(call: str, what: str | bytes = "") -> OSError:
    """The OSError of the call that has just failed, with its object in the message."""
    number = ctypes.get_errno()
    name = what.decode(errors="replace") if isinstance(what, bytes) else what
    return OSError(number, f"{call}: {os.strerror(number)}", name or None)


def _bind(name: str) -> Callable[..., int]:
    function = HANDLE[name]
    function.argtypes = _SIGNATURES[name]
    function.restype = _int

    def call(*arguments: Any) -> int:
        result: int = function(*arguments)
        if result < 0:
            objects = [a for a in arguments if isinstance(a, bytes)]
            raise oserror(name, b" ".join(objects))
        return result

    return call


mount = _bind("mount")
"""mount(source, target, fstype, flags, data): mount(2); CAP_SYS_ADMIN over the mount namespace."""
umount2 = _bind("umount2")
sched_getcpu = _bind("sched_getcpu")
setfsuid = _bind("setfsuid")
"""setfsuid(uid): the one before; says nothing of its failure, which -1 afterwards tells."""
unshare = _bind("unshare")
setns = _bind("setns")
"""setns(fd, nstype): setns(2); a pidfd joins several kinds at once since Linux 5.8."""
sethostname = _bind("sethostname")
prctl = _bind("prctl")
signalfd = _bind("signalfd")
sigemptyset = _bind("sigemptyset")
sigaddset = _bind("sigaddset")
sigprocmask = _bind("sigprocmask")
"""sigprocmask(how, set, oldset): sigprocmask(2); Python's own makes sets of enumerations."""

_PR_SET_NAME: Final = 15

_syscall = HANDLE.syscall
_syscall.restype = ctypes.c_long


def syscall(name: str, *arguments: Any, what: str | bytes = "") -> int:
    """syscall(2) by name; the caller passes ctypes values or ints that fit a register."""
    converted = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result: int = _syscall(ctypes.c_long(SYSCALL[name]), *converted)
    if result < 0:
        raise oserror(name, what)
    return result


def pivot_root(new_root: bytes, put_old: bytes) -> None:
    """pivot_root(2): makes `new_root` the root mount and hangs the old one at `put_old`."""
    syscall("pivot_root", new_root, put_old, what=new_root)


def close_all_but(kept: Iterable[int], *, first: int = 3) -> None:
    """Close every descriptor from `first` on except these; by close_range(2) from Linux 5.9 on."""
    for fd in sorted(kept):
        if fd >= first:
            os.closerange(first, fd)
            first = fd + 1
    os.closerange(first, _FD_END)


# Made once: ctypes makes a class for each length of a buffer, in every node anew, 200 kB of it.
_name_buffer = ctypes.create_string_buffer(16)
_name_address = ctypes.addressof(_name_buffer)


def set_process_name(name: str) -> None:
    """What `ps -o comm` shows: the first 15 bytes (prctl(2), PR_SET_NAME)."""
    _name_buffer.value = name.encode()[:15]
    prctl(_PR_SET_NAME, _name_address, 0, 0, 0)
