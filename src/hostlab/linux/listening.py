"""Making a socket that is listened on, from what a description says of it.

The order is systemd's (src/core/socket.c): options, a file's mode by chmod(2) rather than by umask,
`listen` last. Descriptors are blocking, for who gets them calls accept(2) and waits there.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import socket
import stat
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from hostlab.errors import Failed
from hostlab.spec.sockets import ListeningSocket, Proto, SocketType

IP_FREEBIND: Final = 15
IP_TRANSPARENT: Final = 19
IPV6_TRANSPARENT: Final = 75
IPV6_FREEBIND: Final = 78
SO_PASSCRED: Final = 16
IP_PKTINFO: Final = 8
SOL_NETLINK: Final = 270
NETLINK_FAMILIES: Final = {
    "route": 0, "firewall": 3, "inet-diag": 4, "sock-diag": 4, "xfrm": 6, "selinux": 7,
    "iscsi": 8, "audit": 9, "fib-lookup": 10, "connector": 11, "netfilter": 12,
    "ip6-fw": 13, "dnrtmsg": 14, "kobject-uevent": 15, "scsitransport": 18, "rdma": 20,
}  # fmt: skip
"""Names of systemd.socket(5), `ListenNetlink=` (include/uapi/linux/netlink.h)."""
_TYPES: Final = {
    SocketType.STREAM: socket.SOCK_STREAM,
    SocketType.DGRAM: socket.SOCK_DGRAM,
    SocketType.SEQPACKET: socket.SOCK_SEQPACKET,
    SocketType.RAW: socket.SOCK_RAW,
}
_FAMILIES: Final = {
    Proto.INET: socket.AF_INET,
    Proto.INET6: socket.AF_INET6,
    Proto.UNIX: socket.AF_UNIX,
    Proto.VSOCK: socket.AF_VSOCK,
    Proto.PACKET: socket.AF_PACKET,
    Proto.NETLINK: socket.AF_NETLINK,
}


def open_listening(said: ListeningSocket) -> int:
    """A descriptor that listens, close-on-exec; the caller's. OSError when the kernel refuses."""
    with contextlib.ExitStack() as stack:
        if said.proto is Proto.FIFO:
            fd = _fifo(said)
            stack.callback(os.close, fd)
        elif said.proto is Proto.SPECIAL:
            flags = os.O_RDWR if said.writable else os.O_RDONLY
            fd = os.open(said.path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
            stack.callback(os.close, fd)
        else:
            said = _on_this_host(said)
            made = _socket(said)
            stack.callback(made.close)
            _options(made, said)
            _bind(made, said)
            apply_backlog(made, said)
            fd = made.fileno()
        _links(said)
        kept = os.dup(fd)
        os.set_blocking(kept, True)
        return kept


def apply_backlog(made: socket.socket, said: ListeningSocket) -> None:
    """Listen, or give a socket that listens another backlog."""
    if said.has_connections:
        made.listen(said.backlog)


def remove_files(said: ListeningSocket) -> None:
    """Take away the file and symlinks of a socket that nobody listens on any more."""
    paths = said.symlinks
    if said.path.startswith("/") and said.proto in (Proto.UNIX, Proto.FIFO):
        paths += (said.path,)
    for path in paths:
        with contextlib.suppress(OSError):
            os.unlink(path)


def _on_this_host(said: ListeningSocket) -> ListeningSocket:
    """Every address of both versions is every address of IPv4 on a host without IPv6."""
    if said.proto is Proto.INET6 and said.addr == "::" and not said.v6_only:
        try:
            socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()
        except OSError as error:
            if error.errno != errno.EAFNOSUPPORT:
                raise
            return replace(said, proto=Proto.INET, addr="0.0.0.0")
    return said


def _socket(said: ListeningSocket) -> socket.socket:
    family, kind = _FAMILIES[said.proto], _TYPES[said.type]
    protocol = 0
    if said.proto is Proto.PACKET:
        protocol = socket.htons(said.ethertype)
    elif said.proto is Proto.NETLINK:
        known = NETLINK_FAMILIES.get(said.family)
        if known is None and not said.family.isdecimal():
            raise Failed("socket", f"there is no netlink family {said.family}")
        protocol = int(said.family) if known is None else known
    elif said.type is SocketType.RAW:
        protocol = said.port
    return socket.socket(family, kind, protocol)


def _options(made: socket.socket, said: ListeningSocket) -> None:
    """What must be set before the socket is bound."""
    is_v6 = said.proto is Proto.INET6
    flags: list[tuple[bool, int, int]] = [
        (said.proto in (Proto.INET, Proto.INET6), socket.SOL_SOCKET, socket.SO_REUSEADDR),
        (said.reuse_port, socket.SOL_SOCKET, socket.SO_REUSEPORT),
        (said.broadcast, socket.SOL_SOCKET, socket.SO_BROADCAST),
        (said.keep_alive, socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        (said.pass_credentials, socket.SOL_SOCKET, SO_PASSCRED),
        (said.no_delay, socket.IPPROTO_TCP, socket.TCP_NODELAY),
        (said.free_bind, *(_v6(IPV6_FREEBIND) if is_v6 else _v4(IP_FREEBIND))),
        (said.transparent, *(_v6(IPV6_TRANSPARENT) if is_v6 else _v4(IP_TRANSPARENT))),
    ]
    if said.pass_packet_info:
        flags.append((True, *(_v6(socket.IPV6_RECVPKTINFO) if is_v6 else _v4(IP_PKTINFO))))
    for wanted, level, option in flags:
        if wanted:
            made.setsockopt(level, option, 1)
    if is_v6 and said.v6_only is not None:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, said.v6_only)
    if said.device and said.proto is not Proto.PACKET:
        name = said.device.encode() + b"\0"
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name)
    if said.defer_accept_s:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, int(said.defer_accept_s) or 1)
    for value, option in (
        (said.keep_alive_time_s, socket.TCP_KEEPIDLE),
        (said.keep_alive_interval_s, socket.TCP_KEEPINTVL),
        (said.keep_alive_probes, socket.TCP_KEEPCNT),
    ):
        if value:
            made.setsockopt(socket.IPPROTO_TCP, option, max(int(value), 1))
    if said.congestion:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, said.congestion.encode())
    for size_bytes, option in (
        (said.receive_buffer_bytes, socket.SO_RCVBUF),
        (said.send_buffer_bytes, socket.SO_SNDBUF),
    ):
        if size_bytes is not None:
            made.setsockopt(socket.SOL_SOCKET, option, size_bytes)


def _v4(option: int) -> tuple[int, int]:
    return socket.IPPROTO_IP, option


def _v6(option: int) -> tuple[int, int]:
    return socket.IPPROTO_IPV6, option


def _bind(made: socket.socket, said: ListeningSocket) -> None:
    match said.proto:
        case Proto.INET:
            made.bind((said.addr, said.port))
        case Proto.INET6:
            host, _, scope = said.addr.partition("%")
            index = 0
            if scope:
                index = int(scope) if scope.isdecimal() else socket.if_nametoindex(scope)
            made.bind((host, said.port, 0, index))
        case Proto.VSOCK:
            any_cid = socket.VMADDR_CID_ANY
            made.bind((any_cid if said.cid is None else said.cid, said.port))
        case Proto.NETLINK:
            made.bind((0, said.netlink_groups))
        case Proto.PACKET:
            if said.device:
                made.bind((said.device, said.ethertype))
        case Proto.UNIX if said.path.startswith("@"):
            made.bind(b"\0" + os.fsencode(said.path[1:]))
        case Proto.UNIX:
            _bind_path(made, said)
        case _:
            raise AssertionError(f"{said.proto} is no socket")


def _bind_path(made: socket.socket, said: ListeningSocket) -> None:
    """A file that an earlier one has left goes; one that somebody listens on does not."""
    make_parents(said)
    try:
        made.bind(said.path)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or not _is_left_over(said.path, made.type):
            raise
        os.unlink(said.path)
        made.bind(said.path)
    _own(said)


def _is_left_over(path: str, kind: int) -> bool:
    """Whether a path is a socket's that nobody listens on."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False
        with socket.socket(socket.AF_UNIX, kind) as probe:
            probe.setblocking(False)  # noqa: FBT003 - that is its signature
            probe.connect(path)
    except ConnectionRefusedError:
        return True
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _fifo(said: ListeningSocket) -> int:
    """Open for reading and writing: then its end is never reached, whoever else closes it."""
    make_parents(said)
    with contextlib.suppress(FileExistsError):
        os.mkfifo(said.path, said.mode)
    fd = os.open(said.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    if not stat.S_ISFIFO(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EEXIST, "it is no FIFO", said.path)
    _own(said)
    return fd


def make_parents(said: ListeningSocket) -> None:
    """The directories above its file, with the mode that is said for them."""
    missing = []
    directory = os.path.dirname(said.path)
    while directory not in ("", "/") and not os.path.isdir(directory):
        missing.append(directory)
        directory = os.path.dirname(directory)
    for each in reversed(missing):
        os.mkdir(each)
        os.chmod(each, said.directory_mode)


def _own(said: ListeningSocket) -> None:
    os.chmod(said.path, said.mode)
    if said.owner is None and said.group is None:
        return
    uid = gid = -1
    if said.owner is not None:
        uid = _number(said.owner, lambda name: pwd.getpwnam(name).pw_uid, "user")
        if not said.owner.isdecimal():
            gid = pwd.getpwnam(said.owner).pw_gid
    if said.group is not None:
        gid = _number(said.group, lambda name: grp.getgrnam(name).gr_gid, "group")
    os.chown(said.path, uid, gid)


def _number(name: str, look_up: Callable[[str], int], what: str) -> int:
    if name.isdecimal():
        return int(name)
    try:
        return look_up(name)
    except KeyError:
        raise Failed("socket", f"there is no {what} {name} to own the socket") from None


def _links(said: ListeningSocket) -> None:
    """One that leads elsewhere is set anew; a file that is no link is left, with an error."""
    for link in said.symlinks:
        with contextlib.suppress(FileNotFoundError):
            if os.path.islink(link):
                os.unlink(link)
        os.symlink(said.path, link)
