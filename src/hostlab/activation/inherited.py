"""What an init passes to a service, by two protocols.

- systemd's (sd_listen_fds(3)), which hostlab speaks too: `LISTEN_FDS` is a *number of* descriptors,
  which begin at 3; `LISTEN_FDNAMES` names them; they are for the process `LISTEN_PID` only.
- Upstart's (socket-event(7)), which hostlab speaks too: `UPSTART_FDS` *is* the descriptor.

Where both are set they tell of the same sockets, and the first tells more.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
from collections.abc import MutableMapping
from typing import Final, NamedTuple

FIRST: Final = 3
"""SD_LISTEN_FDS_START."""
MAX_DESCRIPTORS: Final = 4096
UNNAMED: Final = "unknown"
"""What sd_listen_fds_with_names(3) calls one without a name."""
Address = tuple[str, int] | str
"""Host and port, or the path of a Unix socket."""


class ActivationError(RuntimeError):
    """The environment says something that is not so, or that cannot be meant."""


class Given(NamedTuple):
    """A socket that this process was started with."""

    socket: socket.socket
    name: str
    """As in `LISTEN_FDNAMES`; `unknown` where nobody named it."""

    @property
    def is_connection(self) -> bool:
        """A connection that was accepted already (`Accept=yes`, inetd), not a listener."""
        is_stream = self.socket.type in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)
        return is_stream and not self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)


_taken: list[Given] = []
_asked: Final[list[int]] = []


def is_activated() -> bool:
    """Whether an init passed sockets to this process."""
    return bool(given())


def given() -> tuple[Given, ...]:
    """All sockets that were passed, in their order; the same ones at each call.

    At the first call they become close-on-exec, and the variables are taken out of the
    environment, so that the service's own children do not mistake them for theirs.
    ActivationError when a descriptor that is named is no socket.
    """
    if _asked != [os.getpid()]:
        _asked[:] = [os.getpid()]
        _taken[:] = [Given(_socket(fd), name) for fd, name in passed(os.environ, os.getpid())]
    return tuple(_taken)


def passed(environment: MutableMapping[str, str], pid: int) -> tuple[tuple[int, str], ...]:
    """Descriptors and names that an environment tells this process of, taken out of it."""
    count = environment.pop("LISTEN_FDS", "")
    listen_pid = environment.pop("LISTEN_PID", "")
    names = environment.pop("LISTEN_FDNAMES", "")
    upstart = environment.pop("UPSTART_FDS", "")
    if count and listen_pid == str(pid):
        if not count.isdecimal() or int(count) > MAX_DESCRIPTORS:
            raise ActivationError(f"LISTEN_FDS={count}: this is no number of descriptors")
        listed = names.split(":") if names else []
        listed += [UNNAMED] * (int(count) - len(listed))
        return tuple((FIRST + index, listed[index] or UNNAMED) for index in range(int(count)))
    numbers = re.split(r"[\s:,]+", upstart.strip()) if upstart.strip() else []
    if not all(number.isdecimal() for number in numbers):
        raise ActivationError(f"UPSTART_FDS={upstart}: this is no descriptor")
    return tuple((int(number), UNNAMED) for number in numbers)


def _socket(fd: int) -> socket.socket:
    try:
        is_socket = stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        raise ActivationError(f"descriptor {fd} is not open, though it was announced") from None
    if not is_socket:
        raise ActivationError(f"descriptor {fd} is no socket, though it was announced as one")
    os.set_inheritable(fd, False)  # noqa: FBT003 - that is its signature
    # Its family, type and protocol are asked from the kernel.
    return socket.socket(fileno=fd)


def take(
    name: str | None = None, kind: socket.SocketKind = socket.SOCK_STREAM
) -> socket.socket | None:
    """The one socket that was passed under this name, or the only one; None by hand.

    ActivationError when sockets were passed and none of them, or several, could be meant.
    """
    sockets = given()
    if not sockets:
        return None
    found = [each for each in sockets if name is None or each.name == name]
    if not found and all(each.name == UNNAMED for each in sockets):
        # Upstart has no names, and systemd-socket-activate gives none by itself.
        found = list(sockets)
    found = [each for each in found if each.socket.type == kind]
    if len(found) != 1:
        names = ", ".join(f"{each.name} ({each.socket.type.name})" for each in sockets)
        wanted = f"one of type {kind.name}" + (f" called {name}" if name else "")
        raise ActivationError(f"{len(found)} sockets could be meant by {wanted}; passed: {names}")
    return found[0].socket


def listener(
    address: Address,
    *,
    name: str | None = None,
    kind: socket.SocketKind = socket.SOCK_STREAM,
    backlog: int = 128,
) -> socket.socket:
    """The socket to serve: the one that was passed, or one bound here.

    `address` counts by hand only: host and port (an IPv6 host makes an IPv6 socket, the empty host
    both where the machine has both), or the path of a Unix socket, which is replaced. A datagram
    socket is bound and does not listen. OSError when it cannot be bound.
    """
    taken = take(name, kind)
    if taken is not None:
        return taken
    bound = _bind(address, kind)
    if kind is not socket.SOCK_DGRAM:
        bound.listen(backlog)
    return bound


def _bind(address: Address, kind: socket.SocketKind) -> socket.socket:
    if isinstance(address, str):
        bound = socket.socket(socket.AF_UNIX, kind)
        try:
            if stat.S_ISSOCK(os.stat(address).st_mode):
                os.unlink(address)
        except FileNotFoundError:
            pass
    else:
        host, port = address
        is_both = not host and socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if is_both or ":" in host else socket.AF_INET
        bound = socket.socket(family, kind)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not is_both))
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        address = (host, port)
    try:
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound
