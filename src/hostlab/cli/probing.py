"""What the probes have in common: from where, how long, and how the verdict is shown."""

from __future__ import annotations

import functools
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from hostlab.cli.output import coloured, json_option, print_json
from hostlab.cli.targets import complete_node
from hostlab.errors import Unsupported
from hostlab.terminal import plain

if TYPE_CHECKING:
    from hostlab.api import Lab
    from hostlab.checks.access import CommandResult, JobStatus, NodeAccess
    from hostlab.checks.verdict import Report, Verdict

Command = Callable[..., Any]
HERE = "here"
"""Where a probe is asked from that is asked from no node."""


@dataclass(frozen=True)
class Asking:
    """From where a probe is asked, and how."""

    nodes: str | None
    timeout_s: float
    within_s: float | None
    as_json: bool


class Here:
    """This machine, as far as a probe needs one (checks.NodeAccess and OutsideAccess)."""

    name = HERE

    @property
    def pid(self) -> int:
        return os.getpid()

    def run(self, command: str, *, timeout_s: float) -> CommandResult:
        raise Unsupported("probe", "a probe runs no command")

    def jobs(self, *, timeout_s: float | None = None) -> Mapping[str, JobStatus]:
        return {}

    def repeat(self, on_the_host: tuple[str, ...]) -> str:
        return shlex.join(on_the_host)


def parsed(read: Callable[[str], Any]) -> Callable[..., Any]:
    """A click callback: each word as a parser of descriptions reads it; exit 2 where it cannot."""
    from hostlab.spec.source import Wrong

    def one(value: str) -> Any:
        try:
            return read(value)
        except Wrong as wrong:
            raise click.BadParameter(
                wrong.message + (f" ({wrong.hint})" if wrong.hint else "")
            ) from None

    def callback(_ctx: click.Context, _parameter: click.Parameter, value: Any) -> Any:
        if value is None or isinstance(value, (int, float)):
            return value
        return tuple(map(one, value)) if isinstance(value, tuple) else one(value)

    return callback


def seconds(_ctx: click.Context, _parameter: click.Parameter, value: Any) -> Any:
    """A click callback for a time: `500ms`, `5s`, or a number of seconds."""
    from hostlab.spec.units import duration

    return parsed(duration)(_ctx, _parameter, value)


from_option = click.option(
    "--from",
    "nodes",
    metavar="NODE",
    shell_complete=complete_node,
    help="Ask from inside this node; `a,b` and `*` are several. This machine, if you do not say.",
)


def asking_options(function: Command, timeout: str = "5s") -> Command:
    """The options of every probe, given to it as one `asking`."""

    @functools.wraps(function)
    def collected(
        *arguments: Any,
        nodes: str | None = None,
        timeout: float,
        within: float | None,
        as_json: bool,
        **options: Any,
    ) -> Any:
        asking = Asking(nodes, timeout, within, as_json)
        return function(*arguments, asking=asking, **options)

    decorated = json_option(collected)
    decorated = click.option(
        "--within",
        callback=seconds,
        metavar="TIME",
        help="Ask again until it is so, as long as this.",
    )(decorated)
    return click.option(
        "--timeout",
        callback=seconds,
        default=timeout,
        show_default=True,
        metavar="TIME",
        help="The deadline of all of it.",
    )(decorated)


def probe_options(function: Command) -> Command:
    """`asking_options` for probes that can be asked from any node."""
    return from_option(asking_options(function))


def patient_probe_options(function: Command) -> Command:
    """`probe_options` for dialogues, in which servers make strangers wait."""
    return from_option(asking_options(function, "60s"))


def asked(kind: str, said: Mapping[str, Any], asking: Asking) -> int:
    """Ask, show the verdicts, and return the exit status; what was not said has its default."""
    arguments = {key: value for key, value in said.items() if value not in (None, ())}
    report = report_of([(kind, arguments)], asking)
    show(report, as_json=asking.as_json)
    return report.exit_code


def report_of(
    questions: Sequence[tuple[str, Mapping[str, Any]]],
    asking: Asking,
    progress: Callable[[Verdict], None] | None = None,
) -> Report:
    """The verdicts of these kinds and arguments from each of the nodes."""
    from hostlab.checks.judge import judge
    from hostlab.spec.model import Check

    names, access, lab = _places(asking.nodes)
    within_s = asking.timeout_s if asking.within_s is None else asking.within_s
    checks = [
        Check(nodes=names, kind=kind, arguments=dict(arguments), within_s=within_s)
        for kind, arguments in questions
    ]
    once = asking.within_s is None
    described = None if lab is None else lab.description
    return judge(
        checks,
        access,
        lab=None if described is None else described.name,
        secrets=() if described is None else described.secrets,
        once=once,
        progress=progress,
        described=described,
    )


def _places(nodes: str | None) -> tuple[tuple[str, ...], Mapping[str, NodeAccess], Lab | None]:
    """Who is to ask; every node of their lab, for what is so in those that are asked; the lab."""
    if nodes is None:
        return (HERE,), {HERE: Here()}, None
    from hostlab.api import Lab
    from hostlab.cli.targets import nodes_named
    from hostlab.errors import UsageError

    found = nodes_named(nodes)
    labs = {node.lab for node in found}
    if len(labs) > 1:
        raise UsageError("usage", "all nodes are of one lab", hint="name one lab, or none")
    lab = Lab(labs.pop())
    return tuple(dict.fromkeys(node.name for node in found)), lab.nodes(), lab


def show(report: Report, *, as_json: bool) -> None:
    """Every verdict with what was found out."""
    if as_json:
        print_json(report)
        return
    for row in report.rows:
        show_verdict(row)


def show_verdict(row: Verdict) -> None:
    """One verdict: its line, and what was found out."""
    from hostlab.checks.verdict import SIGNS

    lines = [str(row)]
    if row.ok:
        lines += [f"    | {line}" for line in row.log]
    text = "\n".join(lines).removeprefix(f"{HERE}: ")
    print(f"{coloured(SIGNS[row.outcome], good=row.ok)} {plain(text)}")
