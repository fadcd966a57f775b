"""The benchmark of the wire runs, in small: that it measures something, never how much."""

from __future__ import annotations

import pytest

from bench.measure import measure
from bench.wire_cases import wire_case
from tests.netns.lab.lab_site import probe

pytestmark = pytest.mark.netns


def test_the_benchmark_of_the_wire_runs() -> None:
    probe()
    outcome = measure(wire_case(200), 1, lambda _: None)
    assert not outcome.absent
    found = {name: metrics["frames"].values for name, metrics in outcome.samples.items()}
    assert found == {"hostlab": (200,), "the cable alone": (200,)}
    for target in outcome.benchmark.targets:
        assert target.metric in outcome.samples["hostlab"]
