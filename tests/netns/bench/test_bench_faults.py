"""The benchmark of faults runs, in small: that it measures something, never how much."""

from __future__ import annotations

import pytest

from bench.fault_cases import KINDS, faults_case
from bench.measure import measure
from tests.netns.lab.lab_site import probe

pytestmark = pytest.mark.netns


def test_the_benchmark_of_faults_runs(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe()
    monkeypatch.setenv("HOSTLAB_RUN", str(tmp_path_factory.mktemp("run")))
    outcome = measure(faults_case(2), 1, lambda _: None)
    if outcome.absent:
        pytest.skip(f"here: {outcome.absent['hostlab']}")
    for name in KINDS:
        for metric in (f"{name}_ms", f"{name}_alone_ms", f"{name}_above_ms"):
            assert all(value > 0 for value in outcome.samples["hostlab"][metric].values)
