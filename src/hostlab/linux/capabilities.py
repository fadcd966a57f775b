"""Capabilities: names and bits, the five sets of a process, and those a file carries.

A process has five sets (capabilities(7)); at `execve` the kernel computes the new ones from
them and the file's. For root every file counts as having all of them, so

    permitted' = effective' = inheritable | bounding

and what is left out of the bounding set can never come back, not by a set-uid file either. For
any other user a plain program keeps the ambient set only.

The inheritable set stays empty unless the ambient set is asked for: with it filled, an
unprivileged program could gain what a file's inheritable bits name (CVE-2022-24769).

The setters run between `clone3` and `execve`, so this module imports next to nothing.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable
from typing import NamedTuple

from hostlab.linux.libc import HANDLE, oserror, prctl

NAMES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID",
    "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW",
    "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT",
    "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD",
    "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
    "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
)  # fmt: skip
"""The capabilities of Linux 6.x in the order of their bits (linux/capability.h)."""

BITS = {name: bit for bit, name in enumerate(NAMES)}
MAX_BITS = 64
"""A set is a 64-bit mask in capset(2) and in extended attributes."""

_LINUX_CAPABILITY_VERSION_3 = 0x20080522
_PR_SET_KEEPCAPS = 8
_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE, _PR_CAP_AMBIENT_CLEAR_ALL = 2, 4

_capget, _capset = HANDLE.capget, HANDLE.capset
_capget.argtypes = _capset.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
_capget.restype = _capset.restype = ctypes.c_int


class CapabilitySets(NamedTuple):
    """The five sets of a process, each a mask with bit n for capability n."""

    bounding: int = 0
    permitted: int = 0
    effective: int = 0
    inheritable: int = 0
    ambient: int = 0


def bit_of(name: str) -> int:
    """The bit of a capability named in any usual way: `NET_RAW`, `cap_net_raw`, `CAP_42`, `42`.

    Raises `UsageError` for a name that no kernel knows.
    """
    short = name.upper().removeprefix("CAP_")
    if short in BITS:
        return BITS[short]
    if short.isascii() and short.isdecimal() and int(short) < MAX_BITS:
        return int(short)
    from hostlab.errors import UsageError  # only when it fails: not before an execve

    raise UsageError("capability", f"no capability is called {name!r}", hint=_suggestion(short))


def _suggestion(short: str) -> str | None:
    from difflib import get_close_matches

    near = get_close_matches(short, NAMES, n=1)
    return f"did you mean {near[0]}?" if near else None


def name_of(bit: int) -> str:
    """The name of a bit, without `CAP_`; a bit that is newer than this table is `CAP_42`."""
    return NAMES[bit] if bit < len(NAMES) else f"CAP_{bit}"


def mask_of(names: Iterable[str]) -> int:
    """The mask of these names; `UsageError` for an unknown one."""
    mask = 0
    for name in names:
        mask |= 1 << bit_of(name)
    return mask


def names_of(mask: int) -> tuple[str, ...]:
    """The names in a mask, in the order of their bits."""
    return tuple(name_of(bit) for bit in _bits(mask))


def _bits(mask: int) -> list[int]:
    return [bit for bit in range(MAX_BITS) if mask >> bit & 1]


def capget(pid: int = 0) -> tuple[int, int, int]:
    """(effective, permitted, inheritable) of a process, 0 being the caller; capget(2).

    OSError ESRCH when there is no such process in this PID namespace.
    """
    header = struct.pack("=Ii", _LINUX_CAPABILITY_VERSION_3, pid)
    data = ctypes.create_string_buffer(24)
    if _capget(header, data) < 0:
        raise oserror("capget", f"process {pid}")
    low = struct.unpack("=6I", data.raw)
    return low[0] | low[3] << 32, low[1] | low[4] << 32, low[2] | low[5] << 32


def capset(*, effective: int, permitted: int, inheritable: int) -> None:
    """Set the calling thread's three sets; capset(2).

    OSError EPERM for a permitted bit that the caller lacks, or an inheritable one outside
    its permitted and bounding sets.
    """
    header = struct.pack("=Ii", _LINUX_CAPABILITY_VERSION_3, 0)
    half = 0xFFFFFFFF
    low = (effective & half, permitted & half, inheritable & half)
    high = (effective >> 32, permitted >> 32, inheritable >> 32)
    if _capset(header, struct.pack("=6I", *low, *high)) < 0:
        failed = oserror("capset", ",".join(names_of(permitted)))
        if lacking := names_of(permitted & ~capget()[1]):
            failed.add_note(f"the caller lacks {', '.join(lacking)}")
        raise failed


def bounding_set() -> int:
    """The caller's bounding set; PR_CAPBSET_READ, to the last bit this kernel has."""
    mask = 0
    for bit in range(MAX_BITS):
        try:
            mask |= prctl(_PR_CAPBSET_READ, bit, 0, 0, 0) << bit
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            break
    return mask


_known: dict[str, int] = {}
"""The bounding set, once it has been read; a child inherits both, the set and the knowledge."""


def remember_bounding_set(*, anew: bool = False) -> None:
    """Read the bounding set now, so that children of this process need not: it is 41 calls.

    `anew` after entering a user namespace, where the set is full again (user_namespaces(7)).
    """
    if anew or "bounding" not in _known:
        _known["bounding"] = bounding_set()


def keep_bounding_set(mask: int) -> None:
    """Drop all but `mask` from the bounding set; PR_CAPBSET_DROP, since Linux 2.6.25.

    OSError EPERM when something must go and the caller lacks CAP_SETPCAP.
    """
    remember_bounding_set()
    # The kernel asks for CAP_SETPCAP before it looks whether the bit is there at all.
    for bit in _bits(_known["bounding"] & ~mask):
        prctl(_PR_CAPBSET_DROP, bit, 0, 0, 0)
        _known["bounding"] &= ~(1 << bit)


def bits_to_drop(mask: int) -> list[int]:
    """What `keep_bounding_set` would have to drop."""
    remember_bounding_set()
    return _bits(_known["bounding"] & ~mask)


def set_ambient(mask: int) -> None:
    """Make this the ambient set; since Linux 4.3.

    OSError EPERM for a bit that is not both permitted and inheritable.
    """
    prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    for bit in _bits(mask):
        prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, bit, 0, 0)


def apply_sets(sets: CapabilitySets) -> None:
    """Make these the caller's five sets, as an OCI bundle lists them."""
    keep_bounding_set(sets.bounding)
    capset(effective=sets.effective, permitted=sets.permitted, inheritable=sets.inheritable)
    set_ambient(sets.ambient)


def exact_sets(mask: int, *, ambient: bool = False) -> CapabilitySets:
    """The sets with which `execve` leaves exactly `mask`.

    For root `ambient` is needless; for another user it is the only way for a plain program to
    keep anything.
    """
    kept = mask if ambient else 0
    return CapabilitySets(
        bounding=mask, permitted=mask, effective=mask, inheritable=kept, ambient=kept
    )


def held_until_execve(sets: CapabilitySets) -> CapabilitySets:
    """These sets for a process that is about to `execve`, which keeps its permitted set till then.

    `execve` gives root what is inheritable or in the bounding set, anybody else the ambient set
    (and what the file has), whatever was permitted before: so it leaves what `sets` would. Till
    then the effective set, by which the kernel judges what the process does, is the asked one; by
    the permitted set it judges who may look at the process (ptrace(2), PTRACE_MODE_READ), and that
    is who may look at its maker. What the caller lacks is asked for as it is, for `capset` to name.
    """
    own = capget()[1]
    return sets if sets.permitted & ~own else sets._replace(permitted=own)


def set_capabilities(names: tuple[str, ...], *, ambient: bool = False) -> None:
    """Leave the caller, and what it executes, exactly these; see `exact_sets`.

    Needs CAP_SETPCAP unless the bounding set is already small enough. OSError EPERM, naming
    them, when the caller lacks some: what is asked for is never silently less.
    """
    apply_sets(exact_sets(mask_of(names), ambient=ambient))


def become(
    uid: int, gid: int, groups: tuple[int, ...], sets: CapabilitySets, *, set_groups: bool = True
) -> None:
    """Change to this user with these sets, in the one order that works.

    The bounding set goes first, while CAP_SETPCAP is there; PR_SET_KEEPCAPS carries the
    permitted set over setuid(2), which would clear it and the effective and ambient sets; then
    capset and ambient. `set_groups=False` where the user namespace denies setgroups(2).
    """
    keep_bounding_set(sets.bounding)
    prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    if set_groups:
        os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    prctl(_PR_SET_KEEPCAPS, 0, 0, 0, 0)
    capset(effective=sets.effective, permitted=sets.permitted, inheritable=sets.inheritable)
    set_ambient(sets.ambient)


def decode_status(status: str) -> CapabilitySets:
    """The five sets in the text of /proc/PID/status (proc_pid_status(5)).

    `DecodeError` when a line is missing or is no hexadecimal number.
    """
    found = {}
    for line in status.splitlines():
        key, _, value = line.partition(":")
        if key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            found[key] = value.strip()
    try:
        return CapabilitySets(
            inheritable=int(found["CapInh"], 16),
            permitted=int(found["CapPrm"], 16),
            effective=int(found["CapEff"], 16),
            bounding=int(found["CapBnd"], 16),
            ambient=int(found["CapAmb"], 16),
        )
    except (KeyError, ValueError) as error:
        from hostlab.errors import DecodeError

        raise DecodeError("proc-status", f"no capability sets in this status: {error}") from None
