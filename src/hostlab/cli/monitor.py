"""The command that follows what happens in the inits of a lab."""

from __future__ import annotations

import contextlib
import select
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from hostlab import typed
from hostlab.cli.inits import inits_named, node_option
from hostlab.cli.output import json_option

if TYPE_CHECKING:
    from hostlab.faults.following import FaultFeed
    from hostlab.init.client import Control, InitClient
    from hostlab.jobs.effects import EventFinished
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

    Of several nodes, by default all that are up, each line names its node. Among them is what
    `hostlab fault` breaks and mends. Until ^C.
    """
    from hostlab.jobs.monitoring import Filter, monitor_header

    inits = inits_named(node)
    wanted = Filter(events=events, jobs=jobs)
    with contextlib.ExitStack() as stack, contextlib.suppress(KeyboardInterrupt):
        streams = [(init, stack.enter_context(init.monitor())) for init in inits]
        feeds = [stack.enter_context(contextlib.closing(each)) for each in _feeds(inits)]
        if not as_json:
            names = ", ".join(init.name for init in inits) or "no init"
            print("\n".join(monitor_header(names, nodes=len(inits) > 1)), flush=True)
        _follow(streams, feeds, wanted, stack, count=count, as_json=as_json)


def emit_watched(
    init: InitClient,
    event: str,
    environment: Sequence[tuple[str, str]],
    *,
    timeout_s: float | None,
) -> None:
    """Emit an event, and print every event that finishes until it is done itself."""
    from hostlab.init.client import result

    with init.monitor() as control:
        pairs = list(environment)
        number = control.send("emit", name=event, environment=pairs, timeout_s=timeout_s)
        while True:
            answer = control.receive()
            if answer.get("id") == number:
                result(answer)
                return
            finished = _event(answer["effect"])
            if finished is not None:
                _print(finished, answer["time"], init.name, several=False, as_json=False)


def _feeds(inits: Sequence[InitClient]) -> list[FaultFeed]:
    """The faults of the labs of these inits."""
    from hostlab.faults.following import FaultFeed
    from hostlab.lab.access import NodeConnection

    nodes = [init for init in inits if isinstance(init, NodeConnection)]
    return [FaultFeed(lab) for lab in dict.fromkeys(node.lab for node in nodes)]


def _follow(
    streams: list[tuple[InitClient, Control]],
    feeds: list[FaultFeed],
    wanted: Filter,
    stack: contextlib.ExitStack,
    *,
    count: int | None,
    as_json: bool,
) -> None:
    """Print what comes, in the order of its time as far as it comes together.

    Failed when every init is gone before there were `count` events.
    """
    from hostlab.errors import Failed

    poll = select.poll()
    by_fd = {control.socket.fileno(): (init, control) for init, control in streams}
    told_by = {feed.fileno(): feed for feed in feeds}
    for fd in (*by_fd, *told_by):
        poll.register(fd, select.POLLIN)
    printed = 0
    several = len(streams) > 1
    while by_fd and (count is None or printed < count):
        heard: list[tuple[float, str, EventFinished | None]] = []
        for fd, _ in [] if any(c.has_answer for _, c in by_fd.values()) else poll.poll():
            if fd in told_by:
                heard += told_by[fd].read()
            elif not _hear(*by_fd[fd], heard):
                poll.unregister(fd)
                init, old = by_fd.pop(fd)
                next_one = _subscribe_again(init, old)
                if next_one is not None:
                    stack.enter_context(next_one)
                    by_fd[next_one.socket.fileno()] = (init, next_one)
                    poll.register(next_one.socket, select.POLLIN)
        for init, control in by_fd.values():
            while control.has_answer:
                _hear(init, control, heard)
        for wall, name, event in sorted(heard, key=lambda each: each[0]):
            if event is not None and wanted.wants(event) and (count is None or printed < count):
                _print(event, wall, name, several=several, as_json=as_json)
                printed += 1
    if count is not None and printed < count:
        raise Failed("monitor", f"no init is left; {printed} of {count} events were seen")


def _subscribe_again(init: InitClient, old: Control) -> Control | None:
    """To the supervisor that follows one that has ended; None when its holder has ended, too."""
    from hostlab.errors import Problem
    from hostlab.init.protocol import HUNG_UP

    old.close()
    while True:
        try:
            found = init.monitor()
        except OSError:
            break
        except Problem as problem:
            if problem.code == HUNG_UP:
                continue
            break
        text = "another supervisor goes on; what it did until now is not shown"
        print(f"# {init.name}: {text}", file=sys.stderr, flush=True)
        return found
    print(f"# {init.name}: its init hung up", file=sys.stderr, flush=True)
    return None


def _hear(
    init: InitClient, control: Control, heard: list[tuple[float, str, EventFinished | None]]
) -> bool:
    from hostlab.errors import Failed

    try:
        answer = control.receive()
    except Failed:
        return False
    if "effect" in answer:
        heard.append((answer["time"], init.name, _event(answer["effect"])))
    return True


def _event(effect: dict[str, Any]) -> EventFinished | None:
    from hostlab.jobs.effects import EventFinished

    if effect.get("type") != "EventFinished":
        return None
    return typed.convert(effect, EventFinished)


def _print(event: EventFinished, wall: float, node: str, *, several: bool, as_json: bool) -> None:
    from hostlab.jobs.monitoring import monitor_line, monitor_record

    if as_json:
        record = monitor_record(event, wall, node=node)
        sys.stdout.write(msgspec.json.encode(record).decode() + "\n")
    else:
        print(monitor_line(event, wall, node=node if several else ""))
    sys.stdout.flush()
