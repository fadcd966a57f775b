"""The machine's side of a published port: sockets made by the command line, outside the lab.

A rootless lab has no way back to the machine's network, so whoever starts it makes the sockets
there and hands them in.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from hostlab.errors import Problem, Unsupported, UsageError
from hostlab.lab.publish.messages import Protocol, Published
from hostlab.linux.netlink import Netlink
from hostlab.linux.rtnetlink import addresses
from hostlab.spec.model import Publish

BACKLOG = 1024
"""Connections that may wait to be accepted; the kernel bounds it too (`net.core.somaxconn`)."""

CHOICES = 16
"""Ports tried for one that is free in IPv4 and IPv6 alike, when the kernel may choose."""


class PublishedSocket(msgspec.Struct, frozen=True):
    """A bound socket of the machine and what it is for; `published.port` is never 0."""

    published: Published
    sock: socket.socket

    def close(self) -> None:
        """Close this copy of the socket."""
        self.sock.close()


def open_sockets(publishes: Sequence[tuple[str, Publish]]) -> list[PublishedSocket]:
    """Bind every published port of (node, port) pairs, TCP ones listening; all or none.

    A port without an address gets a socket for IPv4 and one for IPv6, the latter only where the
    machine has IPv6. Port 0 lets the kernel choose, the same for both. UsageError with code
    `port-in-use` naming the owner where it can be seen, or `no-such-address`; Unsupported with
    code `port-privileged` when the user may not bind so low a port.
    """
    opened: list[PublishedSocket] = []
    with ExitStack() as stack:
        for node, publish in publishes:
            for one in _open(node, publish):
                stack.callback(one.close)
                opened.append(one)
        stack.pop_all()
    return opened


def machine_addresses() -> tuple[str, ...]:
    """This network namespace's addresses that others can use: no loopback, no link-local.

    IPv4 first, in order. OSError when netlink is refused.
    """
    with Netlink() as netlink:
        found = {ipaddress.ip_interface(text).ip for _index, text in addresses(netlink)}
    usable = [one for one in found if not (one.is_loopback or one.is_link_local)]
    return tuple(str(one) for one in sorted(usable, key=lambda one: (one.version, int(one))))


def _open(node: str, publish: Publish) -> list[PublishedSocket]:
    protocol = Protocol(publish.protocol)
    for choice in range(CHOICES if publish.port == 0 else 1):
        with ExitStack() as stack:
            socks: list[socket.socket] = []
            port = publish.port
            for family, address in _addresses(publish):
                try:
                    sock = _bound(family, protocol, address, port)
                except OSError as error:
                    if family == socket.AF_INET6 and error.errno == errno.EADDRNOTAVAIL and socks:
                        continue  # IPv6 is compiled in and switched off
                    if socks and publish.port == 0 and choice + 1 < CHOICES:
                        break  # chosen for IPv4, taken in IPv6: choose again
                    raise _explain(node, protocol, address, port, error) from error
                stack.callback(sock.close)
                socks.append(sock)
                port = sock.getsockname()[1]
            else:
                stack.pop_all()
                published = Published(
                    node=node,
                    port=port,
                    inner=publish.inner,
                    protocol=protocol,
                    address=publish.address,
                )
                return [PublishedSocket(published, sock) for sock in socks]
    raise AssertionError("the last choice returns or raises")


def _addresses(publish: Publish) -> list[tuple[socket.AddressFamily, str]]:
    if publish.address is not None:
        version = ipaddress.ip_address(publish.address).version
        return [(socket.AF_INET if version == 4 else socket.AF_INET6, publish.address)]
    every = [(socket.AF_INET, "0.0.0.0")]
    if Path("/proc/net/if_inet6").exists():
        every.append((socket.AF_INET6, "::"))
    return every


def _bound(
    family: socket.AddressFamily, protocol: Protocol, address: str, port: int
) -> socket.socket:
    kind = socket.SOCK_STREAM if protocol is Protocol.TCP else socket.SOCK_DGRAM
    sock = socket.socket(family, kind | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if protocol is Protocol.TCP:
            # Not for UDP: there it would let a second lab take the same port in silence.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        if protocol is Protocol.TCP:
            sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _explain(
    node: str, protocol: Protocol, address: str, port: int, error: OSError
) -> Problem | OSError:
    where = f"[{address}]" if ":" in address else address
    wanted = f"{node} cannot publish {protocol} port {port} on {where}"
    match error.errno:
        case errno.EADDRINUSE:
            owners = ", ".join(_owners(protocol, port))
            return UsageError(
                "port-in-use",
                f"{wanted}: the port is in use" + (f" by {owners}" if owners else ""),
                hint="publish another port, or 0 to have one chosen"
                + ("" if owners else "; its owner is not visible to this user"),
            )
        case errno.EACCES | errno.EPERM:
            return Unsupported(
                "port-privileged",
                f"{wanted}: ports below {_unprivileged_start()} need CAP_NET_BIND_SERVICE",
                hint="publish a higher port, or as root:"
                f" sysctl net.ipv4.ip_unprivileged_port_start={port}",
            )
        case errno.EADDRNOTAVAIL:
            return UsageError(
                "no-such-address",
                f"{wanted}: the machine does not have that address",
                hint="leave the address out to publish on every address",
            )
    return OSError(error.errno, f"{wanted}: {error.strerror}")


def _unprivileged_start() -> str:
    try:
        return Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text().strip()
    except OSError:
        return "1024"


def _owners(protocol: Protocol, port: int) -> list[str]:
    """The processes with a socket bound to a port, as far as this user may see them."""
    inodes = {f"socket:[{inode}]" for inode in _inodes(protocol, port)}
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        # Processes end while we look, and others' descriptors are not ours to see.
        with contextlib.suppress(OSError):
            if any(os.readlink(fd) in inodes for fd in (process / "fd").iterdir()):
                name = (process / "comm").read_text().strip()
                found.append(f"{name} (pid {process.name})")
    return found


def _inodes(protocol: Protocol, port: int) -> Iterator[str]:
    """Inodes of sockets bound to a port, from /proc/net (proc_pid_net(5)); 0A is TCP_LISTEN."""
    for name in (protocol.value, f"{protocol.value}6"):
        try:
            lines = Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if len(fields) < 10 or (protocol is Protocol.TCP and fields[3] != "0A"):
                continue
            if int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]
