"""The commands that break something on purpose, and mend it."""

from __future__ import annotations

import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING

import click

from hostlab.cli.output import json_option, print_json, print_table
from hostlab.cli.targets import complete_lab, only_lab

if TYPE_CHECKING:
    from hostlab.faults.record import Standing
    from hostlab.faults.site import Site


@click.group("fault")
def fault_command() -> None:
    """Break something on purpose, see whether the checks still hold, mend it."""


_lab_option = click.option(
    "-l", "--lab", help="Needed only where several labs are up.", shell_complete=complete_lab
)


def _site(lab: str | None) -> Site:
    from hostlab.faults.site import Site

    return Site.of(lab if lab is not None else only_lab())


@fault_command.command("kinds", epilog="Example: hostlab fault kinds")
@json_option
def kinds_command(*, as_json: bool) -> None:
    """List the faults, what each is done to, and its options."""
    from hostlab.spec.faults import KINDS

    if as_json:
        print_json(
            [
                {
                    "kind": kind.name,
                    "targets": list(kind.forms),
                    "meaning": kind.meaning,
                    "options": [
                        {"name": o.name, "meaning": o.meaning, "default": o.default}
                        for o in kind.options
                    ],
                }
                for kind in KINDS.values()
            ]
        )
        return
    for kind in KINDS.values():
        print(kind.usage)
        print(f"    {kind.meaning}")
        for option in kind.options:
            default = "" if option.default is None else f"; {option.default} when left out"
            print(f"    {option.name}: {option.meaning}{default}")


@fault_command.command(
    "inject", epilog="Example: hostlab fault inject one-way-loss r1:eth0 loss=30%"
)
@click.argument("kind")
@click.argument("target")
@click.argument("options", nargs=-1, metavar="[NAME=VALUE]…")
@_lab_option
@json_option
def inject_command(
    kind: str, target: str, options: tuple[str, ...], *, lab: str | None, as_json: bool
) -> None:
    """Break something: a node, NODE:INTERFACE, a segment, NODE/JOB, or several with commas.

    It stays broken until it is cleared. A role, and `*`, stand for their nodes.
    """
    from hostlab.faults.injecting import inject
    from hostlab.spec.faults import parse

    site = _site(lab)
    done = inject(site, parse((kind, target, *options), site.lab))
    if as_json:
        print_json([_row(each) for each in done])
    for each in () if as_json else done:
        print(f"{each.number} {each.fault}")


@fault_command.command("clear", epilog="Example: hostlab fault clear 3")
@click.argument("numbers", nargs=-1, type=int)
@click.option("--all", "every", is_flag=True, help="Every fault of the lab.")
@_lab_option
@json_option
def clear_command(numbers: tuple[int, ...], *, every: bool, lab: str | None, as_json: bool) -> None:
    """Take faults back, by their numbers; without one, the only one that there is."""
    from hostlab.errors import UsageError
    from hostlab.faults.injecting import clear, injected

    site = _site(lab)
    there = injected(site)
    if not numbers and not every and len(there) > 1:
        known = ", ".join(f"{each.number} ({each.fault})" for each in there)
        raise UsageError("which-fault", f"several faults stand: {known}", hint="name them: --all")
    done = clear(site, numbers or None)
    if as_json:
        print_json([_row(each) for each in done])
        return
    for each in done:
        print(f"cleared {each.number} {each.fault} ({time.time() - each.since:.1f} s)")
    if not done:
        print("nothing is broken")


@fault_command.command("list", epilog="Example: hostlab fault list --history")
@click.option("--history", is_flag=True, help="Every fault and clearing since the lab is up.")
@_lab_option
@json_option
def list_command(*, history: bool, lab: str | None, as_json: bool) -> None:
    """List what is broken on purpose."""
    from hostlab.faults import record
    from hostlab.faults.injecting import injected

    site = _site(lab)
    if history:
        lines = record.read(site.directory)
        named = {line.number: line.fault for line in lines if line.fault is not None}
        rows = [
            {"time": x.time, "number": x.number, "what": x.phase, "fault": str(named[x.number])}
            for x in lines
            if x.number in named and x.phase is not record.Phase.BEGUN
        ]
        if as_json:
            print_json(rows)
        else:
            print_table(
                ("TIME", "NUMBER", "WHAT", "FAULT"),
                [
                    (_clock(x.time), x.number, x.phase, named[x.number])
                    for x in lines
                    if x.number in named and x.phase is not record.Phase.BEGUN
                ],
            )
        return
    there = injected(site)
    if as_json:
        print_json([_row(each) for each in there])
        return
    table = [(e.number, e.fault, e.phase, _clock(e.since)) for e in there]
    print_table(("NUMBER", "FAULT", "STATE", "SINCE"), table)
    if not there:
        print("nothing is broken", file=sys.stderr)


def _row(standing: Standing) -> dict[str, object]:
    fault = standing.fault
    return {
        "number": standing.number,
        "kind": fault.kind,
        "on": fault.on,
        "options": dict(fault.options),
        "state": standing.phase,
        "since": standing.since,
    }


def _clock(wall: float) -> str:
    return datetime.fromtimestamp(wall).astimezone().strftime("%H:%M:%S.%f")
