"""The host that a ruleset is for: what its rules can name, as values.

Taken from the live machine, from a node, or named by options. Interfaces of every kind are staged
as Ethernet ones of the same name, for a packet filter sees no difference.
"""

from __future__ import annotations

import msgspec


class TargetInterface(msgspec.Struct, frozen=True, kw_only=True):
    """One interface; `lo` is not among them, for every namespace has it."""

    name: str
    addresses: tuple[str, ...] = ()
    """With their prefix lengths: `203.0.113.10/24`, `fd00::1/64`."""
    mtu: int = 1500
    is_up: bool = True


class TargetRoute(msgspec.Struct, frozen=True, kw_only=True):
    """One route of the main table that no address brings with it."""

    to: str
    """A prefix; `0.0.0.0/0` and `::/0` are the default routes."""
    via: str | None = None
    interface: str | None = None
    metric: int | None = None


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A host's network as far as a packet filter and its scripts can see it."""

    interfaces: tuple[TargetInterface, ...] = ()
    routes: tuple[TargetRoute, ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()
    """Of `net.`, where they differ from what a new namespace has: `net.ipv4.ip_forward`."""
