"""The command that lists devices as three ways tell of them, and follows them."""

from __future__ import annotations

import contextlib
import sys
from datetime import datetime
from typing import TYPE_CHECKING

import click
import msgspec

from hostlab.cli.output import json_option, print_json, print_table
from hostlab.cli.targets import complete_node, one_node

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hostlab.init.devices.watching import Sight


@click.command("devices", epilog="Example: hostlab devices --watch --node desk")
@click.option("-n", "--node", shell_complete=complete_node, help="NODE or LAB/NODE, not here.")
@click.option("-w", "--watch", is_flag=True, help="Go on with what comes and goes, until ^C.")
@click.option("--count", type=click.IntRange(1), help="With --watch: end after so many lines.")
@json_option
def devices_command(*, node: str | None, watch: bool, count: int | None, as_json: bool) -> None:
    """List block and USB devices, and who sees them: the kernel, udev, UDisks2 on D-Bus.

    With --watch each of the three tells what it hears, as it comes; --json is a line for each then.
    """
    from hostlab.observe.devices import listed, sights

    pid = None if node is None else one_node(node).pid
    with contextlib.closing(sights(pid, watch=watch)) as found:
        if watch:
            with contextlib.suppress(KeyboardInterrupt):
                _follow(found, count, as_json=as_json)
            return
        every = list(found)
    for sight in every:
        if sight.note:
            print(f"{sight.way}: {sight.note}", file=sys.stderr)
    rows = listed(every)
    if as_json:
        print_json(rows)
        return
    table = [
        (
            row.name,
            row.devtype or row.subsystem,
            row.devname or None,
            row.model or None,
            row.serial or None,
            row.label or None,
            " ".join(row.mountpoints) or None,
            ", ".join(row.seen_by),
        )
        for row in rows
    ]
    head = ("NAME", "TYPE", "FILE", "MODEL", "SERIAL", "LABEL", "MOUNTED", "SEEN BY")
    print_table(head, table)


def _follow(found: Iterator[Sight], count: int | None, *, as_json: bool) -> None:
    """Print what comes; what is there already is the other list's matter."""
    from hostlab.init.devices.watching import LISTENING, THERE

    printed = 0
    for sight in found:
        if sight.note:
            print(f"{sight.way}: {sight.note}", file=sys.stderr, flush=True)
            continue
        if sight.action in (LISTENING, THERE):
            continue
        if as_json:
            sys.stdout.write(msgspec.json.encode(sight).decode() + "\n")
        else:
            print(_line(sight))
        sys.stdout.flush()
        printed += 1
        if printed == count:
            return


def _line(sight: Sight) -> str:
    at = datetime.fromtimestamp(sight.time).astimezone()
    about = " ".join(
        part for part in (sight.model, sight.serial, sight.label, sight.mountpoint) if part
    )
    name = sight.devname or sight.path
    text = f"{at:%H:%M:%S.%f}"[:-3]
    return f"{text} {sight.way:<7} {sight.action:<16} {sight.subsystem:<12} {name} {about}".rstrip()
