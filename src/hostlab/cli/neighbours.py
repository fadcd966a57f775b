"""`hostlab neighbours`: which MAC address each IP address has, as nodes know it."""

from __future__ import annotations

import click
import msgspec

from hostlab.cli.output import json_option, print_json, print_table
from hostlab.cli.targets import complete_node, described_nodes


@click.command("neighbours", epilog="Example: hostlab neighbours r1")
@click.argument("node", required=False, shell_complete=complete_node)
@json_option
def neighbours_command(node: str | None, *, as_json: bool) -> None:
    """Show the neighbours that NODE knows or asks for, or those of every node of the lab.

    `given` are those that hostlab entered when the node came up; the others it has asked for.
    """
    from hostlab.observe.neighbours import Hosts, known

    rows = [
        (found.name, neighbour)
        for found, lab in described_nodes(node)
        for neighbour in known(found.pid, Hosts.of(lab))
    ]
    if as_json:
        print_json([{"node": name, **msgspec.to_builtins(row)} for name, row in rows])
        return
    print_table(
        ("NODE", "INTERFACE", "ADDRESS", "MAC", "HOST", "STATE"),
        [
            (name, n.interface, n.address, n.mac, n.host, "given" if n.given else n.state)
            for name, n in rows
        ],
    )
