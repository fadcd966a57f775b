"""What requests say of a fault: the last good, the first good, and how it is spread over runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.checks.requests import Answer
from hostlab.faults.outage import Changes, Outage, outage, spread, spreads

pytestmark = pytest.mark.unit

BEGAN = 100.0


def seen(answers: list[Answer], *, recovered: bool = True, steady: float = 0) -> Outage:
    return outage(
        answers,
        number=1,
        began=BEGAN,
        done=BEGAN + 0.25,
        epoch=1000.0,
        left_out=0,
        steady=BEGAN + steady if recovered else None,
    )


def good(sent: float, who: str = "a") -> Answer:
    return Answer(BEGAN + sent, BEGAN + sent + 0.125, who)


def bad(sent: float, error: str = "no answer in time") -> Answer:
    return Answer(BEGAN + sent, BEGAN + sent + 1, error=error)


def test_a_failover() -> None:
    found = seen([good(-2), good(-1), bad(0.5), bad(1, "refused"), good(2, "b"), good(3, "b")])
    assert (found.last_good_s, found.first_good_s, found.outage_s) == (-0.875, 2.125, 3.0)
    assert (found.moved_s, found.longest_gap_s, found.done_s) == (2.125, 3.0, 0.25)
    assert (found.sent, found.failed, found.time) == (6, 2, 1100.0)
    assert (found.before, found.after) == ({"a": 2}, {"b": 2})
    assert found.errors == {"no answer in time": 1, "refused": 1}


def test_good_answers_between_bad_ones_shorten_the_gap_and_not_the_outage() -> None:
    found = seen([good(-1), bad(0), good(1, "b"), bad(2), good(3, "b")])
    assert (found.moved_s, found.first_good_s) == (1.125, 3.125)
    assert (found.outage_s, found.longest_gap_s) == (4.0, 2.0)
    assert found.after == {"b": 1}


def test_who_takes_over_without_a_loss() -> None:
    found = seen([good(-1), good(1), good(2, "b")], steady=1)
    assert (found.last_good_s, found.first_good_s) == (-0.875, 1.125)
    assert (found.moved_s, found.outage_s, found.failed) == (2.125, 0.0, 0)
    assert found.after == {"b": 1}


def test_a_request_that_the_fault_met_on_its_way_is_the_first_that_failed() -> None:
    found = seen([good(-1), bad(-0.01), good(1)])
    assert (found.last_good_s, found.first_good_s, found.outage_s) == (-0.875, 1.125, 2.0)


def test_what_does_not_recover_has_no_first_good_answer() -> None:
    found = seen([good(-1), bad(1), good(2)], recovered=False)
    assert (found.first_good_s, found.outage_s, found.recovered) == (None, None, False)
    assert found.after == {}
    assert seen([], recovered=False).last_good_s is None
    assert seen([bad(1)], recovered=False).longest_gap_s is None


def test_the_order_of_the_answers_does_not_matter() -> None:
    answers = [good(-1), bad(0), good(1, "b"), bad(2), good(3, "b")]
    assert seen(answers[::-1]) == seen(answers)


def test_changes_are_told_in_the_order_of_the_requests_as_soon_as_all_have_ended() -> None:
    changes = Changes()
    assert changes.see([good(0), good(3, "b")], BEGAN) == []
    assert changes.see([good(4)], BEGAN + 1) == [(BEGAN + 0.125, "a answers")]
    found = changes.see([bad(1, "refused"), bad(2)], BEGAN + 5)
    assert found == [
        (BEGAN + 1, "not answered: refused"),
        (BEGAN + 3.125, "b answers"),
        (BEGAN + 4.125, "a answers"),
    ]
    assert changes.see([good(5), good(6, "b"), good(7, "")], BEGAN + 8) == [
        (BEGAN + 7.125, "somebody answers")
    ]


times = st.floats(-50, 50).map(lambda at: round(at, 3))


@pytest.mark.hypothesis
@given(st.lists(st.one_of(times.map(good), times.map(bad)), max_size=30))
def test_the_figures_agree_with_each_other(answers: list[Answer]) -> None:
    found = seen(answers)
    assert found.sent == len(answers)
    assert found.failed == sum(found.errors.values())
    if found.first_good_s is not None:
        assert all(a.ok or a.sent < BEGAN + found.first_good_s for a in answers)
        if found.outage_s is not None and found.failed:
            assert found.last_good_s is not None
            assert found.outage_s == pytest.approx(found.first_good_s - found.last_good_s)


@pytest.mark.parametrize(
    ("values", "figures"),
    [
        ([3], (3, 3, 3, 3)),
        ([4, 1], (1, 2.5, 4, 4)),
        (list(range(1, 101)), (1, 50.5, 95, 100)),
        (list(range(1, 21)), (1, 10.5, 19, 20)),
    ],
)
def test_a_distribution(values: list[float], figures: tuple[float, ...]) -> None:
    found = spread(values)
    assert found is not None
    assert (found.min, found.median, found.p95, found.max) == figures


def test_a_figure_that_no_run_has_has_no_distribution() -> None:
    assert spread([]) is None
    both = [seen([good(-1), good(1)]), seen([good(-1), bad(1)], recovered=False)]
    found = spreads(both)
    assert found["moved"] is None
    assert found["outage"] == spread([0.0])
    assert found["failed"] == spread([0, 1])
