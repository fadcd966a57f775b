"""The table of failovers is measured, in small: that a case is, never how long it takes."""

from __future__ import annotations

import pytest

from bench.failovers import FLAVOURS, ROWS, lines_of, places
from hostlab.sync import Lab
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


def test_a_lab_that_has_gone_is_told_and_staged_anew(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    probe()
    monkeypatch.setenv("HOSTLAB_RUN", str(tmp_path_factory.mktemp("run")))
    flavour = FLAVOURS["router"]
    with places(flavour, 1) as (place,):
        Lab(place.lab).down()
        (run,) = place.measure(flavour, ROWS[0], 1)
        assert run.recovered
        assert f"lab {place.lab} is not up" in capfd.readouterr().err
