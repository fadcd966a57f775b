"""The benchmarks of firewalls run, in small: that they measure something, never how much."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from bench import firewall_cases
from bench.measure import Benchmark, measure
from tests.netns.lab.lab_site import probe

pytestmark = pytest.mark.netns

SMALL: Mapping[str, Callable[[], Benchmark]] = {
    "restore": lambda: firewall_cases.restore_case(20),
    "script": lambda: firewall_cases.script_case(5),
    "ask": lambda: firewall_cases.ask_case(20),
    "switch": lambda: firewall_cases.switch_case(2),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_of_firewalls_runs(name: str) -> None:
    probe()
    outcome = measure(SMALL[name](), 1, lambda _: None)
    failed = [reason for reason in outcome.absent.values() if reason.startswith("failed")]
    assert not failed, failed
    for target in outcome.benchmark.targets:
        values = outcome.samples[target.own][target.metric].values if outcome.samples else ()
        assert all(value > 0 or target.metric.startswith("wrong") for value in values), target
