"""The network as events: links, addresses, routes and neighbours that come, change and go.

Told by rtnetlink's groups, of those tables only that a job waits for. What the kernel had to drop,
and what happened while there was no supervisor, is found by asking for everything and comparing.
When init comes up, what is there already is told as having come, as udev does at a boot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from hostlab import typed
from hostlab.errors import DecodeError
from hostlab.init.sources import Surroundings
from hostlab.init.sources.network_state import (
    ADDRESSES,
    LINKS,
    NEIGHBOURS,
    ROUTES,
    TABLES,
    Entry,
    Event,
    State,
)
from hostlab.init.sources.notes import Notes
from hostlab.jobs.facts import Emit
from hostlab.linux import rtmonitor
from hostlab.linux.netlink import Netlink
from hostlab.linux.rtmonitor import AddressTold, LinkTold, Monitor, RouteTold, Told
from hostlab.linux.rtnetlink import RTM_GETADDR, RTM_GETLINK, RTM_GETROUTE
from hostlab.spec.job import Match

KEPT: Final = "network"
"""What the holder calls the notes."""
MOST_ENTRIES: Final = 65536
"""Of one table; a namespace with more of them (a full routing table) is not followed there."""
MOST_DATAGRAMS: Final = 64
"""Read before others have their turn."""
_GROUPS: Final = {
    LINKS: (rtmonitor.RTNLGRP_LINK,),
    ADDRESSES: (rtmonitor.RTNLGRP_IPV4_IFADDR, rtmonitor.RTNLGRP_IPV6_IFADDR),
    ROUTES: (rtmonitor.RTNLGRP_IPV4_ROUTE, rtmonitor.RTNLGRP_IPV6_ROUTE),
    NEIGHBOURS: (rtmonitor.RTNLGRP_NEIGH,),
}
_DUMPS: Final = {
    LINKS: RTM_GETLINK,
    ADDRESSES: RTM_GETADDR,
    ROUTES: RTM_GETROUTE,
    NEIGHBOURS: rtmonitor.RTM_GETNEIGH,
}


def open_source(surroundings: Surroundings) -> NetworkSource:
    """The source of network events."""
    return NetworkSource(surroundings)


class NetworkSource:
    """Follows the tables that jobs wait for."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._monitor: Monitor | None = None
        self._tables: tuple[str, ...] = ()
        self._given_up: set[str] = set()
        """Tables that are too long."""
        self._has_stale_routes = False
        self._notes = Notes(surroundings, KEPT, self._everything)
        self._state = State(_read(self._notes.earlier()))
        self._is_new = not self._state.tables and surroundings.boots()
        self.lost = 0
        """How often the kernel had to drop changes."""

    def listen(self, operands: frozenset[Match]) -> None:
        """Follow what these wait for; a table that is new is taken as it is."""
        wanted = {match.name for match in operands}
        # Links are followed for their names at least.
        tables = (LINKS, *(t for t in TABLES if t != LINKS and wanted & set(TABLES[t])))
        if tables == self._tables:
            return
        groups = [group for table in tables for group in _GROUPS[table]]
        if ROUTES in tables:
            # Of routes that go with an address or a link the kernel does not always tell.
            groups += [group for group in _GROUPS[ADDRESSES] if group not in groups]
        monitor = Monitor(groups)
        self._unfollow()
        self._monitor, self._tables = monitor, tables
        asyncio.get_running_loop().add_reader(monitor.socket, self._hear)
        for table in [table for table in self._state.tables if table not in tables]:
            del self._state.tables[table]
        self._compare(tables)
        self._notes.begin()
        self._is_new = False

    def close(self) -> None:
        """Nobody waits for anything of the network any more."""
        self._unfollow()
        self._notes.close()

    def _unfollow(self) -> None:
        if self._monitor is not None:
            asyncio.get_running_loop().remove_reader(self._monitor.socket)
            self._monitor.close()
            self._monitor = None

    # What the kernel tells.

    def _hear(self) -> None:
        assert self._monitor is not None
        for _ in range(MOST_DATAGRAMS):
            try:
                told = self._monitor.read()
            except DecodeError as error:
                self._surroundings.warn(f"network events: {error.message}")
                told = None
            if told is None:
                self.lost += 1
                self._monitor.discard()
                self._compare(self._tables)
                break
            if not told:
                break
            for each in told:
                self._take(each)
        if self._has_stale_routes:
            self._compare((ROUTES,))

    def _take(self, told: Told) -> None:
        is_down = isinstance(told, LinkTold) and not told.link.flags & rtmonitor.IFF_UP
        may_end_routes = is_down or (isinstance(told, AddressTold | LinkTold) and told.is_gone)
        self._has_stale_routes |= may_end_routes and ROUTES in self._tables
        for table, key, entry in self._state.changes(told):
            if table in self._tables and table not in self._given_up:
                self._set(table, key, entry)

    def _set(self, table: str, key: str, entry: Entry | None) -> None:
        before = self._state.tables.get(table, {}).get(key)
        events = self._state.set(table, key, entry)
        if before == entry:
            return
        if len(self._state.tables[table]) > MOST_ENTRIES:
            self._give_up(table)
            return
        for event in events:
            self._tell(event)
        self._notes.note((table, key, entry))

    def _give_up(self, table: str) -> None:
        self._given_up.add(table)
        del self._state.tables[table]
        self._surroundings.warn(f"more than {MOST_ENTRIES} {table}: they are not followed")

    def _tell(self, event: Event) -> None:
        name, environment = event
        self._surroundings.tell(Emit(name=name, environment=environment))

    # What is there.

    def _compare(self, tables: Iterable[str]) -> None:
        """Ask for everything, and tell what is otherwise than it was known."""
        if ROUTES in tables:
            self._has_stale_routes = False
        with Netlink() as netlink:
            for table in tables:
                if table in self._given_up:
                    continue
                try:
                    self._compare_table(netlink, table)
                except (OSError, DecodeError) as error:
                    self._surroundings.warn(f"{table} cannot be listed: {error}")

    def _compare_table(self, netlink: Netlink, table: str) -> None:
        is_known = table in self._state.tables
        found: dict[str, Entry] = {}
        for told in rtmonitor.dump(netlink, _DUMPS[table]):
            whole = told._replace(replaces=False) if isinstance(told, RouteTold) else told
            found |= {k: entry for _, k, entry in self._state.changes(whole) if entry is not None}
        if len(found) > MOST_ENTRIES:
            self._state.tables.setdefault(table, {})
            self._give_up(table)
        elif is_known:
            self._set_all(table, found)
        elif self._is_new:
            self._state.tables[table] = {}
            self._set_first(table, found)
        else:
            self._state.tables[table] = found

    def _set_all(self, table: str, found: dict[str, Entry]) -> None:
        for key in [key for key in self._state.tables[table] if key not in found]:
            self._set(table, key, None)
        for key, entry in found.items():
            self._set(table, key, entry)

    def _set_first(self, table: str, found: dict[str, Entry]) -> None:
        """What is there when init comes up; the boot itself tells of some interfaces."""
        told = {
            (emission.event, dict(emission.environment).get("IFACE"))
            for emission in self._surroundings.boot_events()
        }
        for key, entry in found.items():
            for event in self._state.set(table, key, entry):
                if (event[0], dict(event[1]).get("IFACE")) not in told:
                    self._tell(event)

    # What the next supervisor is to know.

    def _everything(self) -> tuple[dict[str, dict[str, Entry]], int]:
        return self._state.tables, sum(map(len, self._state.tables.values()))


def _read(lines: list[Any]) -> dict[str, dict[str, Entry]]:
    """What an earlier supervisor noted."""
    if not lines:
        return {}
    try:
        tables = typed.convert(lines[0], dict[str, dict[str, dict[str, str]]])
        for line in lines[1:]:
            table, key, entry = typed.convert(line, tuple[str, str, dict[str, str] | None])
            if entry is None:
                tables.setdefault(table, {}).pop(key, None)
            else:
                tables.setdefault(table, {})[key] = entry
    except msgspec.ValidationError:
        # A later version's: what is there now is what is known.
        return {}
    return {table: dict(entries) for table, entries in tables.items()}
