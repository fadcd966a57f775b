"""System call filters: apply a compiled program, and have a profile compiled.

A program is an array of `struct sock_filter`, eight bytes each, that the kernel runs on every
system call (seccomp(2)). Applying runs between `clone3` and `execve`, so this module imports
next to nothing; what compiles (`seccomp_profile`, libseccomp) is loaded on demand.
"""

from __future__ import annotations

import ctypes
import os
import struct

from hostlab.errors import Unsupported
from hostlab.linux.libc import prctl, syscall

BPF_INSTRUCTION_BYTES = 8
BPF_MAXINSNS = 4096
"""Instructions of one program (linux/bpf_common.h)."""

_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_SET_MODE_FILTER = 1
_DATA_NUMBER, _DATA_ARCH = 0, 4
"""Where in `struct seccomp_data` (linux/seccomp.h)."""
_RET_ERRNO, _RET_ALLOW = 0x00050000, 0x7FFF0000
"""An error of 0 is success."""
_CAPSET = {"x86_64": (0xC000003E, 126), "aarch64": (0xC00000B7, 91)}
"""AUDIT_ARCH_… (linux/audit.h) and __NR_capset."""


class _SockFprog(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def compile_profile(profile: str, *, capabilities: tuple[str, ...] = ()) -> bytes:
    """The program for a node's `seccomp:`; empty for `unconfined`, which needs none.

    `profile` is `default`, `unconfined` or a Docker or OCI profile as JSON text; `capabilities`
    decides rules that Docker includes or excludes by capability. `SpecError` for a profile that
    cannot be meant, `Unsupported` when libseccomp is not here. Costs milliseconds: compile in
    the parent, once a profile.
    """
    if profile == "unconfined":
        return b""
    from hostlab.linux import seccomp_profile

    return seccomp_profile.compile_program(profile, tuple(sorted(capabilities)))


def remarks(profile: str) -> tuple[str, ...]:
    """What a profile asks for that is not carried out, in words for a person."""
    if profile in ("unconfined", "default"):
        return ()
    from hostlab.linux import seccomp_profile

    return seccomp_profile.remarks(profile)


def inert_capset() -> bytes:
    """A program by which capset(2) says that it succeeded, and changes nothing.

    It adds to what else filters: of several programs the strictest answer counts (seccomp(2)).
    `Unsupported` on a machine whose numbers are not known here.
    """
    machine = os.uname().machine
    if machine not in _CAPSET:
        message = f"the number of capset(2) on {machine} is not known here"
        raise Unsupported("seccomp", message)
    arch, number = _CAPSET[machine]
    load, jump_if_equal, answer = 0x20, 0x15, 0x06
    rows = (
        (load, 0, 0, _DATA_ARCH),
        (jump_if_equal, 0, 3, arch),
        (load, 0, 0, _DATA_NUMBER),
        (jump_if_equal, 0, 1, number),
        (answer, 0, 0, _RET_ERRNO),
        (answer, 0, 0, _RET_ALLOW),
    )
    return b"".join(struct.pack("=HBBI", *row) for row in rows)


def set_no_new_privs() -> None:
    """No set-uid bit or file capability counts from here on; PR_SET_NO_NEW_PRIVS, Linux 3.5."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def apply(program: bytes, *, no_new_privs: bool) -> None:
    """Filter the calling thread and all it starts, for good; seccomp(2), Linux 3.17.

    Without `no_new_privs` the caller needs CAP_SYS_ADMIN in its user namespace: apply before
    the capabilities go. OSError EACCES when it has neither, EINVAL for bytes that are no
    program. An empty program filters nothing, and `no_new_privs` still holds.
    """
    if no_new_privs:
        set_no_new_privs()
    if not program:
        return
    count, rest = divmod(len(program), BPF_INSTRUCTION_BYTES)
    assert not rest, "a program is whole instructions"
    assert count <= BPF_MAXINSNS, "the compiler checks the kernel's bound"
    buffer = ctypes.create_string_buffer(program, len(program))
    fprog = _SockFprog(count, ctypes.addressof(buffer))
    syscall("seccomp", _SECCOMP_SET_MODE_FILTER, 0, ctypes.byref(fprog), what="filter")
