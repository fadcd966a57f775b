"""Commands about whole labs."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from hostlab.cli.output import Progress, counted, json_option, print_json, print_table
from hostlab.cli.targets import complete_lab, lab_named
from hostlab.errors import Problem, SpecError, SpecErrors, UsageError
from hostlab.lab.hub_start import HubProgram
from hostlab.lab.paths import base_directory, labs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hostlab.api import Lab
    from hostlab.routing.convergence import Converged
    from hostlab.spec import Lab as Description

_file = click.argument("file", type=click.Path(), shell_complete=complete_lab)
_lab = click.argument("lab", required=False, shell_complete=complete_lab)


@click.command("validate", epilog="Example: hostlab validate lab.yaml")
@click.argument("files", nargs=-1, required=True, type=click.Path())
@json_option
def validate_command(files: tuple[str, ...], *, as_json: bool) -> int:
    """Read descriptions and name every error with file:line:column. `-` is standard input."""
    from hostlab.lab.description import read_lab

    errors: list[SpecError] = []
    rows: list[dict[str, Any]] = []
    for file in files:
        try:
            lab = read_lab(file)
        except SpecErrors as found:
            errors += found.errors
            continue
        rows.append({"file": file, "name": lab.name, "nodes": len(lab.nodes), "notes": _notes(lab)})
    if as_json:
        print_json({"valid": rows, "errors": [_error_row(error) for error in errors]})
    else:
        for row in rows:
            print(f"{row['file']}: {row['name']}, {counted(row['nodes'], 'node')}")
            for note in row["notes"]:
                print(f"note: {note}", file=sys.stderr)
        for error in errors:
            print(error, file=sys.stderr)
    return 2 if errors else 0


def _notes(lab: Description) -> list[str]:
    """What may not have been meant, each once however many nodes share it."""
    from hostlab.jobs.operand_mistakes import mistakes
    from hostlab.jobs.unmet import unmet

    found: dict[str, None] = {}
    # Nodes of one role are alike, and may be thousands.
    alike = {
        (node.jobs, node.boot, node.job_files, node.crontabs, node.units): node
        for node in lab.nodes
    }
    for node in alike.values():
        for each in unmet(node):
            where = f"{each.said.file}:{each.said.line}: " if each.said else f"{node.name}: "
            found[f"{where}{each}"] = None
        for job in node.jobs:
            found |= dict.fromkeys(map(str, mistakes(job)))
    return list(found)


def _error_row(error: Any) -> dict[str, Any]:
    return {
        "code": error.code,
        "message": error.message,
        "where": str(error.where) if error.where else None,
        "hint": error.hint,
    }


@click.command("plan", epilog="Example: hostlab plan lab.yaml")
@_file
@json_option
def plan_command(file: str, *, as_json: bool) -> None:
    """Show the operations that lead from what is there to the description, with reasons."""
    lab = lab_named(file)
    plan = lab.plan()
    if as_json:
        print_json(plan)
    elif not plan:
        print(f"nothing to do{_beside(_before(lab), lab)}")
    else:
        for operation in plan.operations:
            print(operation.describe())


@click.command("up", epilog="Example: hostlab up examples/hello.yaml")
@_file
@click.option("--check", "and_check", is_flag=True, help="Judge the checks afterwards.")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0),
    help="How many seconds the routing has to converge (120); 0 does not wait for it.",
)
@json_option
def up_command(file: str, *, and_check: bool, wait_s: float | None, as_json: bool) -> int:
    """Stage a lab. One that is up is changed into the description; a broken one is mended.

    When nodes have routing daemons it is over when their sessions are up, the routes are in the
    kernels and no more change. Jobs that have failed by then are named; the exit status is 0 all
    the same, for the lab is up as it is described.
    """
    with HubProgram() as hub:
        hub.begin()
        lab = lab_named(file)
        _up(lab, as_json=as_json, wait_s=wait_s, hub=hub)
    if not and_check:
        return 0
    from hostlab.cli.checks import judged

    return judged(lab, as_json=as_json).report.exit_code


def _up(
    lab: Lab, *, as_json: bool, wait_s: float | None = None, hub: HubProgram | None = None
) -> None:
    for remark in lab.remarks():
        print(f"warning: {remark}", file=sys.stderr)
    before = _before(lab)
    progress = Progress(f"staging {lab.name}")
    started = time.monotonic()
    try:
        operations = lab.up(progress=progress, wait_s=0, hub=hub)
    finally:
        progress.end()
    took = (time.monotonic() - started) * 1000
    if as_json:
        try:
            converged = _converged(lab, wait_s)
        except Problem:
            _tell_failed(lab.name, lab.failed_jobs())
            raise
        row = {"lab": lab.name, "operations": operations, "took_ms": round(took, 1)}
        row |= {"failed_jobs": failed} if (failed := lab.failed_jobs()) else {}
        print_json(row if converged is None else row | {"routing": converged})
        return
    beside = _beside(before, lab)
    if operations:
        nodes = counted(len(lab.description.nodes), "node")
        done = counted(len(operations), "operation")
        print(f"{lab.name} is up: {nodes}, {done}, {took:.0f} ms{beside}")
    else:
        print(f"{lab.name} is up already{beside or ', as described'}")
    for warning in _warnings(lab.name, lab.status()):
        print(f"warning: {warning}", file=sys.stderr)
    try:
        converged = _converged(lab, wait_s)
        if converged is not None:
            print(
                f"routing has converged: {counted(converged.routers, 'router')},"
                f" {counted(converged.sessions, 'session')}, {counted(converged.routes, 'route')},"
                f" {converged.took_s:.1f} s"
            )
    finally:
        sys.stdout.flush()
        _tell_failed(lab.name, lab.failed_jobs())


def _tell_failed(lab: str, rows: list[dict[str, Any]]) -> None:
    """Name the jobs that have failed by now; the lab is up all the same, as it is described."""
    for row in rows:
        instance = f" ({row['instance']})" if row["instance"] else ""
        why = f": {row['reason']}" if row["reason"] else ""
        print(f"{row['node']}/{row['name']}{instance} failed{why}", file=sys.stderr)
    if rows:
        nodes = {row["node"] for row in rows}
        place = f"{lab}/{nodes.pop()}" if len(nodes) == 1 else f"'{lab}/*'"
        print(f"  hint: `hostlab job list -n {place}`", file=sys.stderr)


def _before(lab: Lab) -> Description | None:
    """What is staged; None when the lab is not up."""
    from hostlab.lab.description import staged

    return staged(lab.name) if lab.is_up() else None


def _beside(before: Description | None, lab: Lab) -> str:
    """What is taken over without an operation, as `; 1 check changed`."""
    from hostlab.plan.divergence import beside

    found = () if before is None else beside(before, lab.description)
    return f"; {' and '.join(found)} changed" if found else ""


def _converged(lab: Lab, wait_s: float | None) -> Converged | None:
    """What became of the routing; None when there is none, or it is not waited for."""
    if not lab.has_routing or wait_s == 0:
        return None
    return lab.wait_converged(timeout_s=wait_s)


@click.command("apply", epilog="Example: hostlab apply lab.yaml")
@_file
@json_option
def apply_command(file: str, *, as_json: bool) -> None:
    """Change a running lab into a changed description; only what differs is touched."""
    lab = lab_named(file)
    if not lab.is_up():
        hint = f"stage it first: `hostlab up {file}`"
        raise UsageError("no-lab", f"lab {lab.name} is not up", hint=hint)
    plan = lab.plan()
    if not as_json:
        for operation in plan.operations:
            print(operation.describe())
    _up(lab, as_json=as_json)


@click.command("down", epilog="Example: hostlab down hello")
@_lab
@click.option("--all", "every", is_flag=True, help="Every lab of this user.")
@json_option
def down_command(lab: str | None, *, every: bool, as_json: bool) -> None:
    """Take a lab down, by its name or its description, whatever state it is in."""
    from hostlab.lab import driver, remains

    base = base_directory()
    names = sorted({*labs(), *remains.labs_of(base)}) if every else [_name_of(lab)]
    rows = []
    for name in names:
        started = time.monotonic()
        found = driver.unstage(name)
        took = round((time.monotonic() - started) * 1000, 1)
        rows.append({"lab": name, "found": found, "took_ms": took})
        if not as_json:
            print(f"{name} is down ({took:.0f} ms)" if found else f"{name} was not up")
    if as_json:
        print_json(rows)
    elif not names:
        print("no lab is up")


def _name_of(lab: str | None) -> str:
    """A lab's name; a name needs no description, so that a damaged lab can be taken down too."""
    import os

    if lab is not None and not os.path.isfile(lab) and "/" not in lab:
        return lab
    return lab_named(lab).name


@click.command("ls", epilog="Example: hostlab ls --json")
@json_option
def ls_command(*, as_json: bool) -> None:
    """List the labs of this user, with the ports that they publish."""
    from hostlab.lab import remains
    from hostlab.lab.description import staged

    rows: list[dict[str, Any]] = []
    for name in sorted({*labs(), *remains.labs_of(base_directory())}):
        described = staged(name)
        nodes = described.nodes if described else ()
        ports = [
            {"node": n.name, "port": p.port, "inner": p.inner, "protocol": p.protocol}
            for n in nodes
            for p in n.publish
        ]
        rows.append(
            {
                "lab": name,
                "up": lab_named(name).is_up() if described else False,
                "nodes": len(nodes),
                "segments": len(described.segments) if described else 0,
                "published": ports,
            }
        )
    if as_json:
        print_json(rows)
        return
    print_table(
        ("LAB", "STATE", "NODES", "SEGMENTS", "PUBLISHED"),
        [
            (
                row["lab"],
                "up" if row["up"] else "broken",
                row["nodes"],
                row["segments"],
                ", ".join(_port(p) for p in row["published"]) or "-",
            )
            for row in rows
        ],
    )


def _port(row: dict[str, Any]) -> str:
    protocol = "" if row["protocol"] == "tcp" else f"/{row['protocol']}"
    return f"{row['port']}→{row['node']}:{row['inner']}{protocol}"


@click.command("status", epilog="Example: hostlab status hello")
@_lab
@json_option
def status_command(lab: str | None, *, as_json: bool) -> int:
    """Show a lab's nodes, jobs, and the limits that a node has run into; exit 1 if one is down."""
    found = lab_named(lab)
    status = found.status()
    nodes = found.nodes()
    rows = []
    for row in status["nodes"]:
        node = nodes.get(row["name"])
        described = found.description.node(row["name"])
        # One that is frozen would not answer.
        is_asked = node is not None and described.has_jobs and not row["frozen"]
        jobs = node.job_table() if node is not None and is_asked else []
        rows.append({**row, "jobs": jobs})
    warnings = _warnings(found.name, status)
    if as_json:
        print_json({**status, "nodes": rows, "warnings": warnings})
    else:
        _print_status(rows)
        for warning in warnings:
            print(f"warning: {warning}", file=sys.stderr)
    return 1 if any(row["pid"] is None for row in rows) else 0


def _warnings(lab: str, status: Mapping[str, Any]) -> list[str]:
    """What the hub has to warn of, and what is broken on purpose."""
    from hostlab.cli.standing import standing

    broken = standing(lab)
    return [*status.get("warnings", ()), *([broken] if broken else [])]


def _print_status(rows: list[dict[str, Any]]) -> None:
    table = []
    for row in rows:
        jobs = ", ".join(f"{j['name']} {j['state']}" for j in row["jobs"]) or "-"
        state = "frozen" if row["frozen"] else "up" if row["pid"] else "down"
        if row.get("exceeded"):
            state += f" (hit its limit: {', '.join(row['exceeded'])})"
        table.append((row["name"], state, row["pid"], jobs))
    print_table(("NODE", "STATE", "PID", "JOBS"), table)
