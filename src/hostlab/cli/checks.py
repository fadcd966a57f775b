"""`hostlab check`: what must hold in a lab, judged."""

from __future__ import annotations

import socket
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from hostlab.cli.output import (
    coloured,
    json_option,
    print_json,
    print_table,
    write_text,
)
from hostlab.cli.targets import complete_lab, lab_named
from hostlab.errors import UsageError
from hostlab.terminal import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hostlab.api import Lab
    from hostlab.checks.access import HostAccess
    from hostlab.checks.run import Run
    from hostlab.checks.verdict import Verdict
    from hostlab.spec import Check

    Command = Callable[..., Any]


def _file_option(name: str, text: str) -> Callable[[Command], Command]:
    return click.option(name, type=click.Path(dir_okay=False), metavar="FILE", help=text)


@click.command("check", epilog="Example: hostlab check hello --host 'web*' --report out")
@click.argument("lab", required=False, shell_complete=complete_lab)
@click.option("--host", "hosts", multiple=True, metavar="NAME", help="Of this node, or `web*`.")
@click.option("--role", "roles", multiple=True, metavar="NAME", help="Of nodes with this role.")
@click.option("-k", "words", multiple=True, metavar="TEXT", help="Checks whose line has this.")
@click.option("--list", "only_list", is_flag=True, help="Tell what would be judged, and where.")
@click.option(
    "--report",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Write a page, index.html, and report.json for `hostlab report`.",
)
@click.option(
    "--packets",
    is_flag=True,
    help="With --report: ask once more what fails, and keep what passes its node then.",
)
@_file_option("--junit", "Write JUnit's XML.")
@_file_option("--tap", "Write TAP version 14.")
@_file_option("--prometheus", "Write metrics for node_exporter's textfile collector.")
@click.option("--watch", is_flag=True, help="Judge again when something happens, until ^C.")
@click.option(
    "--every",
    type=float,
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="With --watch: how often to look at what nobody tells of.",
)
@click.option("--count", type=click.IntRange(1), help="With --watch: end after so many changes.")
@click.option("--live", is_flag=True, help="On this machine itself, not in a lab.")
@click.option(
    "--ssh",
    "inventory",
    type=click.Path(dir_okay=False),
    metavar="INVENTORY",
    help="On these hosts: of Ansible, an ssh_config, or a file of names.",
)
@json_option
def check_command(
    lab: str | None,
    *,
    watch: bool,
    every: float,
    count: int | None,
    live: bool,
    inventory: str | None,
    hosts: tuple[str, ...],
    roles: tuple[str, ...],
    words: tuple[str, ...],
    only_list: bool,
    report: str | None,
    packets: bool,
    junit: str | None,
    tap: str | None,
    prometheus: str | None,
    as_json: bool,
) -> int:
    """Judge the checks of a lab, by its name or its description; exit 1 if one does not hold.

    Exit 3 if none fails but one could not be judged. `--host`, `--role` and `-k` may be given
    several times. With `--live` or `--ssh` LAB is a description's file, and no lab has to be up.
    """
    from hostlab.checks.selecting import selected
    from hostlab.cli.reports import make_room

    if packets and (not report or live or inventory):
        raise UsageError("packets", "--packets is for a lab, and goes into a --report")
    found, access = _place(lab, hosts, live=live, inventory=inventory)
    checks = selected(found.description, hosts=hosts, roles=roles, words=words)
    differs = _differs(found) if access is None else ""
    if only_list:
        _list(checks, found.description.secrets, as_json=as_json)
        return 0
    make_room(report, junit, tap, prometheus)
    run = judged(found, checks, as_json=as_json, access=access, stale=differs)
    if report and access is None:
        run = _explained(found, checks, run, report, packets=packets)
    _write(run, report=report, junit=junit, tap=tap, prometheus=prometheus)
    if report and not as_json:
        print(f"the page: {report}/index.html")
    if watch:
        from hostlab.cli.check_watch import Watching

        def again() -> tuple[Lab, Sequence[Check]]:
            anew, _ = _place(lab, hosts, live=live, inventory=inventory)
            nonlocal differs
            differs = _differs(anew, differs) if access is None else ""
            return anew, selected(anew.description, hosts=hosts, roles=roles, words=words)

        watching = Watching(again, access, every_s=every, count=count, as_json=as_json)
        run = watching.follow(run, lab)
        _write(run, report=report, junit=junit, tap=tap, prometheus=prometheus)
    return run.report.exit_code


def _explained(
    lab: Lab, checks: Sequence[Check], run: Run, directory: str, *, packets: bool
) -> Run:
    """The same judgement; what fails with what its node's jobs wrote, and with packets."""
    from msgspec.structs import replace

    from hostlab.checks import evidence

    if run.report.exit_code != 1:
        return run
    nodes, secrets = lab.nodes(), lab.description.secrets
    report = evidence.with_logs(run.report, nodes, lab.description)
    if packets:
        report = evidence.with_packets(report, checks, nodes, directory, secrets)
    return replace(run, report=report)


def _list(checks: Sequence[Check], secrets: Sequence[str], *, as_json: bool) -> None:
    from hostlab.checks.secrets import Masking
    from hostlab.checks.selecting import said

    masking = Masking(secrets)
    rows = [
        {
            "node": node,
            "check": masking.text(said(check)),
            "within_s": check.within_s,
            "place": check.place,
        }
        for check in checks
        for node in check.nodes
    ]
    if as_json:
        print_json(rows)
    elif not rows:
        print("nothing would be judged")
    else:
        print_table(("HOST", "CHECK"), [(row["node"], row["check"]) for row in rows])


def _place(
    lab: str | None, hosts: tuple[str, ...], *, live: bool, inventory: str | None
) -> tuple[Lab, Mapping[str, HostAccess] | None]:
    """What is judged, and where: None is the lab itself."""
    if live and inventory:
        raise UsageError("place", "--live and --ssh exclude each other")
    if not live and inventory is None:
        return lab_named(lab), None
    from hostlab.api import Lab
    from hostlab.checks import outside
    from hostlab.checks.inventory import parse

    if lab is None:
        hint = "its checks need no lab: `hostlab check FILE --live`"
        raise UsageError("place", "the file of a description is wanted", hint=hint)
    described = lab_named(lab).description
    if inventory is None:
        only, access = outside.live(described, hosts, socket.gethostname())
        return Lab(only), access
    try:
        with open(inventory, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError as error:
        raise UsageError("inventory", f"{inventory}: {error.strerror}") from None
    several, ways = outside.by_ssh(described, parse(text, inventory), inventory)
    return Lab(several), ways


def judged(
    lab: Lab,
    checks: Sequence[Check] | None = None,
    *,
    as_json: bool,
    access: Mapping[str, HostAccess] | None = None,
    stale: str = "",
) -> Run:
    """The lab's checks, or these, judged and shown; elsewhere than in the lab by `access`.

    `stale` says how the lab differs from the file that describes it.
    """
    from msgspec.structs import replace

    from hostlab.checks.run import run_of

    began = time.time()
    try:
        report = lab.check(checks, progress=None if as_json else _show, access=access)
    except UsageError as problem:
        if problem.code != "no-lab" or lab.file is None:
            raise
        hint = f"stage it and judge it: `hostlab up --check {lab.file}`"
        raise UsageError(problem.code, problem.message, hint=hint) from None
    report = replace(report, stale=stale)
    if as_json:
        print_json(report)
    else:
        print(report.summary())
        if not report.ok and access is None:
            _tell_standing(lab.name)
    return run_of(lab.description, report, began=began)


def _tell_standing(lab: str) -> None:
    """What is broken on purpose may be why."""
    from hostlab.cli.standing import standing

    text = standing(lab)
    if text:
        print(f"warning: {text}", file=sys.stderr)


def _differs(lab: Lab, told: str = "") -> str:
    """`stale`, which is said on standard error as well, unless it was told."""
    from hostlab.cli.stale import stale

    text = stale(lab)
    if text and text != told:
        print(f"warning: {plain(text)}", file=sys.stderr)
    return text


def _show(verdict: Verdict) -> None:
    from hostlab.checks.verdict import SIGNS

    print(f"{coloured(SIGNS[verdict.outcome], good=verdict.ok)} {verdict}")


def _write(
    run: Run, *, report: str | None, junit: str | None, tap: str | None, prometheus: str | None
) -> None:
    from hostlab.cli.reports import write_report

    if report:
        write_report(report, run)
    if junit or tap or prometheus:
        from hostlab.checks import formats

        for path, made in (
            (junit, formats.junit),
            (tap, formats.tap),
            (prometheus, formats.prometheus),
        ):
            if path:
                write_text(path, made(run))
