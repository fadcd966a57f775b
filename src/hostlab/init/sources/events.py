"""Which source tells which events.

A table and no imports: a source's module is loaded when a job listens to one of its events.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_HERE: Final = "hostlab.init.sources"
_SOURCES: Final[Mapping[str, tuple[str, ...]]] = {
    "timer": ("timer",),
    "file": ("file", "path"),
    "socket": ("socket",),
    "network": (
        "net-device-added", "net-device-removed", "net-device-up", "net-device-down",
        "net-carrier-up", "net-carrier-down", "net-address-added", "net-address-removed",
        "net-route-added", "net-route-removed",
        "net-neighbour-added", "net-neighbour-changed", "net-neighbour-removed",
    ),
    "dbus": ("dbus",),
    "login": (
        "login-session-opened", "login-session-closed", "login-user-added", "login-user-removed",
    ),
    "storage": (
        "storage-drive-added", "storage-drive-removed",
        "storage-filesystem-added", "storage-filesystem-removed",
        "storage-mounted", "storage-unmounted",
    ),
}  # fmt: skip
MODULES: Final[Mapping[str, str]] = {
    event: f"{_HERE}.{source}" for source, events in _SOURCES.items() for event in events
}
"""By the event's name; one module may tell several."""
BEGINNINGS: Final[Mapping[str, str]] = {":sys:": f"{_HERE}.system_events"}
"""By how the event's name begins."""
DEVICE_EVENT: Final = re.compile(r".+-device-.+")
"""`SUBSYSTEM-device-ACTION`, whatever the two are, unless the name is one of `MODULES`."""
DEVICE: Final = f"{_HERE}.device"


def module_of(event: str) -> str | None:
    """The module of the source that tells this event; None for one that comes from no source."""
    if event in MODULES:
        return MODULES[event]
    for beginning, module in BEGINNINGS.items():
        if event.startswith(beginning):
            return module
    return DEVICE if DEVICE_EVENT.fullmatch(event) else None
