"""The benchmark of probes runs, in small: that it measures something, never how much."""

from __future__ import annotations

import pytest

from bench.measure import measure
from bench.probe_cases import probes_case
from tests.netns.lab.lab_site import probe

pytestmark = pytest.mark.netns


def test_the_benchmark_of_probes_runs(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe()
    monkeypatch.setenv("HOSTLAB_RUN", str(tmp_path_factory.mktemp("run")))
    outcome = measure(probes_case(20, 1), 1, lambda _: None)
    for name, metric in (("hostlab", "tcp_s"), ("nmap", "tcp_s"), ("hostlab", "icmp_s")):
        if name not in outcome.absent:
            assert all(value > 0 for value in outcome.samples[name][metric].values)
    if outcome.absent:
        pytest.skip(f"here: {outcome.absent}")
