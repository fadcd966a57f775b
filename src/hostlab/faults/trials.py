"""Faults and the lab's checks: a timeline, some faults at once, a campaign of random ones."""

from __future__ import annotations

import select
import shlex
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from typing import Final

import msgspec

from hostlab.api import Lab, Node
from hostlab.checks.judge import judge
from hostlab.checks.verdict import Report, Verdict
from hostlab.errors import Failed, Problem
from hostlab.faults import injecting, schedules, witness
from hostlab.faults.record import Standing
from hostlab.faults.site import Site
from hostlab.lab import driver
from hostlab.linux.timerfd import CLOCK_BOOTTIME, TimerFd
from hostlab.observe.snapshot import Snapshot, differences
from hostlab.spec import fault_conflicts
from hostlab.spec.fault_timeline import steps
from hostlab.spec.model import Check, Fault, TimedFault

WHOLE_S: Final = 5.0
"""So long a lab that is mended may still settle, in ways that no descriptor tells of."""
SETTLES_S: Final = 60.0
ROUTERS_QUIET_S: Final = 6.0
"""After so long without a change routers have said everything: what one has told of a cable it
tells anew after 5 s at the soonest (MinLSInterval of RFC 2328)."""


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """What has happened on a timeline."""

    at_s: float
    """From the timeline's start."""
    time: float
    """Seconds of the epoch."""
    what: str
    """injected, cleared or checks."""
    text: str
    verdicts: tuple[Verdict, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every check held."""
        return all(verdict.ok for verdict in self.verdicts)


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What some faults at once have come to."""

    faults: tuple[Fault, ...]
    failed: tuple[str, ...] = ()
    """Checks that did not hold while they stood, in words."""
    left: tuple[str, ...] = ()
    """What was not as before when they were cleared: checks, and differences of the lab."""
    impossible: str | None = None
    """Why they could not be done; then nothing was judged."""

    @property
    def ok(self) -> bool:
        """Whether everything held."""
        return not self.failed and not self.left


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule of a campaign that failed."""

    run: int
    schedule: tuple[Fault, ...]
    fewest: Trial
    """Of the fewest of its faults that still fail."""
    replay: str
    """The command line that does these again."""


def judged(site: Site, broken: Sequence[Fault] = (), *, within_s: float | None = None) -> Report:
    """The lab's checks, but for those about nodes that are silent on purpose.

    With `within_s` none is given more time than that. Why a node that is asked does not answer is
    looked up only while nothing is `broken`: else that is why, and a timeline waits for nobody.
    """
    silent = fault_conflicts.silenced(broken)
    limited = [_limited(check, silent, within_s) for check in site.lab.checks]
    nodes = {
        name: Node(site.lab.name, name, pid)
        for name, pid in site.nodes.items()
        if not site.is_dead(name)
    }
    return judge(
        [check for check in limited if check.nodes],
        nodes,
        lab=site.lab.name,
        secrets=site.lab.secrets,
        described=None if broken else site.lab,
    )


Judge = Callable[[Site, Sequence[Fault]], Report]
"""What is expected of a lab in which these faults stand."""


def _limited(check: Check, silent: frozenset[str], within_s: float | None) -> Check:
    nodes = tuple(name for name in check.nodes if name not in silent)
    if within_s is None:
        return msgspec.structs.replace(check, nodes=nodes)
    return msgspec.structs.replace(
        check,
        nodes=nodes,
        within_s=min(check.within_s, within_s),
        always_s=None if check.always_s is None else min(check.always_s, within_s),
        never_s=None if check.never_s is None else min(check.never_s, within_s),
    )


def play(
    site: Site, timeline: Sequence[TimedFault], *, judges: bool = True
) -> Generator[Moment, None, None]:
    """Break and mend things as a timeline says, and tell each moment; checks are judged between.

    A check has the time until the next step, so that it is in time. When it ends, or is ended,
    everything that it broke is mended.
    """
    started = _now()
    there: dict[int, Standing] = {}

    def moment(what: str, text: str, verdicts: tuple[Verdict, ...] = ()) -> Moment:
        at_s = round(_now() - started, 3)
        return Moment(at_s=at_s, time=time.time(), what=what, text=text, verdicts=verdicts)

    def look(within_s: float | None = None) -> Moment:
        report = judged(site, [each.fault for each in there.values()], within_s=within_s)
        return moment("checks", report.summary(), report.rows)

    course = steps(timeline)
    try:
        if judges:
            first = judged(site)
            started = _now()
            yield moment("checks", first.summary(), first.rows)
        for step, following in zip(course, (*course[1:], None), strict=True):
            _wait_until(started + step.at_s)
            if step.clears:
                injecting.mend(site, [there.pop(step.number)])
            else:
                (there[step.number],) = injecting.inject(site, (step.fault,))
            yield moment("cleared" if step.clears else "injected", str(step.fault))
            left = None if following is None else started + following.at_s - _now()
            if judges and (left is None or left > 0):
                yield look(left)
    finally:
        standing, there = list(there.values()), {}
        injecting.mend(site, standing)
    for each in reversed(standing):
        yield moment("cleared", str(each.fault))
    if judges and standing:
        yield look()


def _now() -> float:
    return time.clock_gettime(CLOCK_BOOTTIME)


def _wait_until(at: float) -> None:
    with closing(TimerFd(CLOCK_BOOTTIME)) as timer:
        timer.set(at)
        select.select([timer], [], [])


def trial(site: Site, wanted: Sequence[Fault], before: Snapshot, judge: Judge = judged) -> Trial:
    """Do these faults at once, judge the checks, mend all, and see whether the lab is whole.

    `before` is what it was.
    """
    try:
        done = injecting.inject(site, wanted)
    except (Problem, OSError) as error:
        why = error.message if isinstance(error, Problem) else str(error)
        return Trial(faults=tuple(wanted), impossible=why)
    try:
        failed = _words(judge(site, wanted))
    finally:
        injecting.mend(site, done)
    _settle(site)
    different = _differences(site, before)
    left = (*_words(judge(site, ())), *different)
    return Trial(faults=tuple(wanted), failed=failed, left=left)


def _words(report: Report) -> tuple[str, ...]:
    return tuple(
        "\n    | ".join((f"{row.node}: {row.check}: {row.detail}", *row.log))
        for row in report.rows
        if not row.ok
    )


def _settle(site: Site) -> None:
    """Nodes that were made anew have their jobs to start, and routers their sessions."""
    site.look()
    for node in site.lab.nodes:
        if node.has_jobs and not site.is_dead(node.name):
            Node(site.lab.name, node.name, site.pid(node.name)).wait_settled(within_s=SETTLES_S)
    if any(node.routing for node in site.lab.nodes):
        # Where it does not come back the comparison says what is missing.
        with suppress(Failed):
            Lab(site.lab.name).wait_converged(timeout_s=SETTLES_S)


def whole(site: Site) -> Snapshot:
    """What the lab is, once its routers have nothing more to say to one another.

    Failed when they do not come to an end.
    """
    lab = Lab(site.lab)
    if lab.has_routing:
        lab.wait_converged(quiet_s=ROUTERS_QUIET_S)
    return witness.take(site)


def sound(site: Site, judge: Judge = judged) -> Snapshot:
    """What the lab is before anything is broken; Failed when a check does not hold already.

    It would be laid to whatever is broken first.
    """
    before = whole(site)
    report = judge(site, ())
    if not report.ok:
        there = ", ".join(str(each.fault) for each in injecting.injected(site))
        message = "a check does not hold before anything is broken: " + "; ".join(_words(report))
        hint = (
            f"standing already: {there}" if there else f"`hostlab check {site.lab.name}` says why"
        )
        raise Failed("checks", message, hint=hint)
    return before


def _differences(site: Site, before: Snapshot) -> tuple[str, ...]:
    """What the lab is not as it was in; the programs that its jobs run come and go.

    Routers are waited for until their routes are the same again.
    """
    lab = Lab(site.lab)
    if lab.has_routing:
        try:
            lab.wait_converged()
        except Failed as failed:
            return (failed.message,)
    deadline = time.monotonic() + (SETTLES_S if lab.has_routing else WHOLE_S)
    while True:
        changes = differences(before, witness.take(site))
        found = tuple(str(change) for change in changes if change.kind != witness.PROCESS)
        if not found or time.monotonic() > deadline:
            return found


def campaign(
    site: Site,
    choices: Sequence[Fault],
    *,
    seed: int,
    runs: int,
    most: int,
    judge: Judge = judged,
    tell: Callable[[int, Trial], None] = lambda run, trial: None,
) -> Iterator[Finding]:
    """Random schedules from a seed; each that fails is shrunk and told with the line to repeat it.

    A lab that is not whole after a trial is staged anew before the next one.
    """
    before = sound(site, judge)
    for run in range(1, runs + 1):
        schedule = schedules.draw(seed, run, choices, site.lab, most=most)
        first = _tried(site, schedule, before, judge)
        tell(run, first)
        if first.ok:
            continue
        fewest = _fewest(site, first, before, judge)
        yield Finding(run=run, schedule=schedule, fewest=fewest, replay=replay(site, fewest.faults))


def _fewest(site: Site, first: Trial, before: Snapshot, judge: Judge) -> Trial:
    """The trial of the fewest faults that still fail."""
    trials = {first.faults: first}

    def fails(some: Sequence[Fault]) -> bool:
        key = tuple(some)
        if key not in trials:
            trials[key] = _tried(site, key, before, judge)
        return not trials[key].ok

    return trials[schedules.shrink(first.faults, fails)]


def _tried(site: Site, wanted: tuple[Fault, ...], before: Snapshot, judge: Judge) -> Trial:
    found = trial(site, wanted, before, judge)
    if found.left:
        stage_anew(site)
    return found


def stage_anew(site: Site) -> None:
    """Down and up again: for a lab that a fault has left other than it was."""
    driver.unstage(site.lab.name)
    driver.stage(site.lab)
    _settle(site)
    whole(site)


def replay(site: Site, wanted: Sequence[Fault]) -> str:
    """The command line that does these faults at once, and judges."""
    words = (shlex.quote(str(fault)) for fault in wanted)
    return " ".join(("hostlab fault try --lab", site.lab.name, *words))
