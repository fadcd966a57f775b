"""How soon a process runs that has become ready: sched_setattr(2).

Under EEVDF (Linux 6.6) a process that asks for a short slice (6.12) has an early deadline: it runs
sooner after it wakes, and no more than before in all. Nobody needs a capability to ask for that.
"""

from __future__ import annotations

import ctypes
import struct
from contextlib import suppress
from typing import Final

from hostlab.linux.libc import HANDLE, SYSCALL, oserror

_ATTR: Final = struct.Struct("=IIQiIQQQ")  # struct sched_attr, SCHED_ATTR_SIZE_VER0
SCHED_OTHER: Final = 0
SHORTEST_SLICE_NS: Final = 100_000
"""The kernel's own lower bound (kernel/sched/syscalls.c)."""


def set_slice(slice_ns: int, nice: int = 0) -> None:
    """Ask for a slice of this length for the calling thread; OSError as of sched_setattr(2).

    ENOSYS on an architecture whose number of this call is not known here.
    """
    number = SYSCALL.get("sched_setattr", -1)
    attributes = _ATTR.pack(_ATTR.size, SCHED_OTHER, 0, nice, 0, slice_ns, 0, 0)
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    if HANDLE.syscall(ctypes.c_long(number), 0, buffer, 0) < 0:
        raise oserror("sched_setattr")


def prefer_latency() -> None:
    """Run soon after waking, where the kernel can be asked for that."""
    with suppress(OSError):
        set_slice(SHORTEST_SLICE_NS)
