"""The init's benchmarks run, in small: that they measure something, never how much."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from bench import flood, init_cases, jobs_engine, source_cases
from bench.cases import CASES
from bench.measure import Benchmark, Outcome, measure
from tests.netns.lab.lab_site import probe

pytestmark = pytest.mark.netns

SMALL: Mapping[str, Callable[[], Benchmark]] = {
    "emit": lambda: init_cases.emit_case(jobs=3, times=2),
    "start": lambda: init_cases.start_case(times=1),
    "jobs": lambda: init_cases.jobs_case(jobs=3),
    "recovery": lambda: init_cases.recovery_case(jobs=3),
    "timers": lambda: source_cases.timers_case(timers=200, window_s=0.5),
    "files": lambda: source_cases.files_case(paths=10, changes=100),
    "idle": lambda: source_cases.idle_case(window_s=0.5),
    "flood": lambda: init_cases.flood_case(size_bytes=1_000_000),
}


def _measured(benchmark: Benchmark) -> Outcome:
    outcome = measure(benchmark, 1, lambda _: None)
    failed = [reason for reason in outcome.absent.values() if reason.startswith("failed")]
    assert not failed, failed
    return outcome


@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_of_the_init_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe()
    monkeypatch.setenv("HOSTLAB_RUN", str(tmp_path / "run"))
    outcome = _measured(SMALL[name]())
    for target in outcome.benchmark.targets:
        values = outcome.samples[target.own][target.metric].values
        # Of what is not to happen at all there may be none.
        least = -1 if target.limit == 0 or target.metric == "cpu_percent" else 0
        assert all(value > least for value in values), target


def test_what_is_promised_of_events_has_a_row_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_engine, "EVENTS", 5)
    outcome = _measured(init_cases.events_case(jobs=100))
    assert {verdict.target.metric for verdict in outcome.verdicts} == set(
        outcome.samples["hostlab"]
    )


def test_every_benchmark_has_its_name() -> None:
    assert {name: make().name for name, make in CASES.items()} == {name: name for name in CASES}


@pytest.mark.parametrize(
    ("lines", "share"),
    [([b"1", b"2", b"3"], 1.0), ([b"1", b"3", b"4"], 0.5), ([b"1", b"hostlab", b"2"], 0.0)],
)
def test_a_line_that_is_missing_in_a_log_is_noticed(lines: Sequence[bytes], share: float) -> None:
    assert flood.whole_share([lines]) == share
