"""`hostlab firewall matrix`: who may reach what, as it is meant beside as it is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from hostlab.cli.firewall_ask import RULESET, answer_row, expect_option, opened, read_expect
from hostlab.cli.firewall_stage import stage_options
from hostlab.cli.output import coloured, json_option, print_json, print_table, write_text

if TYPE_CHECKING:
    from hostlab.firewall.matrix import Cell, Matrix


@click.command(
    "matrix",
    epilog="Example: hostlab firewall matrix rules.sh --expect zones.yaml --html matrix.html",
)
@RULESET
@expect_option
@click.option(
    "--html",
    type=click.Path(dir_okay=False, writable=True),
    metavar="FILE",
    help="Write a page that needs nothing else.",
)
@stage_options
@json_option
def matrix_command(
    ruleset: str, *, expect: str, html: str | None, as_json: bool, **options: Any
) -> int:
    """Send packets of every service from each zone to each other; exit 1 where FILE means other.

    FILE is that of `prove`: it has zones and lines as `wan -> host: [ssh, http]`. What they do not
    allow is meant to be denied, also between zones that no line is about. What is not as meant
    stands first.
    """
    from hostlab.firewall import matrix
    from hostlab.firewall.expectations import read_zones

    stdin = sys.stdin.buffer.read() if ruleset == "-" else b""
    with opened(ruleset, stdin=stdin, **options) as found:
        zones, lines = read_zones(read_expect(expect), file=expect, target=found.target)
        made = matrix.made(zones, lines, found.prober.ask)
    if html is not None:
        from hostlab.firewall.matrix_page import page

        write_text(html, page(made, ruleset=ruleset, intent=expect))
    if as_json:
        print_json(_row(made))
    else:
        _print(made)
    return 1 if made.wrong else 0


def _row(made: Matrix) -> dict[str, Any]:
    return {
        "zones": made.zones,
        "services": made.services,
        "differences": [_cell_row(each) for each in made.wrong],
        "cells": [_cell_row(each) for each in made.cells.values()],
    }


def _cell_row(cell: Cell) -> dict[str, Any]:
    return {
        "from": cell.source,
        "to": cell.destination,
        "service": cell.service,
        "state": cell.state,
        "place": cell.place,
        "packets": [{"meant": each.end, **answer_row(each.answer)} for each in cell.probes],
    }


def _print(made: Matrix) -> None:
    from hostlab.firewall.matrix_page import SYMBOLS, WORDS

    for line in _told(made):
        print(line)
    rows = [
        (source, destination, *(_symbol(made, source, destination, each) for each in made.services))
        for destination in made.zones
        for source in made.zones
        if any((source, destination, each) in made.cells for each in made.services)
    ]
    print_table(("FROM", "TO", *made.services), rows)
    print()
    print("   ".join(f"{SYMBOLS[state]} {WORDS[state].partition(':')[0]}" for state in SYMBOLS))
    wrong = len(made.wrong)
    said = f"{wrong} of {len(made.cells)} cells are not as meant ({made.packets} packets)"
    print(coloured(said, good=not wrong))


def _symbol(made: Matrix, source: str, destination: str, service: str) -> str:
    from hostlab.firewall.matrix_page import SYMBOLS

    cell = made.cells.get((source, destination, service))
    return SYMBOLS[cell.state] if cell is not None else " "


def _told(made: Matrix) -> Iterator[str]:
    """The differences, each with the packet that shows it and the rule that decided."""
    from hostlab.firewall.matrix_page import SYMBOLS, meant
    from hostlab.firewall.packet import print_packet
    from hostlab.firewall.probing import told_step

    for each in made.differences:
        cell = each.first
        head = f"{SYMBOLS[cell.state]} {cell.source} -> {cell.destination}"
        yield coloured(f"{head}: {', '.join(each.services)}  {meant(cell)}", good=False)
        for cause in each.causes:
            answer = cause.sample.answer
            more = f"  and {cause.count - 1} more" if cause.count > 1 else ""
            yield f"    {answer.verdict.value:<7} {print_packet(answer.packet)}{more}"
            if answer.decided_by is not None:
                yield f"      by {told_step(answer.decided_by)}"
    if made.differences:
        yield ""
