"""The listening sockets of a node, seen by netlink sockets of its own that the caller holds."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Final

from hostlab.errors import UsageError
from hostlab.linux.entering import from_inside
from hostlab.linux.netlink import Netlink
from hostlab.linux.sockdiag import (
    NETLINK_SOCK_DIAG,
    destruction_socket,
    listeners,
    listeners_by_inode,
)
from hostlab.observe.socket_owners import JobProcesses, owners

LOOK_S: Final = 0.003
"""The pause between two looks for one that opens; a look takes about 0.1 ms."""
MOST_TOLD: Final = 8
"""As many ports are named that listen instead."""
_EVENT_BYTES: Final = 4096


class AwaitedPort:
    """A port in the network of process `pid`; `address` None is any."""

    def __init__(self, pid: int, port: int, protocol: str, address: str | None) -> None:
        if protocol not in ("tcp", "udp") or not 0 < port < 1 << 16:
            raise UsageError("port", f"{port}/{protocol} is no port of tcp or udp")
        try:
            self._address = None if address is None else ip_address(address)
        except ValueError as error:
            raise UsageError("port", str(error)) from None
        self._pid = pid
        self._protocol = protocol
        self._port = port
        self._diag = Netlink(adopted=_made_in(pid, lambda: Netlink(NETLINK_SOCK_DIAG).socket))
        try:
            self._destroyed = _made_in(pid, lambda: destruction_socket(protocol))
        except BaseException:
            self._diag.close()
            raise

    def is_open(self) -> bool | None:
        """True when something listens, else None."""
        address = self._address
        return (
            any(
                each.port == self._port and (address is None or each.takes(address))
                for each in listeners(self._protocol, over=self._diag)
            )
            or None
        )

    def is_closed(self) -> bool | None:
        """True when nothing listens, else None; `fileno` tells when it may be so."""
        with contextlib.suppress(OSError):  # ENOBUFS: more have gone than there was room to tell
            while self._destroyed.recv(_EVENT_BYTES):
                pass
        return None if self.is_open() else True

    def others(self, rows: Sequence[Mapping[str, Any]]) -> str:
        """What listens instead: ` (8080 does: job web)`; empty when nothing does.

        `rows` are the node's jobs. The port itself, at another address, before other ports.
        """
        every = listeners_by_inode(self._protocol, over=self._diag)
        here = [(inode, str(each)) for inode, each in every if each.port == self._port]
        elsewhere = sorted((each.port, inode) for inode, each in every)
        inodes: dict[str, list[int]] = {}
        for inode, name in here or [(inode, str(port)) for port, inode in elsewhere]:
            inodes.setdefault(name, []).append(inode)
        jobs = [
            JobProcesses(row["name"], row["instance"], row["processes"].values()) for row in rows
        ]
        found = owners(self._pid, [inode for inode, _ in every], jobs)
        told = []
        for name, its in list(inodes.items())[:MOST_TOLD]:
            whose = dict.fromkeys(str(owner) for inode in its for owner in found.get(inode, ()))
            told.append(f"{name} does: {', '.join(whose)}" if whose else f"{name} does")
        return f" ({'; '.join(told)})" if told else ""

    def fileno(self) -> int:
        """Readable when a socket was destroyed."""
        return self._destroyed.fileno()

    def close(self) -> None:
        """Look no longer."""
        self._diag.close()
        self._destroyed.close()


def _made_in(pid: int, make: Callable[[], socket.socket]) -> socket.socket:
    _, (fd,) = from_inside(pid, ("user", "net"), lambda: (b"", [make().detach()]))
    return socket.socket(fileno=fd)
