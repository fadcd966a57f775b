"""Commands that change the machine's packet filter, and look after the change."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from hostlab.cli.firewall_in_node import in_that_node
from hostlab.cli.firewall_stage import SOURCE, print_troubles, stage_options, staged_from
from hostlab.cli.output import json_option, print_json
from hostlab.errors import Failed, UsageError

if TYPE_CHECKING:
    from hostlab.firewall.apply import Plan
    from hostlab.firewall.beside import Operation
    from hostlab.firewall.change import ChangeDirectory, FirewallChange
    from hostlab.firewall.difference import PlaceChange
    from hostlab.firewall.packet import Packet
    from hostlab.firewall.rehearsal import Rehearsal
    from hostlab.firewall.ruleset import Ruleset
    from hostlab.firewall.staged import Staged

_SIGNS = {"added": "+", "removed": "-", "moved": "~"}


class How(NamedTuple):
    """The options of a change, whatever it is made from."""

    live: bool
    dry_run: bool
    within_s: float
    check: str | None
    expect: str | None
    strict: bool
    force: bool


def live_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Those of `How`."""
    for option in (
        click.option(
            "--force",
            is_flag=True,
            help="Also when a new connection from where you sit would not come in.",
        ),
        click.option(
            "--strict",
            is_flag=True,
            help="List connections that there are and that could not begin any more.",
        ),
        click.option(
            "--expect",
            type=click.Path(dir_okay=False),
            metavar="FILE",
            help="What is expected, as of `prove`; nothing is loaded unless all of it is so.",
        ),
        click.option(
            "--check", metavar="COMMAND", help="Confirmed when it exits with 0, else reverted."
        ),
        click.option(
            "--within",
            "within_s",
            type=click.FloatRange(1, 86400),
            default=60.0,
            show_default=True,
            metavar="SECONDS",
            help="How long a word is waited for before the old rules return.",
        ),
        click.option("--dry-run", is_flag=True, help="Show what would be done, and what is kept."),
        click.option(
            "--live", is_flag=True, help="Change this machine; without it nothing is changed."
        ),
    ):
        function = option(function)
    return function


@click.command(
    "apply", epilog="Example: hostlab firewall apply rules.sh --live --check 'nc -z localhost 22'"
)
@SOURCE
@click.argument("arguments", nargs=-1)
@live_options
@stage_options
@click.option("--handed-in", hidden=True, help="In a node: the file with what was staged outside.")
def apply_command(
    source: str, arguments: tuple[str, ...], *, handed_in: str | None, **options: Any
) -> int:
    """Stage SOURCE, load it in one transaction, and take it back unless it is confirmed.

    The way back is armed before the first change: a job of an init that hangs on no terminal and no
    connection. Other people's tables, chains and sets are not touched. The word is `hostlab
    firewall confirm` from a new connection, `yes` at the prompt, or --check; without one the old
    rules return, are read back and compared, and the exit status is 1. Over SSH it is refused when
    a packet of a new connection like yours, sent through a copy of the result, does not come in.
    With --node it is that node's firewall, from outside; SOURCE may be a running node as well.
    """
    how = How(*(options.pop(name) for name in How._fields))
    node = options["node"]
    if how.live and (node is not None or options["interfaces"] or options["routes"]):
        raise UsageError(
            "target",
            "--live changes this machine, so this machine is the target of the stage",
            hint="leave --node, --interface and --route out",
        )
    if handed_in is not None:
        from hostlab.cli import firewall_in_node

        found = firewall_in_node.handed_in(handed_in)
        put_live(source, found.ruleset, how, operations=found.operations)
        return 0
    from hostlab.firewall.source import STDIN

    found = staged_from(source, arguments=arguments, **options)
    wanted = found.require()
    print_troubles(found.troubles)
    name = os.path.abspath(source) if source != STDIN and os.path.exists(source) else source
    if node is not None:
        return _put_in_node(node, name, found, how)
    put_live(name, wanted, how, operations=found.operations)
    return 0


def _put_in_node(name: str, source: str, staged: Staged, how: How) -> int:
    """The same in a node: what was staged here is loaded there, and its way back stands there."""
    from hostlab.cli.firewall_in_node import hand_in, hosting_node, run_in_node

    if how.expect is not None or how.strict or how.force:
        hint = "`hostlab firewall prove SOURCE --expect FILE --node NODE` asks before"
        raise UsageError("target", "--expect, --strict and --force are for --live", hint=hint)
    node = hosting_node(name)
    words = ["--handed-in", hand_in(node, staged), "--within", str(how.within_s)]
    words += ["--check", how.check] if how.check is not None else []
    words.append("--dry-run" if how.dry_run else "--live")
    return run_in_node(node, "apply", *words, "--", source)


def put_live(
    source: str, wanted: Ruleset, how: How, *, operations: tuple[Operation, ...] = ()
) -> None:
    """Show what an apply would do, and with `live` do it."""
    from hostlab.firewall import apply
    from hostlab.firewall.here import run_here

    place = machine_place()
    if how.dry_run or not how.live:
        planned = apply.plan(place, wanted, run_here, operations)
        _show_plan(planned)
        _rehearse(planned, how)
        if not how.dry_run:
            raise UsageError(
                "live", "nothing was changed", hint="--live changes this machine's firewall"
            )
        return
    with place.operator():
        look_after(place)
        apply.must_be_free(place)
        planned = apply.plan(place, wanted, run_here, operations)
        _show_plan(planned)
        if not planned:
            _tell("nothing to do: that is what the kernel holds")
            return
        _rehearse(planned, how)
        prompt = sys.stdin.fileno() if how.check is None and sys.stdin.isatty() else None
        asked = apply.Asked(within_s=how.within_s, check=how.check, prompt=prompt)
        apply.apply(place, source, planned, asked, _tell)
    _tell("confirmed; `hostlab firewall persist` keeps it over a boot")


def _rehearse(planned: Plan, how: How) -> None:
    """Ask the result what it would do, where somebody wants to know; Failed where it may not be."""
    from hostlab.firewall import rehearsal
    from hostlab.firewall.confirming import ssh_connection
    from hostlab.firewall.here import run_here

    connection = ssh_connection()
    if not (connection or how.expect or how.strict):
        return
    with rehearsal.rehearsed(planned.present, planned.steps, planned.operations) as found:
        if how.expect is not None:
            _prove(found, how.expect)
        if how.strict:
            for flow in rehearsal.no_longer_allowed(found, run_here):
                print(f"could not begin any more: {_packet(flow.packet)}\n    {flow.why}")
        danger = rehearsal.would_lock_out(found, connection, run_here)
    if danger and how.live and not how.force:
        raise Failed(
            "lock-out", f"nothing was changed: {danger}", hint="--force applies it all the same"
        )
    if danger:
        _tell(f"beware: {danger}")


def _prove(found: Rehearsal, path: str) -> None:
    from hostlab.cli.firewall_ask import expected_in
    from hostlab.firewall.expectations import failure

    expected = expected_in(path, found.target)
    answers = found.prober.ask(each.packet for each in expected)
    wrong = [
        f"{each.place}: {said}: {_packet(each.packet)}"
        for each, answer in zip(expected, answers, strict=True)
        if (said := failure(each, answer))
    ]
    if wrong:
        raise Failed("expectation", "nothing was changed:\n" + "\n".join(wrong))
    _tell(f"{len(expected)} packets end as expected")


def _packet(packet: Packet) -> str:
    from hostlab.firewall.packet import print_packet

    return print_packet(packet)


@click.command("confirm", epilog="Example: ssh server hostlab firewall confirm")
@in_that_node
def confirm_command() -> None:
    """Keep what has been applied. Only a connection made after the load proves anything."""
    from hostlab.firewall.confirming import confirm

    place = machine_place()
    look_after(place)
    confirm(place)
    _tell("confirmed")


@click.command("revert", epilog="Example: hostlab firewall revert")
@click.option("--when-due", is_flag=True, hidden=True, help="What the way back does.")
@in_that_node
def revert_command(*, when_due: bool) -> None:
    """Bring the rules back that were there before what has not been confirmed."""
    from hostlab.firewall import applying, way_back
    from hostlab.firewall.change import Phase
    from hostlab.firewall.confirming import may_change

    place = machine_place()
    may_change()
    if when_due:
        change = way_back.keep_watch(place)
        if change is None or not change.maker.is_there():
            way_back.dismiss(place)
        return
    change = place.read()
    if change is None or change.has_ended:
        raise Failed("no-change", "no change of the firewall is under way")
    ended = applying.take_back(place)
    if ended is not None and ended.phase is Phase.STUCK:
        raise Failed("stuck", f"the old rules could not be brought back: {ended.problem}")
    _tell("the old rules are back, read back and compared")


@click.command("status", epilog="Example: hostlab firewall status")
@json_option
@in_that_node
def status_command(*, as_json: bool) -> None:
    """Tell whether a change is under way, whose, and when it is taken back."""
    from hostlab.firewall import way_back
    from hostlab.firewall.change import UNDER_WAY, boottime

    place = machine_place()
    look_after(place)
    change = place.read()
    left = None if change is None else max(0.0, change.deadline - boottime())
    is_kept = way_back.is_kept(place)
    if as_json:
        print_json(_as_json(change, left, is_kept=is_kept))
        return
    if change is None:
        print("nothing was applied since the machine booted")
        return
    print(f"{change.source}: {change.phase}, by {change.maker.user}, {_clock(change.began)}")
    if change.problem:
        print(f"  {change.problem}")
    if change.phase in UNDER_WAY:
        print(f"  taken back in {left:.0f} s" if is_kept else "  nobody looks after it:")
        print(
            "  `hostlab firewall confirm` from a new connection keeps it"
            if is_kept
            else "  `hostlab firewall revert` takes it back"
        )


def _as_json(
    change: FirewallChange | None, left: float | None, *, is_kept: bool
) -> dict[str, object] | None:
    if change is None:
        return None
    return {
        "source": change.source,
        "phase": change.phase,
        "user": change.maker.user,
        "began": change.began,
        "seconds_left": left,
        "way_back": is_kept,
        "problem": change.problem,
    }


def _show_plan(plan: Plan) -> None:
    _show(plan.differences)
    for each in plan.operations:
        sys.stdout.write(f"beside rules: {each.describe()}\n")
    for kept in plan.kept:
        sys.stdout.write(f"kept: {kept.part} {kept.place}: {len(kept.changes)} of other people's\n")
    sys.stdout.flush()


def _show(differences: tuple[PlaceChange, ...]) -> None:
    for place in differences:
        print(f"{place.part} {place.place}")
        for line in place.changes:
            print(f"  {_SIGNS[line.change]} {line.text}")


def look_after(place: ChangeDirectory) -> None:
    """Take a change back whose maker and way back have both died."""
    from hostlab.firewall import apply
    from hostlab.firewall.confirming import can_change

    if can_change() and (done := apply.recover(place)):
        print(done, file=sys.stderr, flush=True)


def machine_place() -> ChangeDirectory:
    from hostlab.firewall.change import ChangeDirectory

    place = ChangeDirectory.of_machine()
    place.make()
    return place


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _tell(text: str) -> None:
    # Whoever hung up is no reason to end before the change has its end.
    try:
        print(text, flush=True)
    except OSError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
