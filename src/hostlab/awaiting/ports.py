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
    listening_inodes,
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
        every = listeners(self._protocol, over=self._diag)
        names = {str(each): each.port for each in every if each.port == self._port}
        names = names or {str(port): port for port in sorted({each.port for each in every})}
        jobs = [
            JobProcesses(row["name"], row["instance"], row["processes"].values()) for row in rows
        ]
        told = []
        for name, port in list(names.items())[:MOST_TOLD]:
            inodes = listening_inodes(self._protocol, port, over=self._diag)
            found = owners(self._pid, inodes, jobs).values()
            whose = ", ".join(dict.fromkeys(str(owner) for each in found for owner in each))
            told.append(f"{name} does: {whose}" if whose else f"{name} does")
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
