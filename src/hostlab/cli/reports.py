"""`hostlab report`: judgements that were kept; shown, made a page of, compared, merged."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

import click

from hostlab.cli.output import (
    coloured,
    json_option,
    print_json,
    print_table,
    write_text,
)
from hostlab.errors import UsageError
from hostlab.terminal import plain

if TYPE_CHECKING:
    from hostlab.checks.changes import Changed
    from hostlab.checks.run import Run

_REPORT = click.argument("report", type=click.Path())
_GOOD = ("mended", "new", "gone")


@click.group("report", epilog="Example: hostlab report diff yesterday today")
def report_command() -> None:
    """Look at reports that `hostlab check --report DIR` made: DIR, or the file in it."""


@report_command.command("show", epilog="Example: hostlab report show out")
@_REPORT
@json_option
def show_command(report: str, *, as_json: bool) -> int:
    """Print a matrix of hosts and checks, then what does not hold; exit as `check` did."""
    from hostlab.checks.run import read_run

    run = read_run(report)
    if as_json:
        print_json(run)
    else:
        _matrix(run)
    return run.report.exit_code


def _matrix(run: Run) -> None:
    from hostlab.checks.verdict import SIGNS

    cells = run.cells()
    checks = list(dict.fromkeys(check for _, check in cells))
    for number, check in enumerate(checks, 1):
        print(f"{number:>3}  {plain(check)}")
    print()
    rows = []
    for host in run.hosts:
        found = [cells.get((host.name, check)) for check in checks]
        signs = (SIGNS[each.outcome] if each else "–" for each in found)
        rows.append((host.name, ", ".join(host.roles) or "-", *signs))
    print_table(("HOST", "ROLES", *map(str, range(1, len(checks) + 1))), rows)
    print()
    for row in run.report.rows:
        if not row.ok:
            print(f"{coloured(SIGNS[row.outcome], good=False)} {row}")
    print(run.report.summary())


@report_command.command("page", epilog="Example: hostlab report page out matrix.html")
@_REPORT
@click.argument("file", type=click.Path(dir_okay=False))
def page_command(report: str, file: str) -> None:
    """Write a report's page once more: one FILE that needs nothing else."""
    from hostlab.checks.page import page
    from hostlab.checks.run import read_run

    write_text(file, page(read_run(report)))


@report_command.command("diff", epilog="Example: hostlab report diff monday tuesday wednesday")
@click.argument("reports", nargs=-1, required=True, type=click.Path())
@json_option
def diff_command(reports: tuple[str, ...], *, as_json: bool) -> int:
    """Tell what has changed between the last two of REPORTS; exit 1 if something does not hold.

    Earlier ones, the oldest first, tell what is flaky: its verdict has changed more than once.
    """
    from hostlab.checks.changes import compare
    from hostlab.checks.run import read_run

    if len(reports) < 2:
        raise UsageError("report", "two reports are compared", hint="hostlab report diff OLD NEW")
    runs = [read_run(each) for each in reports]
    changed = compare(runs)
    if as_json:
        print_json(changed)
    else:
        _print_changes(changed)
    return runs[-1].report.exit_code


def _print_changes(changed: list[Changed]) -> None:
    if not changed:
        print("nothing has changed, and everything holds")
    for each in changed:
        word = coloured(f"{each.change.value:<13}", good=each.change.value in _GOOD)
        flaky = "  (flaky)" if each.flaky else ""
        print(f"{word} {plain(f'{each.node}: {each.check}')}{flaky}")
        if each.change.value not in _GOOD:
            print(f"              {plain(each.seen)}")


@report_command.command("merge", epilog="Example: hostlab report merge all monday tuesday")
@click.argument("directory", type=click.Path(file_okay=False))
@click.argument("reports", nargs=-1, required=True, type=click.Path())
def merge_command(directory: str, reports: tuple[str, ...]) -> int:
    """Make one report, in DIRECTORY, of several; of a verdict that two have the later counts.

    That is told where they are of different labs, whose hosts may only be called alike.
    """
    from hostlab.checks.run import in_several_labs, merged, read_run

    runs = [read_run(each) for each in reports]
    if alike := in_several_labs(runs):
        first = plain(": ".join(alike[0]))
        more = f" and {len(alike) - 1} more" if len(alike) > 1 else ""
        text = f"several labs have {first}{more}; of each the later verdict is kept"
        print(f"warning: {text}", file=sys.stderr)
    run = merged(runs)
    write_report(directory, run)
    print(run.report.summary())
    return run.report.exit_code


@report_command.command("serve", epilog="Example: hostlab report serve out --port 8000")
@_REPORT
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0, any that is free.")
def serve_command(report: str, port: int) -> None:
    """Serve a report's page, or a directory of several, on 127.0.0.1, until ^C."""
    from hostlab.checks.run import read_run
    from hostlab.checks.serving import reports_in, server

    if not list(reports_in(report)):
        read_run(report)
    try:
        serving = server(report, port)
    except OSError as error:
        raise UsageError("port", f"port {port}: {error.strerror}") from None
    with serving, contextlib.suppress(KeyboardInterrupt):
        print(f"http://127.0.0.1:{serving.server_port}/", flush=True)
        serving.serve_forever()


@report_command.command("schema", epilog="Example: hostlab report schema > report.schema.json")
def schema_command() -> None:
    """Print the JSON Schema of report.json."""
    from hostlab.checks.run import report_schema

    print_json(report_schema())


def write_report(directory: str, run: Run) -> None:
    """A judgement's page and its file, each whole or not at all."""
    import msgspec

    from hostlab.checks.page import page
    from hostlab.checks.run import FILE

    make_room(directory)
    write_text(f"{directory}/{FILE}", msgspec.json.encode(run).decode())
    write_text(f"{directory}/index.html", page(run))


def make_room(directory: str | None, *files: str | None) -> None:
    """Have a directory for a report, and see that there are those of files that are to be written.

    UsageError where that is not so: better before a long judgement than after it.
    """
    try:
        if directory is not None:
            os.makedirs(directory, exist_ok=True)
        for path in filter(None, files):
            os.stat(os.path.dirname(path) or ".")
    except OSError as error:
        raise UsageError("output", f"{error.filename}: {error.strerror}") from None
