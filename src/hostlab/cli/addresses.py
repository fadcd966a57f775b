"""`hostlab addresses`: who has which, as a table, for /etc/hosts, and as a zone of the DNS."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from hostlab.cli.output import json_option, print_json, print_table
from hostlab.cli.targets import complete_lab, lab_named
from hostlab.errors import UsageError

if TYPE_CHECKING:
    from hostlab.topologies.addresses import Row


@click.command("addresses", epilog="Example: hostlab addresses lab.yaml --zone lab.example")
@click.argument("lab", required=False, shell_complete=complete_lab)
@click.option("--hosts", is_flag=True, help="As lines of /etc/hosts, which every node has as well.")
@click.option("--zone", "domain", metavar="DOMAIN", help="As a zone of the DNS for this domain.")
@json_option
def addresses_command(lab: str | None, *, hosts: bool, domain: str | None, as_json: bool) -> None:
    """Show who has which address in a LAB, by its name or its description: no lab need be up."""
    from hostlab.lab.hosts import table
    from hostlab.topologies.addresses import domain_of, rows, zone

    if sum((hosts, domain is not None, as_json)) > 1:
        raise UsageError("usage", "--hosts, --zone and --json are three forms: choose one")
    described = lab_named(lab).description
    if hosts:
        sys.stdout.write(table(described))
    elif domain is not None:
        sys.stdout.write(zone(described, domain_of(domain)))
    elif as_json:
        print_json([row._asdict() for row in rows(described)])
    else:
        _print_rows(rows(described))


def _print_rows(found: tuple[Row, ...]) -> None:
    """A table; what only routers have is left out where there is none."""
    header = ["NODE", "INTERFACE", "SEGMENT", "ADDRESS", "ADDRESS6", "MAC"]
    lines: list[list[object]] = [
        [row.node, row.interface, row.segment, *_by_family(row.addresses), row.mac] for row in found
    ]
    if any(row.router_id for row in found):
        header += ["COST", "ROUTER-ID"]
        lines = [[*line, row.cost, row.router_id] for line, row in zip(lines, found, strict=True)]
    print_table(header, lines)


def _by_family(addresses: tuple[str, ...]) -> tuple[str | None, str | None]:
    v4 = " ".join(address for address in addresses if ":" not in address)
    v6 = " ".join(address for address in addresses if ":" in address)
    return v4 or None, v6 or None
