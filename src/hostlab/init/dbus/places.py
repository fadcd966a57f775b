"""Where a bus is, and to be told when something has happened there.

A bus may come long after whoever wants to talk to it, and may be replaced while one does. Of
listen(2) the kernel tells nobody; of what a server does around it inotify(7) tells: dbus-daemon
makes its socket, listens, then changes its mode. Of other places than a path (abstract sockets,
TCP) nobody is told anything.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import unquote

from hostlab.init.watches import Trail, Watches
from hostlab.jobs.dbus_event import SESSION, SYSTEM
from hostlab.linux.inotify import IN_ATTRIB

SYSTEM_BUS: Final = "unix:path=/run/dbus/system_bus_socket"
SYSTEM_VARIABLE: Final = "DBUS_SYSTEM_BUS_ADDRESS"
SESSION_VARIABLE: Final = "DBUS_SESSION_BUS_ADDRESS"
RUNTIME_VARIABLE: Final = "XDG_RUNTIME_DIR"


def address_of(bus: str, variables: Mapping[str, str]) -> str | None:
    """The address of `system`, of `session`, or an address itself; None while it is not known."""
    if bus == SYSTEM:
        return variables.get(SYSTEM_VARIABLE) or SYSTEM_BUS
    if bus != SESSION:
        return bus
    if given := variables.get(SESSION_VARIABLE):
        return given
    runtime = variables.get(RUNTIME_VARIABLE)
    return f"unix:path={runtime}/bus" if runtime else None


def paths_of(address: str) -> tuple[str, ...]:
    """The paths of the sockets in an address, which may name several (D-Bus Specification)."""
    found = []
    for each in address.split(";"):
        transport, _, options = each.partition(":")
        for option in options.split(","):
            key, _, value = option.partition("=")
            if transport == "unix" and key == "path":
                found.append(os.path.abspath(unquote(value)))
    return tuple(found)


class SocketWatch:
    """Tells when something has happened where a socket is to be; looks at nothing else."""

    def __init__(
        self, paths: tuple[str, ...], changed: Callable[[], None], watches: Watches
    ) -> None:
        """What cannot be watched is warned of, and then no sign ever comes."""
        self.paths = paths
        self._trails = [
            Trail(watches, path, IN_ATTRIB, told=lambda *_: changed(), changed=changed)
            for path in paths
        ]

    def state(self) -> tuple[tuple[int, int, int] | None, ...]:
        """What tells whether a place is as it was: device, inode and last change of each."""
        return tuple(map(_state, self.paths))

    def close(self) -> None:
        """Watch no longer."""
        for trail in self._trails:
            trail.close()


def _state(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns
