"""Questions to a namespace through a descriptor of it: ioctl_ns(2)."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from typing import Final

NS_GET_USERNS: Final = 0xB701
NS_GET_PARENT: Final = 0xB702
NS_GET_OWNER_UID: Final = 0xB704

HIERARCHICAL: Final = ("pid", "user")
"""Only these kinds have a parent of their own kind."""


def get_userns(fd: int) -> int | None:
    """A close-on-exec descriptor of the owning user namespace; Linux 4.9.

    None when it is outside what the caller may see (EPERM): an ancestor of its own, or the
    initial one seen from itself.
    """
    return _related(fd, NS_GET_USERNS, "NS_GET_USERNS")


def get_parent(fd: int) -> int | None:
    """A close-on-exec descriptor of the parent of a PID or user namespace; Linux 4.9.

    None for the initial one, and for a parent outside what the caller may see (EPERM). OSError
    EINVAL for another kind.
    """
    return _related(fd, NS_GET_PARENT, "NS_GET_PARENT")


def _related(fd: int, request: int, name: str) -> int | None:
    try:
        # The kernel opens it close-on-exec (open_related_ns, fs/nsfs.c).
        return fcntl.ioctl(fd, request)
    except OSError as error:
        if error.errno == errno.EPERM:
            return None
        raise OSError(error.errno, f"ioctl {name}: {os.strerror(error.errno or 0)}") from None


def get_owner_uid(fd: int) -> int:
    """The user who made a user namespace, as the caller's namespace numbers users; Linux 4.11.

    OSError EINVAL for another kind.
    """
    answer = fcntl.ioctl(fd, NS_GET_OWNER_UID, struct.pack("=I", 0))
    (uid,) = struct.unpack("=I", answer)
    return int(uid)


def inode(fd: int) -> int:
    """The number by which /proc names the namespace."""
    return os.fstat(fd).st_ino
