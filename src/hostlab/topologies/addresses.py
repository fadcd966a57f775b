"""The plan of a lab's addresses: who has which, as rows, and as a zone of the DNS."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_interface
from typing import Final, NamedTuple

from hostlab.errors import UsageError
from hostlab.spec.model import Lab, Node
from hostlab.spec.names import LABEL_PATTERN

MAX_NAME: Final = 253
"""Of a name of the DNS as it is written (RFC 1035, section 2.3.4)."""
LOOPBACK: Final = "lo"
TTL_S: Final = 60
SERVER: Final = "ns"
"""The name server that a zone must name (RFC 1035, section 5.2); nobody has to run it."""


class Row(NamedTuple):
    """An interface with its addresses."""

    node: str
    interface: str
    segment: str | None
    """None of a loopback."""
    addresses: tuple[str, ...]
    """With the lengths of their prefixes, IPv4 first."""
    mac: str | None = None
    cost: int | None = None
    """OSPF's; None where it is not spoken."""
    router_id: str | None = None
    """The node's, where it has a routing daemon."""


def rows(lab: Lab) -> tuple[Row, ...]:
    """Every interface of the lab, by node, in the order of the description; loopbacks first."""
    return tuple(row for node in lab.nodes for row in _rows(node))


def _rows(node: Node) -> Iterator[Row]:
    routing = node.routing
    router_id = None if routing is None else routing.router_id
    ospf = None if routing is None else routing.ospf
    costs = {} if ospf is None else {each.name: each.cost for each in ospf.interfaces}
    if node.loopbacks:
        yield Row(node.name, LOOPBACK, None, node.loopbacks, router_id=router_id)
    for each in node.interfaces:
        cost = costs.get(each.name)
        yield Row(node.name, each.name, each.segment, each.addresses, each.mac, cost, router_id)


def domain_of(text: str) -> str:
    """A domain without its last dot; UsageError for what is none."""
    domain = text.removesuffix(".")
    labels = domain.split(".")
    if len(domain) > MAX_NAME or not all(re.fullmatch(LABEL_PATTERN, each) for each in labels):
        raise UsageError("domain", f"{text!r} is no domain", hint="as lab.example")
    return domain.lower()


def zone(lab: Lab, domain: str) -> str:
    """A zone (RFC 1035, section 5) with all addresses of each node, and of each interface.

    `r1` has every address of the node, `eth0.r1` those of one interface. The zone is the same for
    the same lab; its serial number is 1.
    """
    hostmaster = f"hostmaster.{domain}."
    lines = [
        f"$ORIGIN {domain}.",
        f"$TTL {TTL_S}",
        f"@ IN SOA {SERVER} {hostmaster} 1 3600 600 86400 {TTL_S}",
        f"@ IN NS {SERVER}",
        f"{SERVER} IN A 127.0.0.1",
        f"{SERVER} IN AAAA ::1",
    ]
    every = rows(lab)
    if any(row.node.lower() == SERVER and row.addresses for row in every):
        del lines[-2:]
    for name, address in (*_of_nodes(every), *_of_interfaces(every)):
        lines.append(f"{name} IN {'AAAA' if ':' in address else 'A'} {address}")
    return "\n".join(lines) + "\n"


def _of_nodes(every: tuple[Row, ...]) -> Iterator[tuple[str, str]]:
    for row in every:
        yield from ((row.node, str(ip_interface(address).ip)) for address in row.addresses)


def _of_interfaces(every: tuple[Row, ...]) -> Iterator[tuple[str, str]]:
    for row in every:
        # A few names of interfaces are none of hosts, as `lan_0`; they have no record.
        if re.fullmatch(LABEL_PATTERN, row.interface):
            name = f"{row.interface}.{row.node}"
            yield from ((name, str(ip_interface(address).ip)) for address in row.addresses)
