"""Every event that a source tells, as data: its variables, when it comes, whose it is.

The page on sources is made from it, `validate` knows by it what may come, and an init finds by it
which module to load. A new source adds its rows here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple


class SourceEvent(NamedTuple):
    """One event."""

    event: str
    """Its name; `…` stands for what differs."""
    source: str
    """The module below `init/sources`."""
    variables: str
    """Separated by blanks, in their order; in brackets those that are not always there."""
    when: str
    """When it comes, for a person."""


_NEIGHBOUR: Final = "INTERFACE ADDRESS MAC"
_ROUTE: Final = "TO [VIA] [INTERFACE] METRIC TABLE TYPE PROTOCOL FAMILY"
_DEVICE: Final = "INTERFACE IFINDEX [KIND] MAC SUBSYSTEM=net ACTION"
_SESSION: Final = "SESSION USER UID TYPE SERVICE REMOTE RHOST TTY DISPLAY"
_OF_DRIVE: Final = "VENDOR MODEL SERIAL BUS REMOVABLE"
_DRIVE: Final = f"DRIVE DEVNAME {_OF_DRIVE} SIZE"
_FILESYSTEM: Final = f"DEVNAME LABEL UUID TYPE SIZE DRIVE {_OF_DRIVE}"
_UP: Final = "IFACE LOGICAL ADDRFAM METHOD"

EVENTS: Final[tuple[SourceEvent, ...]] = tuple(
    SourceEvent(event, source, variables, when)
    for source, rows in {
        "timer": (
            ("timer", "… NAME AT [LAST=1]",
             "its time has come: the operand's own words, and when; of a unit its name only"),
        ),
        "file": (
            ("file", "FILE EVENT [MATCH]", "a file is created, modified or deleted"),
            ("path", "NAME … [JOB] TRIGGER_UNIT TRIGGER_PATH", "what a path unit looks for holds"),
            ("path-limit", "NAME", "a path unit has triggered too often, and is looked at no more"),
        ),
        "socket": (
            ("socket", "PROTO … [NAME]", "somebody connects, or has sent something"),
            ("socket-closed", "PROTO … CONNECTION [REMOTE_ADDR REMOTE_PORT] JOB",
             "a connection has ended: an instance's, or one of the proxy"),
        ),
        "network": (
            ("net-device-added", f"{_DEVICE}=add [RENAMED_FROM]", "an interface is there"),
            ("net-device-removed", f"{_DEVICE}=remove [RENAMED_TO]", "it is there no more"),
            ("net-device-up", _UP, "it was set up, as by `ip link set up`"),
            ("net-device-down", _UP, "it was set down, or has gone"),
            ("net-carrier-up", "INTERFACE", "its cable is plugged in, and the other end is up"),
            ("net-carrier-down", "INTERFACE", "the cable was unplugged, or the other end is down"),
            ("net-address-added", "INTERFACE ADDRESS FAMILY SCOPE",
             "an address can be used (IPv6: after its duplicates were looked for)"),
            ("net-address-removed", "INTERFACE ADDRESS FAMILY SCOPE", "it is there no more"),
            ("net-route-added", _ROUTE, "a route is there; a replaced one is removed first"),
            ("net-route-removed", _ROUTE, "it is there no more, also with its link or address"),
            ("net-neighbour-added", _NEIGHBOUR, "a neighbour's hardware address is known"),
            ("net-neighbour-changed", f"{_NEIGHBOUR} MAC_BEFORE", "it has another one"),
            ("net-neighbour-removed", _NEIGHBOUR, "it does not answer, or is forgotten"),
        ),
        "dbus": (
            ("dbus", "SIGNAL BUS INTERFACE OBJPATH SENDER [DESTINATION] [ARG0 …]",
             "a signal on a message bus"),
        ),
        "login": (
            ("login-session-opened", _SESSION, "somebody has logged in"),
            ("login-session-closed", _SESSION, "a session is over"),
            ("login-user-added", "USER UID", "a user's first session"),
            ("login-user-removed", "USER UID", "a user's last session is over"),
        ),
        "storage": (
            ("storage-drive-added", _DRIVE, "a drive is there"),
            ("storage-drive-removed", _DRIVE, "it is there no more"),
            ("storage-filesystem-added", _FILESYSTEM, "a file system can be mounted"),
            ("storage-filesystem-removed", _FILESYSTEM, "it is there no more"),
            ("storage-mounted", f"MOUNTPOINT {_FILESYSTEM}", "it is mounted"),
            ("storage-unmounted", f"MOUNTPOINT {_FILESYSTEM}", "it is mounted no more"),
        ),
        "device": (
            ("…-device-…", "what udev or the kernel says of the device",
             "`SUBSYSTEM-device-added`, `-changed`, `-removed`"),
        ),
        "system_events": (
            (":sys:…", "the event's own", "in a user's session: an event of the host's init"),
        ),
    }.items()
    for event, variables, when in rows
)  # fmt: skip
SOURCES: Final[Mapping[str, str]] = {
    row.event: row.source for row in EVENTS if "…" not in row.event
}
"""By the event's name; one source may tell several."""
BEGINNINGS: Final[Mapping[str, str]] = {":sys:": "system_events"}
"""By how the event's name begins."""
DEVICE_EVENT: Final = re.compile(r".+-device-.+")
"""`SUBSYSTEM-device-ACTION`, whatever the two are, unless the name is one of `SOURCES`."""


def source_of(event: str) -> str | None:
    """The source that tells this event; None for one that comes from no source."""
    if event in SOURCES:
        return SOURCES[event]
    for beginning, source in BEGINNINGS.items():
        if event.startswith(beginning):
            return source
    return "device" if DEVICE_EVENT.fullmatch(event) else None
