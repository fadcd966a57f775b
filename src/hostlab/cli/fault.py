"""The commands that break something on purpose, and mend it."""

from __future__ import annotations

import signal
import sys
import time
from typing import TYPE_CHECKING

import click
import msgspec

from hostlab.cli.fault_measure import measure_command
from hostlab.cli.output import Progress, clock, coloured, json_option, print_json, print_table
from hostlab.cli.targets import complete_lab, only_lab
from hostlab.terminal import plain

if TYPE_CHECKING:
    from hostlab.faults.record import Standing
    from hostlab.faults.site import Site
    from hostlab.faults.trials import Finding, Moment, Trial
    from hostlab.spec.model import Fault


@click.group("fault", epilog="Example: hostlab fault inject link-down r1:eth0")
@click.pass_context
def fault_command(ctx: click.Context) -> None:
    """Break something on purpose, see whether the checks still hold, mend it."""
    # As with ^C: what a command broke it mends before it ends.
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    ctx.call_on_close(lambda: signal.signal(signal.SIGTERM, before))


fault_command.add_command(measure_command)
_lab_option = click.option(
    "-l", "--lab", help="Needed only where several labs are up.", shell_complete=complete_lab
)


def _site(lab: str | None) -> Site:
    from hostlab.faults.site import Site

    return Site.of(lab if lab is not None else only_lab())


@fault_command.command("kinds", epilog="Example: hostlab fault kinds")
@json_option
def kinds_command(*, as_json: bool) -> None:
    """List the faults, what each is done to, and its options."""
    from hostlab.spec.faults import KINDS

    if as_json:
        print_json(
            [
                {
                    "kind": kind.name,
                    "targets": list(kind.forms),
                    "meaning": kind.meaning,
                    "options": [
                        {"name": o.name, "meaning": o.meaning, "default": o.default}
                        for o in kind.options
                    ],
                }
                for kind in KINDS.values()
            ]
        )
        return
    for kind in KINDS.values():
        print(kind.usage)
        print(f"    {kind.meaning}")
        for option in kind.options:
            default = f"; {option.default} when left out" if option.default else ""
            print(f"    {option.name}: {option.meaning}{default}")


@fault_command.command(
    "inject", epilog="Example: hostlab fault inject one-way-loss r1:eth0 loss=30%"
)
@click.argument("kind")
@click.argument("target")
@click.argument("options", nargs=-1, metavar="[NAME=VALUE]…")
@_lab_option
@json_option
def inject_command(
    kind: str, target: str, options: tuple[str, ...], *, lab: str | None, as_json: bool
) -> None:
    """Break something: a node, NODE:INTERFACE, a segment, NODE/JOB, or several with commas.

    It stays broken until it is cleared; only `flap` runs to its end here. A role, and `*`, stand
    for their nodes.
    """
    from hostlab.faults.injecting import inject
    from hostlab.spec.faults import parse

    site = _site(lab)
    wanted = parse((kind, target, *options), site.lab)
    if kind == "flap":
        _flap(site, wanted, as_json=as_json)
        return
    done = inject(site, wanted)
    if as_json:
        print_json([_row(each) for each in done])
    for each in () if as_json else done:
        print(f"{each.number} {each.fault}")


def _flap(site: Site, wanted: tuple[Fault, ...], *, as_json: bool) -> None:
    """A course of faults; it ends by itself, or with this command."""
    from hostlab.faults.trials import play
    from hostlab.spec.model import TimedFault

    for moment in play(site, [TimedFault(at_s=0.0, fault=each) for each in wanted], judges=False):
        _tell(moment, as_json=as_json)


@fault_command.command("clear", epilog="Example: hostlab fault clear 3")
@click.argument("numbers", nargs=-1, type=int)
@click.option("--all", "every", is_flag=True, help="Every fault of the lab.")
@_lab_option
@json_option
def clear_command(numbers: tuple[int, ...], *, every: bool, lab: str | None, as_json: bool) -> None:
    """Take faults back, by their numbers; without one, the only one that there is."""
    from hostlab.errors import UsageError
    from hostlab.faults.injecting import clear, injected

    site = _site(lab)
    there = injected(site)
    if not numbers and not every and len(there) > 1:
        known = ", ".join(f"{each.number} ({each.fault})" for each in there)
        raise UsageError("which-fault", f"several faults stand: {known}", hint="name them: --all")
    done = clear(site, numbers or None)
    if as_json:
        print_json([_row(each) for each in done])
        return
    for each in done:
        print(f"cleared {each.number} {each.fault} ({time.time() - each.since:.1f} s)")
    if not done:
        print("nothing is broken")


@fault_command.command("list", epilog="Example: hostlab fault list --history")
@click.option("--history", is_flag=True, help="Every fault and clearing since the lab is up.")
@_lab_option
@json_option
def list_command(*, history: bool, lab: str | None, as_json: bool) -> None:
    """List what is broken on purpose."""
    from hostlab.faults.injecting import injected

    site = _site(lab)
    if history:
        _print_history(site, as_json=as_json)
        return
    there = injected(site)
    if as_json:
        print_json([_row(each) for each in there])
        return
    table = [(e.number, e.fault, e.phase, clock(e.since)) for e in there]
    print_table(("NUMBER", "FAULT", "STATE", "SINCE"), table)
    if not there:
        print("nothing is broken", file=sys.stderr)


def _print_history(site: Site, *, as_json: bool) -> None:
    from hostlab.faults import record

    lines = record.read(site.directory)
    named = {line.number: line.fault for line in lines if line.fault is not None}
    shown = [x for x in lines if x.number in named and x.phase is not record.Phase.BEGUN]
    if as_json:
        print_json(
            [
                {"time": x.time, "number": x.number, "what": x.phase, "fault": str(named[x.number])}
                for x in shown
            ]
        )
        return
    table = [(clock(x.time), x.number, x.phase, named[x.number]) for x in shown]
    print_table(("TIME", "NUMBER", "WHAT", "FAULT"), table)


@fault_command.command("run", epilog="Example: hostlab fault run shop")
@click.argument("lab", required=False, shell_complete=complete_lab)
@json_option
def run_command(lab: str | None, *, as_json: bool) -> int:
    """Play the timeline of faults in the description; exit 1 if a check does not hold meanwhile.

    The checks are judged before the first fault, after each step, and at the end; those about nodes
    that a fault has silenced are left out.
    """
    from hostlab.errors import UsageError
    from hostlab.faults.trials import play

    site = _site(lab)
    if not site.lab.faults:
        hint = "for example: `faults: [{at: 1s, do: link-down, on: r1:eth0, for: 3s}]`"
        raise UsageError("no-timeline", f"lab {site.lab.name} has no `faults:`", hint=hint)
    failed = False
    for moment in play(site, site.lab.faults):
        failed = failed or not moment.ok
        _tell(moment, as_json=as_json)
    return int(failed)


def _tell(moment: Moment, *, as_json: bool) -> None:
    """One line, and one for each check that does not hold."""
    if as_json:
        sys.stdout.write(msgspec.json.encode(moment).decode() + "\n")
    else:
        what = "" if moment.what == "checks" else f"{moment.what} "
        print(f"{moment.at_s:8.3f} s  {what}{moment.text}")
        for verdict in moment.verdicts:
            if not verdict.ok:
                print(f"{coloured('✗', good=False)} {verdict}")
    sys.stdout.flush()


@fault_command.command("try", epilog="Example: hostlab fault try 'link-down lan' 'cpu-slow web'")
@click.argument("faults", nargs=-1, required=True, metavar="'KIND TARGET [NAME=VALUE]…'…")
@_lab_option
@json_option
def try_command(faults: tuple[str, ...], *, lab: str | None, as_json: bool) -> int:
    """Do these faults at once, judge the checks, mend all; exit 1 if a check does not hold.

    It fails as well when the lab is not what it was, once they are cleared.
    """
    from hostlab.errors import Failed
    from hostlab.faults.trials import sound, trial
    from hostlab.spec.faults import parse_line

    site = _site(lab)
    wanted = [fault for text in faults for fault in parse_line(text, site.lab)]
    found = trial(site, wanted, sound(site))
    if found.impossible is not None:
        raise Failed("fault", f"these cannot be done at once: {found.impossible}")
    if as_json:
        print_json(found)
    else:
        _print_trial(found)
    return int(not found.ok)


def _print_trial(trial: Trial) -> None:
    for text in trial.failed:
        print(f"{coloured('✗', good=False)} {plain(text)}")
    for text in trial.left:
        print(f"{coloured('✗', good=False)} after clearing: {plain(text)}")
    if trial.ok:
        print("every check holds, and the lab is what it was")


@fault_command.command(
    "campaign", epilog="Example: hostlab fault campaign --seed 7 --runs 100 --kinds link-down"
)
@click.argument("lab", required=False, shell_complete=complete_lab)
@click.option("--seed", type=int, default=0, help="The same seed, the same schedules.")
@click.option("--runs", type=click.IntRange(1), default=100, help="How many schedules.")
@click.option("--most", type=click.IntRange(1), default=3, help="Faults of one schedule.")
@click.option("--kinds", help="Only these kinds, with commas.")
@click.option("--on", help="Only on these targets or roles, and what is part of them, with commas.")
@click.option("--go-on", is_flag=True, help="Go on after a schedule that fails.")
@json_option
def campaign_command(
    lab: str | None,
    *,
    seed: int,
    runs: int,
    most: int,
    kinds: str | None,
    on: str | None,
    go_on: bool,
    as_json: bool,
) -> int:
    """Try random faults; one that fails is shrunk, and the line that repeats it is printed.

    A schedule is some faults at once: they are done, the checks judged, all is mended, and the lab
    must be what it was. Exit 1 if one fails.
    """
    from hostlab.faults import schedules
    from hostlab.faults.trials import campaign

    site = _site(lab)
    choices = schedules.pool(site.lab, _words(kinds), _words(on))
    progress = Progress(f"seed {seed}")
    done, impossible = 0, 0

    def tell(run: int, trial: Trial) -> None:
        nonlocal done, impossible
        done, impossible = run, impossible + (trial.impossible is not None)
        progress(run, runs)

    findings = []
    for finding in campaign(site, choices, seed=seed, runs=runs, most=most, tell=tell):
        progress.end()
        findings.append(finding)
        if not as_json:
            _print_finding(finding)
        if not go_on:
            break
    progress.end()
    if as_json:
        print_json({"seed": seed, "runs": done, "impossible": impossible, "findings": findings})
    else:
        rest = f", {impossible} could not be done" if impossible else ""
        print(f"{done} schedules of {len(choices)} faults, {len(findings)} failed{rest}")
    return int(bool(findings))


def _words(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(filter(None, text.split(",")))


def _print_finding(finding: Finding) -> None:
    print(f"run {finding.run} fails: {', '.join(map(str, finding.schedule))}")
    print(f"  fewest that fail: {', '.join(map(str, finding.fewest.faults))}")
    _print_trial(finding.fewest)
    print(f"  repeat: {finding.replay}")


def _row(standing: Standing) -> dict[str, object]:
    fault = standing.fault
    return {
        "number": standing.number,
        "kind": fault.kind,
        "on": fault.on,
        "options": dict(fault.options),
        "state": standing.phase,
        "since": standing.since,
    }
