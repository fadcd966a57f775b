"""The meter of a failover: requests from a node all the time, faults meanwhile, again and again.

A run begins when the routing has converged and every request has been answered well for a while, by
whoever answered at first. It ends when that is so again after the faults, by anybody, or when it is
late. Then all is mended, and the next run waits until the first ones are back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final

import msgspec

from hostlab import typed
from hostlab.api import Lab
from hostlab.checks.inside import Crew, Gone, Inside
from hostlab.checks.requests import Answer, Probe, Requests, Taken, target_of
from hostlab.errors import Failed
from hostlab.faults import injecting, record
from hostlab.faults.outage import Changes, Outage, outage
from hostlab.faults.record import Phase, Standing
from hostlab.faults.site import Site
from hostlab.spec.fault_timeline import steps
from hostlab.spec.model import TimedFault

BEGINS_S: Final = 60.0
"""The sending itself begins at once, unless the machine is very busy."""
SETTLE_S: Final = 1.0
WAIT_S: Final = 60.0
MOST_TOLD: Final = 20
"""Changes of one run: of many, as when every third request fails, the first tell enough."""


Tell = Callable[[float, str], None]
"""Is told what changes: seconds of the epoch, and what."""


def _epoch() -> float:
    """What the monotonic clock is behind the epoch's."""
    return time.time() - time.monotonic()


def _silently(at: float, text: str) -> None:
    """Nobody is told."""


class Asking:
    """The requests that are sent from a node, and what has come of them."""

    def __init__(self, inside: Inside, probe: Probe, tell: Tell) -> None:
        self._inside = inside
        self._tell = tell
        self._changes = Changes()
        self._told = 0
        self._probe = probe
        if inside.call(msgspec.json.encode(probe), BEGINS_S) is None:
            raise Failed("node-gone", "no request can be sent from inside the node")
        self._is_taking = False
        self._through = 0.0
        self.log: list[Answer] = []
        self.left_out = 0

    def take(self, until: float) -> None:
        """Wait for more answers, no longer than to a time of the monotonic clock."""
        if not self._is_taking:
            self._inside.submit(b"take")
            self._is_taking = True
        said = self._inside.receive(until - time.monotonic())
        if said is None:
            return
        self._is_taking = False
        taken = typed.decode(said, Taken)
        self.log += taken.answers
        self._through, self.left_out = taken.through, taken.left_out
        epoch = _epoch()
        for at, text in self._changes.see(taken.answers, taken.through):
            self._told += 1
            if self._told <= MOST_TOLD:
                self._tell(at + epoch, text if self._told < MOST_TOLD else "and so on")

    def take_until(self, at: float) -> None:
        """Take what comes until then."""
        while time.monotonic() < at:
            self.take(at)

    def forget(self, until: float) -> None:
        """Drop the requests that were sent until then; a run begins."""
        self._told = 0
        self.log = [answer for answer in self.log if answer.sent > until]

    def steady(
        self, since: float, *, settle_s: float, wait_s: float, by: frozenset[str] | None = None
    ) -> float | None:
        """Since when every request has been answered well, as soon as that is `settle_s` long.

        With `by` only their answers count, and each of them must have answered. None when it has
        not come to that in `wait_s` from now.
        """
        until = time.monotonic() + wait_s
        steady_since, looked_at = since, 0
        while True:
            for answer in self.log[looked_at:]:
                if not answer.ok or (by is not None and answer.who not in by):
                    steady_since = max(steady_since, answer.sent)
            looked_at = len(self.log)
            if self._through - steady_since >= settle_s:
                who = {a.who for a in self.log if a.ok and a.sent > steady_since}
                if who and (by is None or who >= by):
                    return steady_since
            if time.monotonic() >= until:
                return None
            self.take(until)

    def last_said(self) -> str:
        """Who or what came last, for a message."""
        if not self.log:
            return "no request was sent"
        last = max(self.log, key=lambda answer: answer.sent)
        return f"the last answer: {last.error or last.who or 'good'}"


@contextmanager
def asking(site: Site, node: str, probe: Probe, tell: Tell | None = None) -> Iterator[Asking]:
    """Send requests from a node for the length of the block; UsageError for what is no target."""
    target_of(probe)
    with Crew(Requests().handle) as crew, crew.enter(site.pid(node)) as inside:
        try:
            yield Asking(inside, probe, tell or _silently)
        except Gone:
            message = f"node {node}, from which the requests are sent, has ended"
            raise Failed("node-gone", message) from None


def measure(
    site: Site,
    timeline: Sequence[TimedFault],
    probe: Probe,
    *,
    node: str,
    runs: int = 1,
    settle_s: float = SETTLE_S,
    wait_s: float = WAIT_S,
    first: frozenset[str] | None = None,
    then: frozenset[str] | None = None,
    tell: Tell | None = None,
) -> Iterator[Outage]:
    """Do the faults `runs` times, and tell of each time what the requests from `node` saw.

    `settle_s` is how long all must be good to be taken for steady, `wait_s` how long that is waited
    for; a run in which it does not come has no first good answer. Failed when it does not come
    before a fault, or the routing has not converged. A run begins when `first` answer, all of them
    and nobody else, and ends when `then` do; None: whoever answered when the first run began, and
    anybody.
    """
    with asking(site, node, probe, tell) as requests:
        by = first
        for number in range(1, runs + 1):
            _converge(site, wait_s)
            since = requests.steady(time.monotonic(), settle_s=settle_s, wait_s=wait_s, by=by)
            if since is None:
                message = f"not every request to {probe.target} is answered{_by(by)}"
                raise Failed("not-steady", f"{message}, {wait_s:g} s long; {requests.last_said()}")
            requests.forget(since)
            by = by or frozenset(a.who for a in requests.log if a.ok)
            recovers = partial(requests.steady, settle_s=settle_s, wait_s=wait_s, by=then)
            yield _run(site, timeline, requests, number, recovers, tell or _silently)


def _converge(site: Site, wait_s: float) -> None:
    """A path can be back before the sessions that watch it; without them a fault takes longer.

    Where faults stand already, sessions may be down for good, and none are waited for.
    """
    lab = Lab(site.lab)
    if lab.has_routing and not injecting.injected(site):
        lab.wait_converged(timeout_s=wait_s)


def _by(by: frozenset[str] | None) -> str:
    named = sorted(filter(None, by or ()))
    return f" by {', '.join(named)}" if named else ""


def _run(
    site: Site,
    timeline: Sequence[TimedFault],
    requests: Asking,
    number: int,
    recovers: Callable[[float], float | None],
    tell: Tell,
) -> Outage:
    """One run; whatever comes, all that it broke is mended at its end."""
    there: dict[int, Standing] = {}
    left_out = requests.left_out
    epoch = _epoch()
    started = done = time.monotonic()
    began: float | None = None
    try:
        for step in steps(timeline):
            requests.take_until(started + step.at_s)
            if step.clears:
                injecting.mend(site, [there.pop(step.number)])
                tell(time.time(), f"cleared {step.fault}")
            else:
                (there[step.number],) = injecting.inject(site, (step.fault,))
                at = _begun(site, there[step.number])
                tell(at, str(step.fault))
                began = at - epoch if began is None else began
            done = time.monotonic()
        steady = recovers(done)
    finally:
        for cleared in injecting.mend(site, there.values()):
            tell(time.time(), f"cleared {cleared.fault}")
        site.look()
    return outage(
        requests.log,
        number=number,
        began=done if began is None else began,
        done=done,
        epoch=epoch,
        left_out=requests.left_out - left_out,
        steady=steady,
    )


def _begun(site: Site, standing: Standing) -> float:
    """When a fault was begun, in seconds of the epoch: it is written down just before."""
    return next(
        line.time
        for line in record.read(site.directory)
        if line.number == standing.number and line.phase is Phase.BEGUN
    )
