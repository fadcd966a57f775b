"""The command that follows what happens in the inits of a lab."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from hostlab.cli.job import inits_named, node_option
from hostlab.cli.output import json_option

if TYPE_CHECKING:
    from hostlab.init.client import Control, InitClient
    from hostlab.jobs.monitoring import Filter


@click.command("monitor", epilog="Example: hostlab monitor --node alice --event 'start*'")
@node_option
@click.option("--event", "events", multiple=True, help="Only events whose name matches this glob.")
@click.option("--job", "jobs", multiple=True, help="Only what is about a job of this name (glob).")
@click.option("--count", type=int, help="End after so many lines.")
@json_option
def monitor_command(
    *,
    node: str | None,
    events: tuple[str, ...],
    jobs: tuple[str, ...],
    count: int | None,
    as_json: bool,
) -> None:
    """Follow events as they finish: time, name, environment, as upstart-monitor prints them.

    Of several nodes, by default all that are up, each line names its node. Until ^C.
    """
    from hostlab.jobs.monitoring import Filter

    inits = inits_named(node)
    wanted = Filter(events=events, jobs=jobs)
    with contextlib.ExitStack() as stack, contextlib.suppress(KeyboardInterrupt):
        streams = [(init, stack.enter_context(init.monitor())) for init in inits]
        if not as_json:
            _print_header([init.name for init in inits])
        _follow(streams, wanted, count=count, as_json=as_json)


def _print_header(names: Sequence[str]) -> None:
    print("# hostlab event monitor")
    print("#")
    print(f"# Connected to {', '.join(names) or 'no init'}")
    print("#")
    node = "node, " if len(names) > 1 else ""
    print(f"# Columns: time, {node}event and environment")
    print(flush=True)
