"""Commands about the jobs of nodes, and of an init that stands alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hostlab.cli.inits import inits_named, node_option, one_init
from hostlab.cli.jobfiles import COMMANDS
from hostlab.cli.joblogs import instance_option, log_of
from hostlab.cli.output import json_option, print_json, print_table
from hostlab.errors import UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from hostlab.init.client import InitClient

_COLUMNS = ("node", "name", "state", "pid", "status", "reason")
_WAIT_COLUMNS = ("node", "name", "on_name", "why")


_variables = click.argument("variables", nargs=-1, metavar="[KEY=VALUE]…")
_no_wait = click.option("--no-wait", is_flag=True, help="Do not wait until it is done.")


@click.group("job", epilog="Example: hostlab job restart web --node alice")
def job_command() -> None:
    """Jobs and events: list, start, stop, emit, who waits for whom; check and draw job files."""


for _command in COMMANDS:
    job_command.add_command(_command)


@job_command.command("list", epilog="Example: hostlab job list --node alice")
@node_option
@json_option
def list_command(*, node: str | None, as_json: bool) -> None:
    """List jobs with their state: a node's, or a whole lab's."""
    _show([row for found in inits_named(node) for row in _rows(found)], as_json=as_json)


@job_command.command("status", epilog="Example: hostlab job status web --node alice")
@click.argument("name")
@_variables
@node_option
@json_option
def status_command(
    name: str, variables: tuple[str, ...], *, node: str | None, as_json: bool
) -> int:
    """Show a job's instances as `initctl status` does; exit 1 if it has failed."""
    rows, lines = _one_with(name, node).status_of(name, _pairs(variables))
    if as_json:
        print_json(rows)
    else:
        print("\n".join(lines))
    return 1 if any(row["state"] == "failed" for row in rows) else 0


def _who(row: dict[str, Any]) -> str:
    return f"{row['name']} ({row['instance']})" if row["instance"] else row["name"]


def _action(name: str, help_text: str) -> None:
    @job_command.command(
        name, help=help_text, epilog=f"Example: hostlab job {name} web --node alice"
    )
    @click.argument("job")
    @_variables
    @_no_wait
    @node_option
    @json_option
    def command(
        job: str, variables: tuple[str, ...], *, no_wait: bool, node: str | None, as_json: bool
    ) -> int:
        found = _one_with(job, node)
        changed = found.job(job, name, environment=_pairs(variables), wait=not no_wait)
        rows = [{"node": found.name, **row} for row in changed]
        _show(rows, as_json=as_json)
        return 1 if name != "stop" and any(row["state"] == "failed" for row in rows) else 0


for _name, _text in (
    ("start", "Start a job, and wait until it runs; exit 1 if it fails."),
    ("stop", "Stop a job: its signal, and after its timeout SIGKILL."),
    ("restart", "Stop a job and start it again."),
    ("reload", "Send a job its reload signal, SIGHUP if it says no other."),
):
    _action(_name, _text)


@job_command.command("emit", epilog="Example: hostlab job emit net-changed IFACE=eth0 -n alice")
@click.argument("event")
@_variables
@_no_wait
@click.option("--timeout", "timeout_s", type=float, help="Wait so many seconds at most.")
@click.option("--watch", is_flag=True, help="Print the events that follow, until it is done.")
@node_option
def emit_command(
    event: str,
    variables: tuple[str, ...],
    *,
    no_wait: bool,
    timeout_s: float | None,
    watch: bool,
    node: str | None,
) -> None:
    """Emit an event in a node, or in several; wait until what it starts and stops is done.

    Exit 1 if a job fails over it, or if it is still blocked when the time is over.
    """
    if watch:
        from hostlab.cli.monitor import emit_watched

        emit_watched(one_init(node), event, _pairs(variables), timeout_s=timeout_s)
        return
    for found in inits_named(node):
        found.emit(event, _pairs(variables), wait=not no_wait, timeout_s=timeout_s)


@job_command.command("waits", epilog="Example: hostlab job waits --node alice")
@node_option
@json_option
def waits_command(*, node: str | None, as_json: bool) -> None:
    """Tell who waits for whom, and why: what holds a start, a stop or an `emit`."""
    rows = [{"node": found.name, **row} for found in inits_named(node) for row in found.waits()]
    if as_json:
        print_json(rows)
    else:
        header = ("NODE", "WHO", "WAITS FOR", "WHY")
        print_table(header, [[row[column] for column in _WAIT_COLUMNS] for row in rows])


@job_command.command("timers", epilog="Example: hostlab job timers --node alice")
@node_option
@json_option
def timers_command(*, node: str | None, as_json: bool) -> None:
    """List timers, those that come next first: when, for which jobs, and when they came last."""
    rows = [{"node": found.name, **row} for found in inits_named(node) for row in found.timers()]
    if as_json:
        print_json([row | {key: _instant(row[key]) for key in ("next", "last")} for row in rows])
    else:
        header = ("NODE", "NEXT", "LEFT", "LAST", "JOBS", "TIMER")
        print_table(header, [_timer_cells(row) for row in rows])


def _instant(seconds: float | None) -> str | None:
    from datetime import UTC, datetime

    return None if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _local(seconds: float) -> datetime:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).astimezone()


def _timer_cells(row: dict[str, Any]) -> list[Any]:
    instants = [
        "-" if row[key] is None else f"{_local(row[key]):%Y-%m-%d %H:%M:%S}"
        for key in ("next", "last")
    ]
    left = "-" if row["left_s"] is None else _span(row["left_s"])
    return [row["node"], instants[0], left, instants[1], ",".join(row["jobs"]), row["timer"]]


def _span(seconds: float) -> str:
    """A time as its two largest units."""
    left, found = round(seconds), []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            found.append(f"{count}{unit}")
    return " ".join(found[:2]) or "0s"


@job_command.command("reexec", epilog="Example: hostlab job reexec --node alice")
@node_option
@json_option
def reexec_command(*, node: str | None, as_json: bool) -> None:
    """Have an init go on as the version of hostlab that is installed now; its jobs do not notice.

    Commands and monitors that are connected go on too. Without --node every init does it. Exit 1
    if the new version cannot go on with the old one's state: then nothing has changed.
    """
    rows = [{"node": found.name, **found.reexec()} for found in inits_named(node)]
    if as_json:
        print_json(rows)
    else:
        columns = ("node", "pid", "version")
        print_table([c.upper() for c in columns], [[row[c] for c in columns] for row in rows])


@job_command.command("log", epilog="Example: hostlab job log web --node alice -f")
@click.argument("name", required=False)
@node_option
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now.")
@click.option("--lines", default=0, help="Only the last N lines.")
@instance_option
def log_command(
    name: str | None, *, node: str | None, follow: bool, lines: int, instance: str
) -> None:
    """Show what a job wrote; without a name, what the node's init has to say."""
    from hostlab.cli.following import follow_file

    if name is None:
        path = one_init(node).init_log_path()
    else:
        found = _one_with(name, node)
        path = log_of(found, name, instance, [row["name"] for row in _rows(found)])
    follow_file(path, lines=lines or None, forever=follow)


def _rows(node: InitClient) -> list[dict[str, Any]]:
    return [{"node": node.name, **row} for row in node.job_table()]


def _one_with(name: str, target: str | None) -> InitClient:
    """The node that is named, or the only one that has the job."""
    if target is not None:
        return one_init(target)
    nodes = [node for node in inits_named(None) if any(row["name"] == name for row in _rows(node))]
    if not nodes:
        hint = "`hostlab job list` shows which there are"
        raise UsageError("no-job", f"no node has a job {name!r}", hint=hint)
    if len(nodes) > 1:
        where = ", ".join(node.name for node in nodes)
        hint = "name the node: --node NODE"
        raise UsageError("which-node", f"job {name!r} is on {where}", hint=hint)
    return nodes[0]


def _pairs(words: tuple[str, ...]) -> list[tuple[str, str]]:
    found = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            hint = "one job or event at a time; what follows it are its variables"
            raise UsageError("environment", f"{word!r} is not KEY=VALUE", hint=hint)
        found.append((name, value))
    return found


def _show(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(rows)
    else:
        header = [column.upper() for column in _COLUMNS]
        shown = [row | {"name": _who(row)} for row in rows]
        print_table(header, [[row[column] for column in _COLUMNS] for row in shown])
