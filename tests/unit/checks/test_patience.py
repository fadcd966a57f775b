"""How often and how long something is tried, by a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hostlab.checks.patience import MOST_STEPS, Patience, Seen, Step, Waited

pytestmark = pytest.mark.unit

NO, YES = Seen(ok=False, text="no"), Seen(ok=True, text="yes")


class Clock:
    """Time passes only in pauses and in attempts."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.pauses: list[float] = []
        self.given: list[float] = []

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now_s += seconds

    def patience(self, within_s: float, attempt_s: float = 1.0, **more: Any) -> Patience:
        return Patience(within_s, attempt_s, pause=self.pause, now=lambda: self.now_s, **more)

    def attempts(self, *seen: Seen, lasting_s: float = 0.0) -> Callable[[float], Seen]:
        """Attempts that see these in turn, then the last for ever."""

        def attempt(timeout_s: float) -> Seen:
            self.given.append(timeout_s)
            self.now_s += lasting_s
            return seen[min(len(self.given), len(seen)) - 1]

        return attempt


def test_what_is_true_at_once_is_not_waited_for() -> None:
    clock = Clock()
    waited = clock.patience(5).judged(clock.attempts(YES))
    trace = (Step(0.0, YES.text),)
    assert waited == Waited(seen=YES, tries=1, took_s=0.0, trace=trace)
    assert clock.pauses == []


def test_the_trace_has_what_was_seen_each_time_that_it_changed() -> None:
    clock = Clock()
    other = Seen(ok=False, text="other")
    waited = clock.patience(5).judged(clock.attempts(NO, NO, other, NO, YES))
    assert [step.text for step in waited.trace] == [NO.text, "other", NO.text, YES.text]
    assert [round(1000 * step.at_s) for step in waited.trace] == [0, 3, 7, 15]
    busy = Clock()
    changing = busy.attempts(*(Seen(ok=False, text=str(number)) for number in range(50)))
    assert len(busy.patience(3).judged(changing).trace) == MOST_STEPS


def test_once_is_one_attempt() -> None:
    clock = Clock()
    patience = clock.patience(5, once=True)
    assert patience.judged(clock.attempts(NO, YES)).seen is NO


def test_pauses_double_up_to_a_bound() -> None:
    clock = Clock()
    waited = clock.patience(5).judged(clock.attempts(*[NO] * 10, YES))
    assert waited.seen is YES
    assert waited.tries == 11
    assert [round(1000 * p) for p in clock.pauses] == [1, 2, 4, 8, 16, 32, 64, 100, 100, 100]


@pytest.mark.parametrize("within_s", [0.0, 0.05, 1.0, 5.0])
def test_the_deadline_is_met_exactly_by_a_last_attempt(within_s: float) -> None:
    clock = Clock()
    waited = clock.patience(within_s).judged(clock.attempts(NO))
    assert waited.seen is NO
    assert clock.now_s == pytest.approx(100 + within_s)
    assert len(clock.given) == waited.tries == len(clock.pauses) + 1


def test_an_attempt_is_told_what_it_has() -> None:
    clock = Clock()
    clock.patience(2.5).judged(clock.attempts(NO, lasting_s=1.0))
    assert clock.given[0] == 1.0
    assert clock.given[2] == pytest.approx(0.5, abs=0.01)
    assert clock.now_s < 103.6
    assert Clock().patience(0).judged(lambda s: Seen(ok=s == 0.1, text="")).seen.ok


def test_hope_that_is_gone_ends_it() -> None:
    clock = Clock()
    gone = Seen(ok=False, hopeless=True, text="gone")
    assert clock.patience(5).judged(clock.attempts(NO, gone)).tries == 2


def test_an_attempt_that_heard_nothing_does_not_hide_one_that_did() -> None:
    clock = Clock()
    late = Seen(ok=False, heard=0, text="late")
    assert clock.patience(0.01).judged(clock.attempts(NO, late)).seen is NO
    assert clock.patience(0.0).judged(clock.attempts(late)).seen is late
    newer = Seen(ok=False, text="newer")
    assert Clock().patience(0.01).judged(clock.attempts(newer)).seen is newer
    clock = Clock()
    assert clock.patience(0.01).judged(clock.attempts(late, NO, newer, late)).seen is newer


def test_what_must_last_is_tried_for_a_second_and_no_longer() -> None:
    clock = Clock()
    waited = clock.patience(5, lasting=True).judged(clock.attempts(YES))
    assert waited.seen is YES
    assert clock.now_s == pytest.approx(101)
    assert waited.tries > 10


def test_what_must_last_is_given_up_when_it_breaks() -> None:
    clock = Clock()
    waited = clock.patience(5, lasting=True).judged(clock.attempts(YES, YES, YES, NO))
    assert waited.seen is NO
    assert waited.tries == 4


def test_what_must_go_on_is_judged_from_when_it_is_true() -> None:
    clock = Clock()
    waited = clock.patience(5, always_s=2.0).judged(clock.attempts(NO, NO, YES))
    assert waited.seen is YES
    assert waited.took_s == pytest.approx(2.003)
    clock = Clock()
    waited = clock.patience(5, always_s=2.0).judged(clock.attempts(NO, YES, YES, YES, NO, YES))
    assert waited.seen is NO
    assert waited.tries == 5
    clock = Clock()
    waited = clock.patience(0.5, always_s=2.0).judged(clock.attempts(NO))
    assert waited.seen is NO
    assert clock.now_s == pytest.approx(100.5)
    clock = Clock()
    assert clock.patience(5, lasting=True, always_s=3.0).judged(clock.attempts(YES)).seen is YES
    assert clock.now_s == pytest.approx(103)


def test_what_must_never_be_is_the_opposite_for_as_long() -> None:
    clock = Clock()
    waited = clock.patience(5, never_s=2.0).judged(clock.attempts(NO))
    assert (waited.seen.ok, waited.seen.text) == (True, "no")
    assert clock.now_s == pytest.approx(102)
    clock = Clock()
    waited = clock.patience(5, never_s=2.0).judged(clock.attempts(NO, NO, YES))
    assert (waited.seen.ok, waited.seen.text, waited.tries) == (False, "yes", 3)
    unknown = Seen(ok=False, unknown=True, text="no right")
    waited = Clock().patience(5, never_s=2.0).judged(lambda _: unknown)
    assert waited.seen is unknown


@pytest.mark.parametrize(
    ("said", "longest_s"), [({}, 5), ({"always_s": 2.0}, 7), ({"never_s": 3.0}, 3)]
)
def test_how_long_it_can_take(said: dict[str, float], longest_s: float) -> None:
    assert Clock().patience(5, **said).longest_s == longest_s
