"""The socket on which device events come, and the two ways to send one.

A network namespace hears the events of the machine's devices only if it belongs to the first user
namespace; one of a lab hears what is sent inside it, and its own interfaces (Linux 4.18).

Whom to believe: the kernel's events have port 0, which no process can have, and udev's have not;
either way the sender must be user 0 as this namespace numbers users. Whoever could send with
user 0 and CAP_NET_ADMIN could do anything to this network namespace. All else is counted.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from hostlab.errors import DecodeError
from hostlab.linux import nsfs
from hostlab.linux.netlink import NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR, messages
from hostlab.linux.uevents import (
    KERNEL,
    MAX_BYTES,
    SEQNUM_BYTES,
    UDEV,
    UEVENT_BUFFER_BYTES,
    Uevent,
    decode,
    encode_kernel,
    encode_udev,
    of_device,
)

NETLINK_KOBJECT_UEVENT: Final = 15
RECEIVE_BUFFER_BYTES: Final = 128 << 20
"""What udevd and Upstart's bridge ask for; a message counts with some 800 bytes of the kernel's."""
UEVENT_SEND: Final = 16
"""The type of a message that asks for an event (uevent_net_rcv_skb)."""
INITIAL_USERNS_INODE: Final = 0xEFFFFFFD
"""PROC_USER_INIT_INO: the first user namespace, on every kernel."""
SIOCGSKNS: Final = 0x894C
"""The network namespace of a socket (Linux 4.9); needs CAP_NET_ADMIN in it."""
_SO_RCVBUFFORCE: Final = 33
_SO_MEMINFO: Final = 55
_MEMINFO: Final = struct.Struct("=9I")
_DROPS: Final = 8
_HEADER: Final = struct.Struct("=IHHII")


class Ignored(StrEnum):
    """Why a datagram was not taken."""

    SENDER = "not from root"
    FORGED = "not from the kernel"
    MALFORMED = "malformed"


class UeventSocket:
    """Hears device events in the network namespace where it is made; never blocks."""

    def __init__(
        self, groups: int = KERNEL | UDEV, *, fd: int | None = None, lost: int | None = None
    ) -> None:
        """`fd`: the descriptor of one that was made before, which becomes this one's.

        `lost`: what its `dropped` was when `take_lost` was last asked.
        """
        if fd is not None:
            self.socket = socket.socket(fileno=fd)
        else:
            kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            self.socket = socket.socket(socket.AF_NETLINK, kind, NETLINK_KOBJECT_UEVENT)
            try:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
                enlarge(self.socket)
                self.socket.bind((0, groups))
            except OSError:
                self.socket.close()
                raise
        self.socket.settimeout(0)
        self.ignored: Counter[Ignored] = Counter()
        self.last_problem = ""
        """What was wrong with the last one that was not taken."""
        self._dropped = self.dropped if lost is None else lost

    def fileno(self) -> int:
        """For whoever waits for it with others."""
        return self.socket.fileno()

    def close(self) -> None:
        """Close it; what has not been read is lost."""
        self.socket.close()

    @property
    def dropped(self) -> int:
        """Datagrams that the kernel had no room for, since the socket was made (SO_MEMINFO)."""
        data = self.socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        return int(_MEMINFO.unpack(data)[_DROPS])

    @property
    def has_lost(self) -> bool:
        """Whether `take_lost` has something to tell."""
        return self.dropped != self._dropped

    def take_lost(self) -> int:
        """How many were lost since this was last asked."""
        now = self.dropped
        # The kernel counts in 32 bits.
        lost, self._dropped = (now - self._dropped) & 0xFFFFFFFF, now
        return lost

    def receive(self, *, peek: bool = False) -> tuple[bytes, Uevent | None] | None:
        """The next datagram and its event, if it is to be believed; None when there is none now.

        With `peek` it stays until `drop`. That some were lost (ENOBUFS) is no error here:
        `take_lost` tells how many.
        """
        flags = socket.MSG_PEEK if peek else 0
        while True:
            try:
                data, ancillary, _, address = self.socket.recvmsg(MAX_BYTES + 1, 256, flags)
            except BlockingIOError:
                return None
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    continue
                raise
            port, group = address[:2]
            reason = _distrust(port, group, _uid(ancillary))
            event = None
            if reason is None:
                try:
                    event = decode(data, UDEV if group == UDEV else KERNEL)
                except DecodeError as error:
                    reason, text = Ignored.MALFORMED, error.message
            else:
                text = f"port {port}, group {group}, user {_uid(ancillary)}"
            if reason is not None:
                self.ignored[reason] += 1
                self.last_problem = f"{reason}: {text}"
            return data, event

    def drop(self) -> None:
        """Take away what was peeked at."""
        while True:
            try:
                self.socket.recv(1)
            except BlockingIOError:
                return
            except OSError as error:
                # That some were lost is told first, and takes nothing away.
                if error.errno != errno.ENOBUFS:
                    raise
            else:
                return


def _distrust(port: int, group: int, uid: int | None) -> Ignored | None:
    if uid != 0:
        return Ignored.SENDER
    # Group 0 is a message to this socket alone, which neither the kernel nor udevd sends.
    if group == KERNEL and port == 0:
        return None
    if group == UDEV and port != 0:
        return None
    return Ignored.FORGED


def _uid(ancillary: Sequence[tuple[int, int, bytes]]) -> int | None:
    for level, kind, value in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS) and len(value) >= 12:
            return int(struct.unpack("=iII", value[:12])[1])
    return None


def enlarge(sock: socket.socket, size: int = RECEIVE_BUFFER_BYTES) -> None:
    """The largest receive buffer that may be had: beyond net.core.rmem_max for root only."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


class UeventSender:
    """Sends device events into the network namespace where it is made."""

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self.socket = socket.socket(socket.AF_NETLINK, kind, NETLINK_KOBJECT_UEVENT)
        try:
            self.socket.bind((0, 0))
        except OSError:
            self.socket.close()
            raise

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    def send_kernel(self, event: Uevent) -> None:
        """Have the kernel send an event, with a SEQNUM of its own, to group 1; Linux 4.18.

        OSError EPERM without CAP_SYS_ADMIN in the user namespace that owns this network
        namespace; EMSGSIZE when it is longer than an event of the kernel's can be.
        """
        body = encode_kernel(event)
        if len(body) + SEQNUM_BYTES > UEVENT_BUFFER_BYTES:
            text = f"a uevent has at most {UEVENT_BUFFER_BYTES} bytes, this one {len(body)}"
            raise OSError(errno.EMSGSIZE, text, event.devpath)
        flags = NLM_F_REQUEST | NLM_F_ACK
        self.socket.sendto(
            _HEADER.pack(_HEADER.size + len(body), UEVENT_SEND, flags, 1, 0) + body, (0, 0)
        )
        for kind, _, _, answer in messages(self.socket.recv(MAX_BYTES)):
            if kind == NLMSG_ERROR and len(answer) >= 4:
                (number,) = struct.unpack_from("=i", answer)
                if number:
                    raise OSError(-number, f"uevent: {os.strerror(-number)}", event.devpath)

    def send_both(self, kernel: Uevent, udev: Uevent) -> None:
        """`send_kernel`, and then as udevd would `send_udev` with the number that it was given."""
        with contextlib.closing(UeventSocket(KERNEL)) as own:
            self.send_kernel(kernel)
            # It is there: the kernel acknowledges after it has sent.
            while (heard := own.receive()) is not None:
                event = heard[1]
                if event is not None and event.devpath == kernel.devpath:
                    said = dict(udev.properties) | {"SEQNUM": event.get("SEQNUM")}
                    self.send_udev(of_device(udev.action, said, UDEV))
                    return
        raise OSError(errno.ENOMSG, "the kernel has not sent the event", kernel.devpath)

    def send_udev(self, event: Uevent) -> None:
        """Send an event to group 2 as udevd does; OSError EPERM without CAP_NET_ADMIN.

        libudev takes none without a SEQNUM. ECONNREFUSED, that nobody listens, is no error.
        """
        try:
            self.socket.sendto(encode_udev(event), (0, UDEV))
        except ConnectionRefusedError:
            return


def hears_machine() -> bool:
    """Whether events of the machine's devices come into the caller's network namespace.

    They go to every one that belongs to the first user namespace; where that cannot be seen, it is
    an ancestor's, so not one that was made for a lab.
    """
    fd = _network_namespace()
    try:
        owner = nsfs.get_userns(fd)
    finally:
        os.close(fd)
    if owner is None:
        return True
    try:
        return nsfs.inode(owner) == INITIAL_USERNS_INODE
    finally:
        os.close(owner)


def _network_namespace() -> int:
    """A descriptor of the caller's; without /proc, of another PID namespace's too, by a socket."""
    try:
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            return fcntl.ioctl(sock, SIOCGSKNS)
