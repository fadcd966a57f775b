"""Commands about jobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from hostlab.cli.jobfiles import COMMANDS
from hostlab.cli.output import json_option, print_json, print_table
from hostlab.cli.targets import complete_node, nodes_named, up_labs
from hostlab.errors import UsageError

if TYPE_CHECKING:
    from hostlab.api import Node

_COLUMNS = ("node", "name", "state", "pid", "status", "reason")


def _node_option(function: Callable[..., Any]) -> Callable[..., Any]:
    text = "NODE or LAB/NODE; needed only where several nodes have the job."
    option = click.option("-n", "--node", help=text, shell_complete=complete_node)
    return option(function)


@click.group("job", epilog="Example: hostlab job restart web --node alice")
def job_command() -> None:
    """List, start, stop or restart the jobs of nodes; check, search and draw job files."""


for _command in COMMANDS:
    job_command.add_command(_command)


@job_command.command("list", epilog="Example: hostlab job list --node alice")
@_node_option
@json_option
def list_command(*, node: str | None, as_json: bool) -> None:
    """List jobs with their state: a node's, or a whole lab's."""
    _show([row for found in _nodes(node) for row in _rows(found)], as_json=as_json)


@job_command.command("start", epilog="Example: hostlab job start web --node alice")
@click.argument("name")
@_node_option
@json_option
def start_command(name: str, *, node: str | None, as_json: bool) -> int:
    """Start a job; exit 1 if it has failed at once."""
    return _control(name, "start", node, as_json=as_json)


@job_command.command("stop", epilog="Example: hostlab job stop web --node alice")
@click.argument("name")
@_node_option
@json_option
def stop_command(name: str, *, node: str | None, as_json: bool) -> int:
    """Stop a job: TERM, and after five seconds KILL to everything that it started."""
    return _control(name, "stop", node, as_json=as_json)


@job_command.command("restart", epilog="Example: hostlab job restart web --node alice")
@click.argument("name")
@_node_option
@json_option
def restart_command(name: str, *, node: str | None, as_json: bool) -> int:
    """Stop a job and start it again."""
    return _control(name, "restart", node, as_json=as_json)


def _nodes(target: str | None) -> list[Node]:
    """The nodes that are named, or every node of every lab that is up."""
    return nodes_named(target if target is not None else ",".join(f"{lab}/*" for lab in up_labs()))


def _rows(node: Node) -> list[dict[str, Any]]:
    return [{"node": node.name, **row} for row in node.job_table()]


def _control(name: str, action: str, target: str | None, *, as_json: bool) -> int:
    nodes = _nodes(target)
    if target is None:
        nodes = [node for node in nodes if any(row["name"] == name for row in node.job_table())]
        if len(nodes) != 1:
            where = ", ".join(node.name for node in nodes) or "no node"
            hint = "name the node: --node NODE"
            raise UsageError("which-node", f"job {name!r} is on {where}", hint=hint)
    rows = [{"node": node.name, **node.job(name, action)} for node in nodes]
    _show(rows, as_json=as_json)
    return 1 if action != "stop" and any(row["state"] == "failed" for row in rows) else 0


def _show(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(rows)
    else:
        header = [column.upper() for column in _COLUMNS]
        print_table(header, [[row[column] for column in _COLUMNS] for row in rows])
