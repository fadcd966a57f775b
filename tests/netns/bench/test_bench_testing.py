"""The benchmarks of what tests wait for run, in small: that they measure, never how much."""

from __future__ import annotations

import pytest

from bench.measure import Benchmark, measure
from bench.testing_cases import clean_case, port_case, suite_case
from tests.netns.lab.lab_site import needs_hostlab_in_nodes, probe

pytestmark = [pytest.mark.netns, pytest.mark.timeout(600)]  # pytest runs within one


@pytest.mark.parametrize(
    ("benchmark", "metrics"),
    [
        (clean_case(1), {"hostlab": ["clean_ms", "files_ms"]}),
        (port_case(1), {"hostlab": ["open_ms"]}),
        (suite_case(2, 1), {"hostlab": ["suite_s"], "ssh": ["suite_s"]}),
    ],
    ids=lambda value: value.name if isinstance(value, Benchmark) else "",
)
def test_a_benchmark_runs(
    benchmark: Benchmark,
    metrics: dict[str, list[str]],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    probe()
    needs_hostlab_in_nodes()
    monkeypatch.setenv("HOSTLAB_RUN", str(tmp_path_factory.mktemp("run")))
    kept = tuple(each for each in benchmark.contenders if each.name in metrics)
    chosen = Benchmark(name=benchmark.name, title=benchmark.title, contenders=kept)
    outcome = measure(chosen, 1, lambda _: None)
    for contender, names in metrics.items():
        if contender in outcome.absent and "needs" in outcome.absent[contender]:
            pytest.skip(f"here: {outcome.absent[contender]}")
        for name in names:
            assert all(value > 0 for value in outcome.samples[contender][name].values)
