"""Commands about what was applied before, and what is loaded at boot."""

from __future__ import annotations

import time
from typing import Any

import click

from hostlab.cli.firewall_apply import How, live_options, look_after, machine_place, put_live
from hostlab.cli.output import json_option, print_json, print_table
from hostlab.errors import Failed


@click.command("history", epilog="Example: hostlab firewall history")
@json_option
def history_command(*, as_json: bool) -> None:
    """List what was applied and confirmed, oldest first."""
    from hostlab.firewall import history

    # Whoever was killed between the word and its record has left that to the next.
    look_after(machine_place())
    found = history.entries()
    if as_json:
        print_json(found)
        return
    rows = [
        (each.number, time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each.at)), each.who,
         each.source)
        for each in found
    ]  # fmt: skip
    print_table(("NUMBER", "AT", "WHO", "SOURCE"), rows)


@click.command("rollback", epilog="Example: hostlab firewall rollback 3 --live")
@click.argument("number", type=int)
@live_options
def rollback_command(number: int, **options: Any) -> None:
    """Put the rules live that were there before change NUMBER, with the same care as `apply`.

    What that change and those behind it did beside rules is taken back, too.
    """
    from hostlab.firewall import history

    wanted = history.entry(number).before
    operations = history.undoing(number)
    put_live(f"before change {number}", wanted, How(**options), operations=operations)


@click.command("persist", epilog="Example: hostlab firewall persist")
def persist_command() -> None:
    """Write what is confirmed where Debian's nftables and iptables-persistent load it at boot."""
    from hostlab.firewall import history
    from hostlab.firewall.change import UNDER_WAY

    place = machine_place()
    look_after(place)
    change, applied = place.read(), place.read_applied()
    if change is not None and change.phase in UNDER_WAY:
        raise Failed(
            "unconfirmed",
            "what was applied last is not confirmed, so it is not kept",
            hint="`hostlab firewall confirm` from a new connection",
        )
    if applied is None:
        raise Failed("unconfirmed", "nothing was applied and confirmed since the machine booted")
    for path in history.persist(applied):
        print(path)
