"""`hostlab routes`: who has which route from whom."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

import click

from hostlab.cli.output import json_option, print_json, print_table
from hostlab.cli.targets import complete_node, lab_named, nodes_named
from hostlab.errors import UsageError

if TYPE_CHECKING:
    from hostlab.observe.routing import NextHop, TableRoute

_MAIN_TABLE = 254


@click.command("routes", epilog="Example: hostlab routes r1 --to 10.3.0.0/24")
@click.argument("node", required=False, shell_complete=complete_node)
@click.option("--to", metavar="PREFIX", help="Only what leads there: an address, or a prefix and "
              "the parts of it.")  # fmt: skip
@json_option
def routes_command(node: str | None, *, to: str | None, as_json: bool) -> None:
    """Show the routes in the kernels of NODE (`LAB/*` is a lab's), and who put each there.

    PROTOCOL is the kernel's word for that: kernel, static, bird, ospf, bgp. With an address as
    --to, the route that is taken is a node's first.
    """
    from hostlab.lab.description import staged
    from hostlab.observe.routing import tables

    _check_prefix(to)
    found = list(lab_named(None)) if node is None else nodes_named(node)
    routes: dict[str, tuple[TableRoute, ...]] = {}
    for lab in dict.fromkeys(each.lab for each in found):
        described = staged(lab)
        assert described is not None, "a lab that is up was described"
        pids = {each.name: each.pid for each in found if each.lab == lab}
        for name, table in tables(described, pids, to=to).items():
            routes[name if name not in routes else f"{lab}/{name}"] = table
    if as_json:
        print_json([_row(name, route) for name, table in routes.items() for route in table])
        return
    print_table(
        ("NODE", "TO", "VIA", "INTERFACE", "PROTOCOL", "METRIC"),
        [cells for name, table in routes.items() for cells in _cells(name, table)],
    )


def _check_prefix(to: str | None) -> None:
    try:
        if to is not None:
            ip_network(to, strict=False)
    except ValueError:
        hint = "as 10.3.0.0/24, fd00::/64 or 10.3.0.7"
        raise UsageError("prefix", f"{to!r} is no prefix and no address", hint=hint) from None


def _row(name: str, route: TableRoute) -> dict[str, object]:
    hops = [hop._asdict() for hop in route.hops]
    return {**route._asdict(), "node": name, "hops": hops}


def _cells(name: str, table: tuple[TableRoute, ...]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for route in table:
        beside = "" if route.table == _MAIN_TABLE else f" (table {route.table})"
        hops = route.hops or (None,)
        for number, hop in enumerate(hops):
            to = route.to + beside if number == 0 else "  or"
            interface = hop.interface if hop is not None else None
            via = route.kind if hop is None else _via(hop)
            rows.append((name, to, via, interface, route.protocol, route.metric or None))
    return rows or [(name, "no route", None, None, None, None)]


def _via(hop: NextHop) -> str | None:
    if hop.via is None:
        return None
    return f"{hop.via} ({hop.node})" if hop.node else hop.via
