"""`hostlab fdb`: which MAC address is behind which port, and which end of a VXLAN."""

from __future__ import annotations

import click
import msgspec

from hostlab.cli.output import json_option, print_json, print_table
from hostlab.cli.targets import complete_node, described_nodes


@click.command("fdb", epilog="Example: hostlab fdb r1")
@click.argument("node", required=False, shell_complete=complete_node)
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Also the interfaces' own addresses, and groups that they listen to.",
)
@json_option
def fdb_command(node: str | None, *, everything: bool, as_json: bool) -> None:
    """Show the forwarding tables of bridges and VXLANs in NODE, or in every node of the lab."""
    from hostlab.observe.neighbours import Hosts, forwarding

    rows = [
        (found.name, place)
        for found, lab in described_nodes(node)
        for place in forwarding(found.pid, Hosts.of(lab))
        if everything or place.state != "own"
    ]
    if as_json:
        print_json([{"node": name, **msgspec.to_builtins(place)} for name, place in rows])
        return
    print_table(
        ("NODE", "INTERFACE", "MAC", "HOST", "BEHIND", "STATE"),
        [
            (name, p.interface, p.mac, p.host, _behind(p.bridge, p.end, p.end_host), p.state)
            for name, p in rows
        ],
    )  # fmt: skip


def _behind(bridge: str | None, end: str | None, host: str | None) -> str | None:
    if end is None:
        return f"port of {bridge}" if bridge else None
    return f"{end} ({host})" if host else end
