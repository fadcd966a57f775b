"""`hostlab probe scan`: which ports of a node are open, as each segment sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from hostlab.cli.output import coloured, print_json, print_table
from hostlab.cli.probing import Asking, asking_options, report_of
from hostlab.cli.targets import complete_node, one_node
from hostlab.errors import UsageError

if TYPE_CHECKING:
    from hostlab.checks.verdict import Report
    from hostlab.spec import Lab

_COMMON = "1-1024"


@click.command("scan", epilog="Example: hostlab probe scan web1 --allow 80,443")
@click.argument("node", shell_complete=complete_node)
@click.option(
    "--ports",
    default=_COMMON,
    show_default=True,
    metavar="PORTS",
    help="Beside those on which it listens.",
)
@click.option("--allow", metavar="PORTS", help="Only these may be open; exit 1 if another is.")
@click.option("--from", "nodes", metavar="NODES", help="Ask from these nodes instead.")
@asking_options
def scan_command(*, node: str, ports: str, allow: str | None, asking: Asking) -> int:
    """Connect to NODE's ports from a node of every segment of its lab, and tell which are open.

    A port on which the node listens and that nobody reaches is told as well. Of TCP only.
    """
    from hostlab.probes.ports import ranges

    target = one_node(node)
    described = _description(target.lab)
    addresses = [
        each.partition("/")[0]
        for interface in described.node(target.name).interfaces
        for each in interface.addresses
    ]
    if not addresses:
        raise UsageError("scan", f"{target.name} has no address")
    listening = _listening(target.pid)
    asked_for = ranges({*_ports(ports), *listening})
    allowed = None if allow is None else set(_ports(allow))
    froms = _of_every_segment(described, target.name) if asking.nodes is None else None
    names = asking.nodes or ",".join(f"{target.lab}/{each}" for each in froms or ())
    if not names:
        raise UsageError("scan", "no other node is there to ask from", hint="say --from")
    targets = [f"[{a}]:{asked_for}" if ":" in a else f"{a}:{asked_for}" for a in addresses]
    wide = Asking(names, asking.timeout_s, asking.within_s, asking.as_json)
    report = report_of([("tcp", {"targets": targets, "want": "any"})], wide)
    return _show(report, froms or {}, listening, allowed, as_json=asking.as_json)


def _description(lab: str) -> Lab:
    from hostlab.lab.description import staged

    found = staged(lab)
    assert found is not None, "a lab that is up was described"
    return found


def _ports(text: str) -> tuple[int, ...]:
    from hostlab.probes.ports import parse_ports

    try:
        return parse_ports(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _listening(pid: int) -> frozenset[int]:
    from hostlab.observe.in_node import listening_in

    return frozenset(each.port for each in listening_in(pid, "tcp"))


def _of_every_segment(lab: Lab, target: str) -> dict[str, str]:
    """Another node of each segment -> the segment; rather one that is on no other, as a router."""
    found: dict[str, str] = {}
    for segment in lab.segments:
        here = [
            node.name
            for node in sorted(lab.nodes, key=lambda node: len(node.interfaces))
            if node.name != target and any(i.segment == segment.name for i in node.interfaces)
        ]
        fresh = [name for name in here if name not in found]
        if here and fresh:
            found[fresh[0]] = segment.name
    return found


def _show(
    report: Report,
    segments: Mapping[str, str],
    listening: frozenset[int],
    allowed: set[int] | None,
    *,
    as_json: bool,
) -> int:
    from hostlab.probes.ports import parse_ports

    seen: dict[str, dict[int, str]] = {}
    for row in report.rows:
        mine = seen.setdefault(row.node, {})
        for hows in row.facts.get("hosts", {}).values():
            for how, ports in hows.items():
                for port in parse_ports(ports):
                    # Of several addresses, the one that answers counts.
                    if mine.get(port) != "answered":
                        mine[port] = how
    open_ports = sorted({p for mine in seen.values() for p, how in mine.items() if _is_open(how)})
    bad = [] if allowed is None else [port for port in open_ports if port not in allowed]
    if as_json:
        rows: list[dict[str, Any]] = [
            {
                "port": port,
                "listens": port in listening,
                "allowed": None if allowed is None else port in allowed,
                "from": {name: mine.get(port) for name, mine in seen.items()},
            }
            for port in sorted({*open_ports, *listening})
        ]
        print_json({"ports": rows, "segments": dict(segments), "verdicts": report.rows})
    else:
        heads = [f"{name} ({segments[name]})" if name in segments else name for name in seen]
        print_table(
            ("PORT", "LISTENS", *heads),
            [
                (port, "yes" if port in listening else "no",
                 *("open" if _is_open(mine.get(port, "")) else mine.get(port) for mine in
                   seen.values()))
                for port in sorted({*open_ports, *listening})
            ],
        )  # fmt: skip
        count = f"{len(open_ports)} open, {len(listening)} listened on"
        print(f"{coloured('✗' if bad else '✓', good=not bad)} {count}"
              + (f"; not allowed: {', '.join(map(str, bad))}" if bad else ""))  # fmt: skip
    unknown = report.exit_code == 3
    return 1 if bad else 3 if unknown else 0


def _is_open(how: str) -> bool:
    return how == "answered"
