"""What a pidfd tells of its process: whether it has ended, and its cgroup (PIDFD_GET_INFO)."""

from __future__ import annotations

import fcntl
import os
import select
import struct
from typing import Final

SO_PASSPIDFD: Final = 76
"""Have SCM_PIDFD beside each datagram, unix(7); Linux 6.5, for reaped senders 6.16."""
SCM_PIDFD: Final = 4
PIDFD_INFO_CGROUPID: Final = 1 << 2
PIDFD_INFO_EXIT: Final = 1 << 3
"""Also of a process that has been reaped; Linux 6.15."""
_INFO: Final = struct.Struct("=QQ11Ii")
"""struct pidfd_info, version 0: mask, cgroup id, eleven ids, exit code."""
_PIDFD_GET_INFO: Final = (3 << 30) | (_INFO.size << 16) | (0xFF << 8) | 11


def has_ended(pidfd: int, *, within_s: float | None = 0.0) -> bool:
    """Whether all threads of the process have ended, waited for that long, or for ever (None).

    One that is not collected yet by its parent has ended, whatever /proc still lists of it.
    """
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(None if within_s is None else within_s * 1000))


def cgroup_id(pidfd: int) -> int | None:
    """The v2 cgroup that the process is in, or ended in: its directory's inode number.

    None where the kernel cannot tell; Linux 6.13.
    """
    for mask in (PIDFD_INFO_CGROUPID, PIDFD_INFO_CGROUPID | PIDFD_INFO_EXIT):
        info = bytearray(_INFO.pack(mask, *(0,) * 13))
        try:
            fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
        except OSError:
            continue
        said, group, *_ = _INFO.unpack(info)
        if said & PIDFD_INFO_CGROUPID or (said & PIDFD_INFO_EXIT and group):
            return int(group)
    return None


def cgroup_id_of(pid: int) -> int | None:
    """The same of a process by its number; None when it is gone."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    try:
        return cgroup_id(pidfd)
    finally:
        os.close(pidfd)
