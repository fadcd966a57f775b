"""Rounds, medians, targets and what the report says of them."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from bench.measure import Benchmark, Contender, Metrics, Outcome, Target, measure
from bench.report import as_json, as_markdown, as_text, is_of

pytestmark = pytest.mark.unit

MACHINE = {"cpu": "a CPU", "cores": "2", "load before": "0.1"}


def _series(*values: float, log: list[str] | None = None, name: str = "") -> Callable[[], Metrics]:
    left = iter(values)

    def run() -> Metrics:
        if log is not None:
            log.append(name)
        return {"start_ms": next(left)}

    return run


def _outcome() -> Outcome:
    benchmark = Benchmark(
        name="nodes",
        title="start a node",
        contenders=(
            Contender("hostlab", _series(3.0, 100.0, 2.0)),
            Contender("floor", _series(2.0, 2.0, 2.0)),
            Contender("slow", _series(30.0), max_rounds=1),
            Contender("absent", _series(), lambda: "absent: apt-get install absent"),
        ),
        targets=(
            Target("start_ms", 2.0, "floor"),
            Target("start_ms", 11.0, "slow", at_least=True),
            Target("start_ms", 3.0),
            Target("start_ms", 5.0, "absent", at_least=True),
            Target("start_ms", 4.0, at_least=True),
        ),
        rounds=3,
    )
    return measure(benchmark, None, lambda _text: None)


def test_a_ratio_is_of_medians() -> None:
    verdicts = _outcome().verdicts
    assert [verdict.ratio for verdict in verdicts] == [1.5, 10.0, 3.0, None, 3.0]


def test_a_target_is_met_missed_or_unknown() -> None:
    assert [verdict.met for verdict in _outcome().verdicts] == [True, False, True, None, False]


def test_contenders_take_turns_and_every_other_round_starts_at_the_other_end() -> None:
    log: list[str] = []
    benchmark = Benchmark(
        name="turns",
        title="",
        contenders=tuple(
            Contender(name, _series(1, 1, 1, log=log, name=name)) for name in ("a", "b")
        ),
    )
    measure(benchmark, 3, lambda _text: None)
    assert log == ["a", "b", "b", "a", "a", "b"]


def test_a_contender_that_fails_costs_the_others_nothing() -> None:
    def broken() -> Metrics:
        raise RuntimeError("no such thing")

    benchmark = Benchmark(
        name="broken",
        title="",
        contenders=(Contender("broken", broken), Contender("whole", _series(1, 2))),
    )
    outcome = measure(benchmark, 2, lambda _text: None)
    assert outcome.absent == {"broken": "failed: RuntimeError: no such thing"}
    assert outcome.samples["whole"]["start_ms"].values == (1, 2)


def test_the_report_puts_ratios_before_medians_and_names_the_absent() -> None:
    text = as_text(_outcome())
    assert text.index("1.5 ×") < text.index("100")
    assert "≥ 11 × faster than slow: MISSED" in text
    assert "absent: apt-get install absent" in text


def test_the_page_has_every_target_beside_what_was_measured() -> None:
    page = as_markdown([_outcome()], MACHINE, "today", titles=["start a node"])
    assert "| start a node | start_ms | ≤ 2 × floor | 1.5 × | reached |" in page
    assert "| start a node | start_ms | ≥ 5 × faster than absent | – | not measured |" in page
    assert "- cpu: a CPU" in page
    assert "## start a node\n\nMeasured today, load before: 0.1.\n" in page


def _named(title: str, seconds: float) -> Outcome:
    contender = Contender("hostlab", _series(seconds))
    benchmark = Benchmark(
        title, title, (contender,), (Target("start_ms", 3.0),), notes=lambda: f"of {title}"
    )
    return measure(benchmark, 1, lambda _text: None)


def test_a_part_that_is_measured_again_leaves_the_rest_of_the_page() -> None:
    titles = ["a", "b", "c"]
    whole = as_markdown([_named("a", 1), _named("c", 2)], MACHINE, "in May", titles=titles)
    again = as_markdown([_named("b", 4)], MACHINE, "in June", titles=titles, before=whole)
    once_more = as_markdown([_named("c", 5)], MACHINE, "in July", titles=titles, before=again)
    assert [line for line in once_more.splitlines() if line.startswith(("| a", "| b", "| c"))] == [
        "| a | start_ms | ≤ 3 | 1 | reached |",
        "| b | start_ms | ≤ 3 | 4 | MISSED |",
        "| c | start_ms | ≤ 3 | 5 | MISSED |",
        *["| contender | metric | median | least – greatest | rounds |"] * 3,
    ]
    for said in ("## a\n\nMeasured in May", "## b\n\nMeasured in June", "## c\n\nMeasured in July"):
        assert said in once_more
    assert "of a\n```\n\n## b" in once_more
    assert "in May" not in once_more.partition("## b")[2]


def test_what_is_no_benchmark_any_more_leaves_the_page() -> None:
    whole = as_markdown([_named("a", 1), _named("old", 2)], MACHINE, "", titles=["a", "old"])
    assert whole.count("old") == 3  # its target, its heading, its notes
    assert "old" not in as_markdown([], MACHINE, "", titles=["a"], before=whole)


def test_figures_of_two_machines_do_not_stand_on_one_page() -> None:
    page = as_markdown([_outcome()], MACHINE, "today", titles=["start a node"])
    assert is_of(page, {**MACHINE, "load before": "9.0"})
    assert not is_of(page, {**MACHINE, "cores": "64"})


def test_json_has_every_round() -> None:
    document = json.loads(as_json([_outcome()], MACHINE, "python -m bench"))
    rounds = document["benchmarks"][0]["contenders"]["hostlab"]["start_ms"]["rounds"]
    assert rounds == [3.0, 100.0, 2.0]
