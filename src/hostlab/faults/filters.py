"""Frames that the switch drops: a table of nftables in the lab's switch namespace for each fault.

Everything that goes from one node to another is forwarded by a bridge there, ARP too, so a rule
on the way in from a port, or out to it, is a one-way loss, and carriers stay. The node itself is
not touched and cannot see it. A table belongs to one fault and is taken away whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hostlab.errors import Failed, Unsupported, UsageError
from hostlab.faults.site import NETWORK, Site, State, port_name, port_of
from hostlab.linux.running import run_inside
from hostlab.spec import faults
from hostlab.spec.faults import option
from hostlab.spec.model import Fault

TIMEOUT_S: Final = 60.0
"""nft takes milliseconds; this is for a machine that is swapping."""
PARTS: Final = 10_000
"""A share of packets is told in these."""


def look(site: Site, fault: Fault, number: int) -> State:
    """The rules, with the ports as they are now."""
    links = faults.links(fault, site.lab)
    if not links:
        message = f"{fault.on} has no link of its own that could be cut"
        raise UsageError("fault-target", message, hint="it may share another node's network")
    pids = {node: site.pid(node) for node, _ in links}
    found = site.in_switch(lambda: [port_name(port_of(pids[node], name)) for node, name in links])
    ports = dict(zip(links, found, strict=True))
    return {"table": f"hostlab_fault_{number}", "rules": _rules(fault, ports)}


def _rules(fault: Fault, ports: dict[tuple[str, str], str]) -> list[str]:
    every = _names(ports.values())
    match fault.kind:
        case "one-way-loss":
            way = "oifname" if option(fault, "direction") == "in" else "iifname"
            parts = round(option(fault, "loss") * PARTS)
            some = "" if parts == PARTS else f"numgen random mod {PARTS} < {parts} "
            return [f"{way} {every} {some}drop"]
        case "partition":
            sides = option(fault, "apart")
            one = _names(name for (node, _), name in ports.items() if node in sides)
            other = _names(name for (node, _), name in ports.items() if node not in sides)
            return [f"iifname {a} oifname {b} drop" for a, b in ((one, other), (other, one))]
        case "port-filtered":
            port, protocol = option(fault, "port"), option(fault, "protocol")
            return [f"oifname {every} {protocol} dport {port} drop"]
        case _:
            return [f"iifname {every} drop", f"oifname {every} drop"]


def _names(names: Iterable[str]) -> str:
    """Only several need a set, which the kernel takes milliseconds to free."""
    quoted = [f'"{name}"' for name in names]
    return quoted[0] if len(quoted) == 1 else "{ " + ", ".join(quoted) + " }"


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
