"""What a network namespace has, as tables, and the events that a difference of two of them is.

Whether a change is told by the kernel, is found by comparing after some were lost, or has happened
while no supervisor was there: it is one entry that was and one that is, so the events are the same.
An entry is what its events say, by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from hostlab.linux.rtmonitor import (
    IFF_LOWER_UP,
    IFF_UP,
    AddressTold,
    LinkTold,
    NeighbourTold,
    RouteTold,
    Told,
)

Entry = Mapping[str, str]
Event = tuple[str, tuple[tuple[str, str], ...]]
LINKS: Final = "links"
ADDRESSES: Final = "addresses"
ROUTES: Final = "routes"
NEIGHBOURS: Final = "neighbours"
TABLES: Final[Mapping[str, tuple[str, ...]]] = {
    LINKS: (
        "net-device-added", "net-device-removed", "net-device-up", "net-device-down",
        "net-carrier-up", "net-carrier-down",
    ),
    ADDRESSES: ("net-address-added", "net-address-removed"),
    ROUTES: ("net-route-added", "net-route-removed"),
    NEIGHBOURS: ("net-neighbour-added", "net-neighbour-changed", "net-neighbour-removed"),
}  # fmt: skip
"""Table -> the events that come of it."""
EVENTS: Final = tuple(event for events in TABLES.values() for event in events)
_SCOPES: Final = {0: "global", 200: "site", 253: "link", 254: "host"}
_ROUTE_TYPES: Final = {1: "unicast", 6: "blackhole", 7: "unreachable", 8: "prohibit", 9: "throw"}
_PROTOCOLS: Final = {
    2: "kernel", 3: "boot", 4: "static", 9: "ra", 11: "zebra", 12: "bird", 16: "dhcp",
    186: "bgp", 188: "ospf",
}  # fmt: skip
_MAIN: Final = 254


class State:
    """The tables, as they were when they were last seen."""

    def __init__(self, known: Mapping[str, Mapping[str, Entry]] | None = None) -> None:
        self.tables: dict[str, dict[str, Entry]] = {
            table: dict(entries) for table, entries in (known or {}).items() if table in TABLES
        }

    def changes(self, told: Told) -> Iterator[tuple[str, str, Entry | None]]:
        """What is to be set: table, key, and the entry that is now or None."""
        match told:
            case LinkTold():
                yield LINKS, str(told.link.index), None if told.is_gone else _link(told)
            case AddressTold():
                key = f"{told.ifindex} {told.address}"
                is_there = not (told.is_gone or told.is_tentative)
                yield ADDRESSES, key, self._address(told) if is_there else None
            case RouteTold():
                yield from self._route_changes(told)
            case NeighbourTold():
                key = f"{told.ifindex} {told.address}"
                entry = {"INTERFACE": self.name(told.ifindex), "ADDRESS": told.address,
                         "MAC": told.mac}  # fmt: skip
                yield NEIGHBOURS, key, entry if told.is_valid else None

    def set(self, table: str, key: str, entry: Entry | None) -> list[Event]:
        """Set an entry, or take it away; the events that this is."""
        entries = self.tables.setdefault(table, {})
        before = entries.get(key)
        if before == entry:
            return []
        if entry is None:
            del entries[key]
        else:
            entries[key] = entry
        return list(_events(table, before, entry))

    def name(self, index: int) -> str:
        """What a link is called; its number when it is not known."""
        link = self.tables.get(LINKS, {}).get(str(index))
        return link["INTERFACE"] if link else str(index)

    def _address(self, told: AddressTold) -> Entry:
        return {
            "INTERFACE": self.name(told.ifindex),
            "ADDRESS": told.address,
            "FAMILY": told.family,
            "SCOPE": _SCOPES.get(told.scope, str(told.scope)),
        }

    def _route_changes(self, told: RouteTold) -> Iterator[tuple[str, str, Entry | None]]:
        place = f"{told.family} {told.table} {told.to} {told.metric} "
        key = place + " ".join(f"{gateway}%{index}" for gateway, index in told.hops)
        if told.replaces:
            for other in [each for each in self.tables.get(ROUTES, ()) if each.startswith(place)]:
                if other != key:
                    yield ROUTES, other, None
        if told.is_gone or told.type not in _ROUTE_TYPES:
            yield ROUTES, key, None
            return
        hops = [(gateway, self.name(index)) for gateway, index in told.hops if index]
        entry = {
            "TO": told.to,
            "VIA": ",".join(gateway for gateway, _ in hops if gateway),
            "INTERFACE": ",".join(name for _, name in hops),
            "METRIC": str(told.metric),
            "TABLE": "main" if told.table == _MAIN else str(told.table),
            "TYPE": _ROUTE_TYPES[told.type],
            "PROTOCOL": _PROTOCOLS.get(told.protocol, str(told.protocol)),
            "FAMILY": told.family,
        }
        yield ROUTES, key, {name: value for name, value in entry.items() if value}


def _link(told: LinkTold) -> Entry:
    link = told.link
    entry = {
        "INTERFACE": link.name,
        "IFINDEX": str(link.index),
        "KIND": link.kind,
        "MAC": link.mac,
        "UP": "1" if link.flags & IFF_UP else "",
        "CARRIER": "1" if link.flags & IFF_UP and link.flags & IFF_LOWER_UP else "",
    }
    return {name: value for name, value in entry.items() if value}


def _events(table: str, before: Entry | None, now: Entry | None) -> Iterator[Event]:
    if table == LINKS:
        yield from _link_events(before, now)
        return
    what = {ADDRESSES: "address", ROUTES: "route", NEIGHBOURS: "neighbour"}[table]
    if before is not None and now is not None and table == NEIGHBOURS:
        yield f"net-{what}-changed", (*now.items(), ("MAC_BEFORE", before["MAC"]))
        return
    if before is not None:
        yield f"net-{what}-removed", tuple(before.items())
    if now is not None:
        yield f"net-{what}-added", tuple(now.items())


def _link_events(before: Entry | None, now: Entry | None) -> Iterator[Event]:
    """A link that is called otherwise is another one, to those who wait for it by its name."""
    if before is not None and now is not None and before["INTERFACE"] != now["INTERFACE"]:
        yield from _renamed(before, "RENAMED_TO", now["INTERFACE"], _link_events(before, None))
        yield from _renamed(now, "RENAMED_FROM", before["INTERFACE"], _link_events(None, now))
        return
    was, name = before or {}, (now or before or {})["INTERFACE"]
    up = (("IFACE", name), ("LOGICAL", name), ("ADDRFAM", "inet"),
          ("METHOD", "loopback" if name == "lo" else "static"))  # fmt: skip
    is_now = now or {}
    if before is None:
        yield "net-device-added", _device(is_now, "add")
    for key, event, environment in (
        ("UP", "net-device-up", up),
        ("CARRIER", "net-carrier-up", (("INTERFACE", name),)),
    ):
        if key in is_now and key not in was:
            yield event, environment
    for key, event, environment in (
        ("CARRIER", "net-carrier-down", (("INTERFACE", name),)),
        ("UP", "net-device-down", up),
    ):
        if key in was and key not in is_now:
            yield event, environment
    if now is None:
        yield "net-device-removed", _device(was, "remove")


def _device(link: Entry, action: str) -> tuple[tuple[str, str], ...]:
    shown = ((name, link[name]) for name in ("INTERFACE", "IFINDEX", "KIND", "MAC") if name in link)
    return (*shown, ("SUBSYSTEM", "net"), ("ACTION", action))


def _renamed(link: Entry, key: str, name: str, events: Iterator[Event]) -> Iterator[Event]:
    for event, environment in events:
        yield event, (*environment, (key, name)) if event.startswith("net-device-") else environment
