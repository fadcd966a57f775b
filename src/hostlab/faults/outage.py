"""What a fault did to a service, from the requests that were sent meanwhile.

Requests are put in the order in which they were sent. What is disturbed lies between the last good
answer before the first request that failed, and the first good answer after the last one that did.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from hostlab.checks.requests import Answer

FIGURES: Final = {
    "first good": "first_good_s",
    "moved": "moved_s",
    "outage": "outage_s",
    "longest gap": "longest_gap_s",
    "failed": "failed",
}
"""Of which a distribution is told: their names for people, and of the members of `Outage`."""


class Outage(msgspec.Struct, frozen=True, kw_only=True):
    """One fault, as a client saw it. Times in seconds, from the instant the fault was begun."""

    number: int
    """Of the run, from 1."""
    time: float
    """When the fault was begun: seconds of the epoch, as the events have it."""
    done_s: float
    """When the fault had been done; of several, the last."""
    sent: int
    failed: int
    left_out: int
    """Requests that could not be sent in time, since the machine was too busy."""
    last_good_s: float | None
    """The last good answer before the first failure; without one, before the fault."""
    first_good_s: float | None
    """The first good answer from which on all were good; None: it did not come in time."""
    moved_s: float | None
    """The first answer by someone who had not answered before the fault."""
    outage_s: float | None
    """From the last good answer to the first one; 0 when no request failed."""
    longest_gap_s: float | None
    """The longest time without any good answer; shorter than the outage where some came."""
    before: Mapping[str, int]
    """Who answered before the fault, and how often."""
    after: Mapping[str, int]
    """Who answered since it was steady."""
    errors: Mapping[str, int]

    @property
    def recovered(self) -> bool:
        """Whether it was all good again in time."""
        return self.first_good_s is not None


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """The distribution of a figure."""

    min: float
    median: float
    p95: float
    """The smallest value that is not below 95 % of them."""
    max: float


class Changes:
    """Who begins to answer, and when requests begin to fail: told in the order of the requests."""

    def __init__(self) -> None:
        self._waiting: list[Answer] = []
        self._serving: set[str] | None = set()
        """Who has answered since a request failed; None: the last one did."""

    def see(self, answers: Iterable[Answer], through: float) -> list[tuple[float, str]]:
        """(time, text) of what has changed; every request that was sent before `through` is there.

        An answer has the time when it came, a request that failed the one when it was sent.
        """
        self._waiting += answers
        known = sorted((a for a in self._waiting if a.sent < through), key=lambda a: a.sent)
        self._waiting = [a for a in self._waiting if a.sent >= through]
        return [change for answer in known for change in self._change(answer)]

    def _change(self, answer: Answer) -> Iterator[tuple[float, str]]:
        if not answer.ok:
            if self._serving is not None:
                yield answer.sent, f"not answered: {answer.error}"
            self._serving = None
            return
        serving = self._serving or set()
        if answer.who not in serving:
            yield answer.ended, f"{answer.who or 'somebody'} answers"
        self._serving = serving | {answer.who}


def spread(values: Sequence[float]) -> Spread | None:
    """Of some values; None of none."""
    if not values:
        return None
    ordered = sorted(values)
    return Spread(
        min=ordered[0],
        median=statistics.median(ordered),
        p95=ordered[math.ceil(0.95 * len(ordered)) - 1],
        max=ordered[-1],
    )


def spreads(outages: Iterable[Outage]) -> dict[str, Spread | None]:
    """Of each figure, over the runs that have it."""
    runs = list(outages)
    return {
        name: spread([value for run in runs if (value := getattr(run, member)) is not None])
        for name, member in FIGURES.items()
    }


def outage(
    answers: Iterable[Answer],
    *,
    number: int,
    began: float,
    done: float,
    epoch: float,
    left_out: int,
    steady: float | None,
) -> Outage:
    """What the answers of one run say; `began` and `done` by their clock.

    `epoch` is what that clock is behind the epoch's. `steady` is since when all was as it should
    be; when that never came, no answer is the first good one, for more may have failed.
    """
    ordered = sorted(answers, key=lambda answer: answer.sent)
    good = [answer for answer in ordered if answer.ok]
    bad = [answer for answer in ordered if not answer.ok]
    earlier = [a.ended for a in good if a.sent < (bad[0].sent if bad else began)]
    later = (
        [a for a in good if a.sent > (bad[-1].sent if bad else began)] if steady is not None else []
    )
    last = max(earlier, default=None)
    first = min((answer.ended for answer in later), default=None)
    before = Counter(a.who for a in good if a.ended < began)
    moved = [a.ended for a in good if a.sent >= began and a.who not in before]
    after = [a.who for a in later if steady is not None and a.sent > steady]
    lasted = None if first is None or last is None else first - last if bad else 0.0
    return Outage(
        number=number,
        time=began + epoch,
        done_s=_since(began, done),
        sent=len(ordered),
        failed=len(bad),
        left_out=left_out,
        last_good_s=None if last is None else _since(began, last),
        first_good_s=None if first is None else _since(began, first),
        moved_s=_since(began, min(moved)) if moved else None,
        outage_s=None if lasted is None else round(lasted, 6),
        longest_gap_s=_longest_gap([answer.ended for answer in good]),
        before=dict(before),
        after=dict(Counter(after)),
        errors=dict(Counter(answer.error for answer in bad)),
    )


def _since(began: float, at: float) -> float:
    return round(at - began, 6)


def _longest_gap(times: Sequence[float]) -> float | None:
    ordered = sorted(times)
    gaps = [after - before for before, after in itertools.pairwise(ordered)]
    return round(max(gaps), 6) if gaps else None
