"""The benchmarks of checks run, in small: that they measure something, never how much."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.check_cases import checks_case, ssh_case
from bench.measure import measure
from tests.netns.lab.lab_site import needs_hostlab_in_nodes, probe

pytestmark = pytest.mark.netns


@pytest.mark.timeout(300)
@pytest.mark.parametrize("is_in_lab", [True, False])
def test_the_benchmark_of_checks_runs(
    *,
    is_in_lab: bool,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    probe()
    needs_hostlab_in_nodes()
    monkeypatch.setenv("HOSTLAB_RUN", str(tmp_path_factory.mktemp("run")))
    case = checks_case(2, 4) if is_in_lab else ssh_case(2, 4)
    if is_in_lab:  # the other contender is the same in both
        case = replace(case, contenders=case.contenders[:1])
    outcome = measure(case, 1, lambda _: None)
    if outcome.absent:
        pytest.skip(f"here: {outcome.absent}")
    for name in outcome.samples:
        assert all(value > 0 for value in outcome.samples[name]["check_ms"].values)
