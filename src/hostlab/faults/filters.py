"""Frames that the switch drops: a table of nftables in the lab's switch namespace for each fault.

Everything that goes from one node to another is forwarded by a bridge there, ARP too, so a rule
on the way in from a port, or out to it, is a one-way loss, and carriers stay. The node itself is
not touched and cannot see it. A table belongs to one fault and is taken away whole.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from hostlab.errors import Failed, Unsupported, UsageError
from hostlab.faults.site import NETWORK, Site, State
from hostlab.lab.segments import port_name, stand_in_name
from hostlab.linux import rtnetlink
from hostlab.linux.netlink import Netlink
from hostlab.linux.route_lookup import forwards
from hostlab.linux.running import run_inside
from hostlab.spec import faults
from hostlab.spec.faults import option
from hostlab.spec.model import Fault

TIMEOUT_S: Final = 60.0
"""nft takes milliseconds; this is for a machine that is swapping."""
PARTS: Final = 1_000_000
"""A share of packets is told in these."""


def look(site: Site, fault: Fault, number: int) -> State:
    """The rules, with the ports as they are now."""
    links = faults.links(fault, site.lab)
    if not links:
        message = f"{fault.on} has no link of its own that could be cut"
        raise UsageError("fault-target", message, hint="it may share another node's network")
    ports = site.ports(links)
    own = _own_addresses(site, fault.on) if fault.kind == "port-filtered" else None
    return {"table": f"hostlab_fault_{number}", "rules": _rules(fault, ports, own)}


def _own_addresses(site: Site, node: str) -> list[str] | None:
    """The addresses of a node that forwards, for what it only hands on is not to its port.

    None for another: whatever comes to it is for it, also to an address that it will have.
    """

    def work() -> list[str] | None:
        with Netlink() as netlink:
            links = rtnetlink.links(netlink)
            if not any(
                forwards(netlink, family, link.index) for link in links for family in (4, 6)
            ):
                return None
            return [address for _, address in rtnetlink.addresses(netlink)]

    found: list[str] | None = site.in_network(node, work)
    return found


def _rules(
    fault: Fault, ports: Mapping[tuple[str, str], int], own: Sequence[str] | None
) -> list[str]:
    enters, leaves = (_ends(way, ports.values()) for way in ("iifname", "oifname"))
    match fault.kind:
        case "one-way-loss":
            parts = max(1, round(option(fault, "loss") * PARTS))
            some = "" if parts == PARTS else f" numgen random mod {PARTS} < {parts}"
            ways = leaves if option(fault, "direction") == "in" else enters
            return [f"{way}{some} drop" for way in ways]
        case "partition":
            apart = option(fault, "apart")
            one = [port for (node, _), port in ports.items() if node in apart]
            other = [port for (node, _), port in ports.items() if node not in apart]
            return [
                f"{enter} {leave} drop"
                for here, there in ((one, other), (other, one))
                for enter in _ends("iifname", here)
                for leave in _ends("oifname", there)
            ]
        case "port-filtered":
            what = f"{option(fault, 'protocol')} dport {option(fault, 'port')} drop"
            return [f"{way}{to} {what}" for way in leaves for to in _to(own)]
        case _:
            return [f"{way} drop" for way in (*enters, *leaves)]


def _ends(word: str, ports: Collection[int]) -> list[str]:
    """What says that a frame comes or goes by one of these ports, or by what stands in for it.

    Only several need a set, which the kernel takes milliseconds to free.
    """
    names = [f'"{name}"' for port in ports for name in (port_name(port), stand_in_name(port))]
    if len(ports) == 1:
        return [f"{word} {name}" for name in names]
    return [f"{word} {{ {', '.join(names)} }}"]


def _to(own: Sequence[str] | None) -> list[str]:
    """What says that a packet is for one of these addresses; of None, any is."""
    if own is None:
        return [""]
    bare = [address.partition("/")[0] for address in own]
    families = {
        "ip": [each for each in bare if ":" not in each],
        "ip6": [each for each in bare if ":" in each],
    }
    return [f" {word} daddr {{ {', '.join(each)} }}" for word, each in families.items() if each]


def apply(site: Site, fault: Fault, state: State) -> None:
    """Load the table, in one transaction."""
    rules = "".join(f"    {rule}\n" for rule in state["rules"])
    chain = f"type filter hook forward priority -400; policy accept;\n{rules}"
    load(site.hub, f"table bridge {state['table']} {{\n  chain forward {{\n{chain}  }}\n}}\n")


def undo(site: Site, fault: Fault, state: State) -> None:
    """Take the table away, if it is there."""
    table = f"table bridge {state['table']}"
    load(site.hub, f"add {table}\ndelete {table}\n")


def load(pid: int, text: str) -> None:
    """Have nft carry out a text in a process' network; Failed with what it says."""
    try:
        done = run_inside(
            pid, NETWORK, ("nft", "-f", "-"), stdin=text.encode(), timeout_s=TIMEOUT_S
        )
    except FileNotFoundError:
        message = "this fault is a packet filter, and nft is not here"
        raise Unsupported("no-nft", message, hint="apt-get install nftables") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise Failed("fault", f"nft refuses the fault's rules: {said}")
