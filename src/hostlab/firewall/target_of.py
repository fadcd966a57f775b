"""Where a target is taken from: this machine, a node of a lab, or what somebody says.

Machine and node are only read, by netlink and from /proc/sys.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from ipaddress import ip_address, ip_interface, ip_network
from typing import Final

import msgspec

from hostlab import typed
from hostlab.errors import UsageError
from hostlab.firewall.target import Target, TargetInterface, TargetRoute
from hostlab.lab.access import NodeConnection
from hostlab.linux import rtnetlink
from hostlab.linux.entering import from_inside
from hostlab.linux.netlink import Netlink

SYSCTLS: Final = {
    "net.ipv4.ip_forward": "0",
    "net.ipv4.ip_nonlocal_bind": "0",
    "net.ipv4.conf.all.accept_local": "0",
    "net.ipv4.conf.all.route_localnet": "0",
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.conf.all.src_valid_mark": "0",
    "net.ipv6.conf.all.disable_ipv6": "0",
    "net.ipv6.conf.all.forwarding": "0",
}
"""What decides over packets beside rules -> what a new namespace has."""
MAX_BYTES: Final = 16 << 20
LOOPBACK: Final = "lo"


def this_machine() -> Target:
    """The network namespace of this process."""
    return _read()


def of_node(node: NodeConnection) -> Target:
    """A running node's network."""

    def work() -> tuple[bytes, Sequence[int]]:
        fd = os.memfd_create("target", os.MFD_CLOEXEC)
        os.write(fd, msgspec.json.encode(_read()))
        return b"", (fd,)

    _, fds = from_inside(node.pid, ("user", "net"), work)
    with os.fdopen(fds[0], "rb") as file:
        file.seek(0)
        return typed.decode(file.read(MAX_BYTES), Target)


def _read() -> Target:
    with Netlink() as netlink:
        links = rtnetlink.links(netlink)
        addresses = rtnetlink.addresses(netlink)
        routes = rtnetlink.routes(netlink)
    names = {link.index: link.name for link in links}
    by_index: dict[int, list[str]] = {}
    for index, address in addresses:
        if not ip_interface(address).ip.is_link_local:
            by_index.setdefault(index, []).append(address)
    found = tuple(
        TargetInterface(
            name=link.name,
            addresses=tuple(by_index.get(link.index, ())),
            mtu=min(max(link.mtu, 1280), 65535),
            is_up=bool(link.flags & rtnetlink.IFF_UP),
        )
        for link in links
        if link.name != LOOPBACK
    )
    up = {each.name for each in found if each.is_up}
    kept = (
        TargetRoute(
            to=route.to,
            via=route.via,
            interface=names.get(route.index),
            metric=route.metric or None,
        )
        for route in routes
        if route.protocol != rtnetlink.RTPROT_KERNEL and names.get(route.index) in up
    )
    return Target(interfaces=found, routes=tuple(kept), sysctls=tuple(_sysctls()))


def _sysctls() -> Iterable[tuple[str, str]]:
    for name, usual in SYSCTLS.items():
        try:
            with open("/proc/sys/" + name.replace(".", "/")) as file:
                value = file.read().strip()
        except OSError:
            continue
        if value != usual:
            yield name, value


def described(
    interfaces: Iterable[str], routes: Iterable[str], *, forwarding: bool = False
) -> Target:
    """A target in words: `wan0=203.0.113.10/24,2001:db8::10/64`, `0.0.0.0/0 via 203.0.113.1`."""
    found = tuple(_interface(text) for text in interfaces)
    names = [each.name for each in found]
    for name in names:
        if names.count(name) > 1:
            raise UsageError("interface", f"interface {name} is named twice")
    sysctls = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding") if forwarding else ()
    return Target(
        interfaces=found,
        routes=tuple(_route(text, names) for text in routes),
        sysctls=tuple((name, "1") for name in sysctls),
    )


def _interface(text: str) -> TargetInterface:
    name, _, listed = text.partition("=")
    if not name or len(name.encode()) > 15 or "/" in name or name in (".", "..", LOOPBACK):
        raise UsageError(
            "interface", f"{name!r} cannot be an interface's name", hint="as eth0=ADDRESS"
        )
    addresses = []
    for address in filter(None, listed.split(",")):
        try:
            parsed = ip_interface(address)
        except ValueError:
            message = f"{address!r} is no address with a prefix length"
            raise UsageError("interface", message, hint="as 203.0.113.10/24") from None
        addresses.append(f"{parsed.ip}/{parsed.network.prefixlen}")
    return TargetInterface(name=name, addresses=tuple(addresses))


def _route(text: str, names: Sequence[str]) -> TargetRoute:
    words = text.split()
    said = dict(zip(words[1::2], words[2::2], strict=False))
    hint = "as `0.0.0.0/0 via 203.0.113.1 dev wan0`"
    if not words or len(words) % 2 == 0 or said.keys() - {"via", "dev", "metric"}:
        raise UsageError("route", f"{text!r} is no route", hint=hint)
    interface = said.get("dev")
    if interface is not None and interface not in names:
        raise UsageError("route", f"{text!r}: there is no interface {interface}", hint=hint)
    try:
        to = ip_network("0.0.0.0/0" if words[0] == "default" else words[0])
        via = str(ip_address(said["via"])) if "via" in said else None
        metric = int(said["metric"]) if "metric" in said else None
    except ValueError as error:
        raise UsageError("route", f"{text!r}: {error}", hint=hint) from None
    if via is None and interface is None:
        raise UsageError("route", f"{text!r} leads nowhere", hint=hint)
    return TargetRoute(to=str(to), via=via, interface=interface, metric=metric)
