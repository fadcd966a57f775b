"""`hostlab path`: the way from one node to another, as the kernels decide."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

import click

from hostlab.cli.output import coloured, json_option, print_json
from hostlab.cli.targets import complete_node, lab_named, lab_of
from hostlab.errors import UsageError

if TYPE_CHECKING:
    from hostlab.api import Lab
    from hostlab.observe.path import Path


@click.command("path", epilog="Example: hostlab path alice bob")
@click.argument("start", metavar="A", shell_complete=complete_node)
@click.argument("end", metavar="B", shell_complete=complete_node)
@click.option("-4", "family", flag_value=4, type=int, help="IPv4 only.")
@click.option("-6", "family", flag_value=6, type=int, help="IPv6 only.")
@json_option
def path_command(start: str, end: str, *, family: int | None, as_json: bool) -> int:
    """Follow the way from A to B through the kernels of the lab; exit 1 when it does not get there.

    A and B are nodes, NODE:INTERFACE, or addresses. No packet is sent: each kernel is asked where
    it would send one. Routes of equal cost are branches. Firewalls are not asked: `hostlab firewall
    ask` does that.
    """
    lab, start, end = _lab_and_ends(start, end)
    found = lab.paths(start, end, family=family)
    if as_json:
        print_json([_value(one) for one in found])
    else:
        for number, one in enumerate(found):
            _print(one, end, apart=number > 0)
    return 0 if all(one.reaches for one in found) else 1


def _lab_and_ends(start: str, end: str) -> tuple[Lab, str, str]:
    """The lab, and both ends without its name; UsageError when they are of two."""
    labs = {text.partition("/")[0] for text in (start, end) if "/" in text}
    if len(labs) > 1:
        raise UsageError("usage", "both ends are in one lab", hint="name one lab, or none")
    if labs:
        lab = lab_named(labs.pop())
    else:
        names = [text.partition(":")[0] for text in (start, end) if not _is_address(text)]
        lab = lab_named(lab_of(names[0]) if names else None)
    return lab, start.rpartition("/")[2], end.rpartition("/")[2]


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _value(one: Path) -> dict[str, object]:
    import msgspec

    value: dict[str, object] = msgspec.to_builtins(one)
    return {**value, "reaches": one.reaches}


def _print(one: Path, end: str, *, apart: bool) -> None:
    from hostlab.observe.path import draw

    if apart:
        print()
    source = f" ({one.source})" if one.source else ""
    target = end if end == one.destination else f"{end} ({one.destination})"
    verdict = coloured("gets there" if one.reaches else "does not get there", good=one.reaches)
    print(f"IPv{one.family}: {one.start.node}{source} to {target}: {verdict}")
    for line in draw(one.start):
        print(f"  {line}")
    for problem in one.problems:
        print(f"  {coloured('✗', good=False)} {problem}")
