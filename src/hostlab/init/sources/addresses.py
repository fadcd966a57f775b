"""Tells when an address has come to an interface, for sockets that cannot be bound before."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

RTMGRP_IPV4_IFADDR: Final = 0x10
RTMGRP_IPV6_IFADDR: Final = 0x100
RECEIVE_BYTES: Final = 1 << 16
READS_AT_ONCE: Final = 64


class Addresses:
    """Open while somebody waits (rtnetlink(7))."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._socket: socket.socket | None = None

    def wait(self) -> None:
        """Call `changed` whenever an address comes or goes, from now on."""
        if self._socket is not None:
            return
        flags = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        made = socket.socket(socket.AF_NETLINK, flags, socket.NETLINK_ROUTE)
        try:
            made.bind((0, RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR))
        except OSError:
            made.close()
            raise
        self._socket = made
        asyncio.get_running_loop().add_reader(made, self._readable)

    def close(self) -> None:
        """Nobody waits any more."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _readable(self) -> None:
        assert self._socket is not None
        for _ in range(READS_AT_ONCE):
            try:
                self._socket.recv(RECEIVE_BYTES)
            except BlockingIOError:
                break
            except OSError:
                # ENOBUFS: some were lost; who waits looks anyway.
                continue
        self._changed()
