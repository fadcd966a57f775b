"""The benchmarks of sockets run, in small: that they measure something, never how much."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from bench import socket_cases
from bench.measure import Benchmark, measure

pytestmark = pytest.mark.netns

SMALL: Mapping[str, Callable[[], Benchmark]] = {
    "activation": lambda: socket_cases.activation_case(times=2),
    "connections": lambda: socket_cases.connections_case(connections=16),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_of_sockets_runs(name: str) -> None:
    outcome = measure(SMALL[name](), 1, lambda _: None)
    failed = [reason for reason in outcome.absent.values() if reason.startswith("failed")]
    assert not failed, failed
    for target in outcome.benchmark.targets:
        values = outcome.samples[target.own][target.metric].values
        assert all(value > 0 for value in values), target
