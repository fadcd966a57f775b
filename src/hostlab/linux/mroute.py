"""Multicast routing of IPv4 (linux/mroute.h): whether the kernel has it.

A daemon that routes multicast is the only one in its network namespace. Of each interface that it
gives to the kernel, rtnetlink(7) tells by `mc_forwarding` (`rtmonitor.ForwardingTold`).
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Final

from hostlab.linux.clone import CLONE_NEWNET, CLONE_NEWUSER
from hostlab.linux.libc import unshare

MRT_INIT: Final = 200
MRT_PIM: Final = 208


def missing() -> int:
    """0, or the errno by which this kernel refuses to route multicast by PIM (Linux 2.2).

    Tried in namespaces of its own, which go away with its process.
    """
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    status = errno.EIO
    try:
        unshare(CLONE_NEWUSER | CLONE_NEWNET)
        use()
        status = 0
    except OSError as error:
        status = error.errno or errno.EIO
    finally:
        os._exit(status)


def use() -> None:
    """Be the multicast router of this network namespace for a moment; needs CAP_NET_ADMIN."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP) as router:
        router.setsockopt(socket.IPPROTO_IP, MRT_INIT, 1)
        router.setsockopt(socket.IPPROTO_IP, MRT_PIM, 1)
