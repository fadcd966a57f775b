"""The benchmark of the page runs, in small: that it measures something, never how much."""

from __future__ import annotations

import pytest

from bench.measure import measure
from bench.page_cases import page_case
from tests.chromium import program

pytestmark = pytest.mark.netns


def test_the_benchmark_of_the_page_runs() -> None:
    if program() is None:
        pytest.skip("no chromium: apt-get install chromium")
    outcome = measure(page_case(3, 2), 1, lambda _: None)
    assert outcome.absent == {}
    found = outcome.samples["hostlab"]
    assert 0 < found["load_ms"].median <= found["drawn_ms"].median
