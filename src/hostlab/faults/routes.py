"""Routes that a node's kernel does not have any more, and is given back in its own words."""

from __future__ import annotations

import errno

from hostlab.errors import Failed
from hostlab.faults.site import Site, State
from hostlab.linux import rtnetlink
from hostlab.linux.netlink import Netlink
from hostlab.spec.faults import option
from hostlab.spec.model import Fault


def look(site: Site, fault: Fault, number: int) -> State:
    """Every route of the main table to the prefix; Failed when there is none."""
    wanted = option(fault, "to")

    def work() -> list[str]:
        with Netlink() as netlink:
            told = rtnetlink.routes_as_told(netlink)
        return [body.hex() for route, body in told if route.to in wanted]

    found = site.in_network(fault.on, work)
    if not found:
        hint = f"`hostlab exec {fault.on} -- ip route` lists them"
        message = f"node {fault.on} has no route to {', '.join(wanted)}"
        raise Failed("fault", message, hint=hint)
    return {"life": site.life(fault.on), "routes": found}


def withdraw(site: Site, fault: Fault, state: State) -> None:
    """Take them away."""
    _replay(site, fault, state, add=False, unless=(errno.ESRCH,))


def put_back(site: Site, fault: Fault, state: State) -> None:
    """Add those that are missing."""
    if site.is_alive(fault.on, state["life"]):
        _replay(site, fault, state, add=True, unless=(errno.EEXIST,))


def _replay(site: Site, fault: Fault, state: State, *, add: bool, unless: tuple[int, ...]) -> None:
    def work() -> None:
        with Netlink() as netlink:
            bodies = [bytes.fromhex(text) for text in state["routes"]]
            netlink.try_each(
                (rtnetlink.route_replay(body, add=add) for body in bodies), unless=unless
            )

    site.in_network(fault.on, work)
