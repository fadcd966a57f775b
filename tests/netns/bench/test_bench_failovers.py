"""The table of failovers is measured, in small: that a case is, never how long it takes."""

from __future__ import annotations

import pytest

from bench.failovers import FLAVOURS, ROWS, lines_of
from tests.netns.lab.lab_site import probe

pytestmark = pytest.mark.netns


def test_a_case_is_measured_over_two_labs(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe()
    monkeypatch.setenv("HOSTLAB_RUN", str(tmp_path_factory.mktemp("run")))
    (line,) = lines_of(FLAVOURS["router"], [ROWS[0]], runs=2, count=2)
    assert (line.fault, line.runs, line.recovered) == (ROWS[0], 2, 2)
    assert line.outage_s is not None
    assert line.outage_s.min > 0
    assert line.failed is not None
    assert line.failed.min > 0
