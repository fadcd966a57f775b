"""Kinds that are about a host's interfaces, addresses and routes, as its kernel has them."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from typing import Final

from hostlab.checks.host_kinds import described
from hostlab.checks.kind import InsideExpectation
from hostlab.checks.patience import Seen
from hostlab.linux.netlink import Netlink
from hostlab.linux.rtnetlink import IFF_UP, Link, Route, links, routes
from hostlab.linux.rtnetlink import addresses as interface_addresses
from hostlab.probes.names import UnknownName, addresses

IFF_RUNNING: Final = 0x40
"""It has a carrier; netdevice(7)."""


class InterfaceIs(InsideExpectation, frozen=True, kw_only=True):
    """A network interface is there, up unless said otherwise, and is as said."""

    kind = "interface"

    name: str
    state: str | None = None
    """`up`, `down`, or `absent`; None: `up`."""
    mtu: int | None = None
    mac: str | None = None
    addresses: tuple[str, ...] = ()
    """It has all of these, with or without their prefix."""

    def text(self) -> str:
        return f"{self.name} ({wanted})" if (wanted := self._words()) else self.name

    def _words(self) -> str:
        rest = described({"mtu": self.mtu, "mac": self.mac, "addresses": self.addresses})
        return ", ".join(text for text in (self.state, rest) if text)

    def expected(self) -> str:
        return f"interface {self.name} to be {self._words() or 'up'}"

    def by_hand(self, within_s: float) -> tuple[str, ...]:
        return ("ip", "addr", "show", "dev", self.name)

    def attempt(self, timeout_s: float) -> Seen:
        with Netlink() as netlink:
            every = links(netlink)
            found = [link for link in every if self.name in (link.name, *link.altnames)]
            if not found:
                names = ", ".join(link.name for link in every[:8])
                there = self.state == "absent"
                return Seen(ok=there, text=f"there is none; its interfaces are {names}")
            told = [addr for index, addr in interface_addresses(netlink) if index == found[0].index]
        return self._compared(found[0], told)

    def _compared(self, link: Link, told: list[str]) -> Seen:
        is_up = bool(link.flags & IFF_UP and link.flags & IFF_RUNNING)
        text = f"{'up' if is_up else 'down'}, mtu {link.mtu}, {link.mac}, {', '.join(told)}"
        good = (
            is_up is (self.state in (None, "up"))
            and self.state != "absent"
            and self.mtu in (None, link.mtu)
            and self.mac in (None, link.mac)
            and all(_has(told, wanted) for wanted in self.addresses)
        )
        return Seen(ok=good, text=f"it is {text}")


def _has(told: list[str], wanted: str) -> bool:
    if "/" in wanted:
        return str(ip_interface(wanted)) in told
    return any(ip_interface(each).ip == ip_address(wanted) for each in told)


class AddressIs(InsideExpectation, frozen=True, kw_only=True):
    """Some interface of the host has the address."""

    kind = "address"

    address: str
    """With or without its prefix."""
    interface: str | None = None
    """This interface has it."""

    def text(self) -> str:
        return f"{self.address} dev {self.interface}" if self.interface else self.address

    def expected(self) -> str:
        return f"address {self.address} on {self.interface or 'an interface'}"

    def by_hand(self, within_s: float) -> tuple[str, ...]:
        device = ("dev", self.interface) if self.interface else ()
        return ("ip", "addr", "show", *device)

    def attempt(self, timeout_s: float) -> Seen:
        with Netlink() as netlink:
            names = {link.index: link.name for link in links(netlink)}
            told = [(names.get(index, "?"), each) for index, each in interface_addresses(netlink)]
        holders = [name for name, each in told if _has([each], self.address)]
        if self.interface in holders or (holders and self.interface is None):
            return Seen(ok=True, text=f"on {', '.join(holders)}")
        if holders:
            return Seen(ok=False, text=f"only {', '.join(holders)} has it")
        every = ", ".join(f"{each} on {name}" for name, each in told if name != "lo")
        return Seen(ok=False, text=f"no interface has it; there are {every or 'none'}")


class RouteIs(InsideExpectation, frozen=True, kw_only=True):
    """The kernel's main table has a unicast route to exactly this prefix, as said."""

    kind = "route"

    to: str
    """A prefix, or `default`: of either family, or of that of `via`."""
    via: str | None = None
    """An address, or a host's name."""
    interface: str | None = None
    metric: int | None = None

    def text(self) -> str:
        via = f" via {self.via}" if self.via else ""
        device = f" dev {self.interface}" if self.interface else ""
        metric = "" if self.metric is None else f" metric {self.metric}"
        return f"{self.to}{via}{device}{metric}"

    def expected(self) -> str:
        return f"a route {self.text()}"

    def by_hand(self, within_s: float) -> tuple[str, ...]:
        family = ("-6",) if ":" in f"{self.to} {self.via}" else ()
        return ("ip", *family, "route", "show", self.to)

    def attempt(self, timeout_s: float) -> Seen:
        try:
            hops = None if self.via is None else addresses(self.via)
        except UnknownName as error:
            return Seen(ok=False, text=str(error))
        wanted = {"0.0.0.0/0", "::/0"} if self.to == "default" else {str(ip_network(self.to))}
        with Netlink() as netlink:
            names = {link.index: link.name for link in links(netlink)}
            every = routes(netlink)
        found = [route for route in every if str(ip_network(route.to)) in wanted]
        for route in found:
            if (
                (hops is None or route.via in hops)
                and self.interface in {None, names.get(route.index)}
                and self.metric in {None, route.metric}
            ):
                return Seen(ok=True, text=_route_text(route, names))
        if found:
            told = ", ".join(_route_text(route, names) for route in found[:8])
            return Seen(ok=False, text=f"there is only {told}")
        return Seen(ok=False, text=f"there is no route to {self.to}")


def _route_text(route: Route, names: dict[int, str]) -> str:
    via = f" via {route.via}" if route.via else ""
    device = f" dev {names[route.index]}" if route.index in names else ""
    metric = f" metric {route.metric}" if route.metric else ""
    return f"{route.to}{via}{device}{metric}"
