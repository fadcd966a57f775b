"""The table of failovers: its lines, and how measured ones get into the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.failovers import FLAVOURS, PAGE, ROOT, ROWS, Case, Flavour, cells, measured, with_lines
from hostlab.faults.outage import Outage
from hostlab.lab.description import read_lab
from hostlab.spec.faults import parse_line

pytestmark = pytest.mark.unit

FLAVOUR = Flavour(
    "a way", "x.yaml", {ROWS[0]: Case("node-frozen a", "1 s"), ROWS[1]: Case("", "")}, ()
)


def run(outage_s: float | None, failed: int = 0) -> Outage:
    return Outage(
        number=1,
        time=0,
        done_s=0,
        sent=10,
        failed=failed,
        left_out=1,
        last_good_s=0,
        first_good_s=outage_s,
        moved_s=None,
        outage_s=outage_s,
        longest_gap_s=None,
        before={},
        after={},
        errors={},
    )


def test_a_line_has_the_distribution_and_what_did_not_recover() -> None:
    line = measured(ROWS[0], FLAVOUR, [run(0.5, 3), run(0.25, 1), run(None, 9)], wanted=5)
    assert (line.sent, line.left_out, line.not_made) == (30, 3, 2)
    runs = "3, 1 did not recover, 2 could not be made"
    text = f"| 1 s | 0.250 s | 0.375 s | 0.500 s | 0.500 s | 3 | {runs} |"
    assert cells(line) == f"| {ROWS[0]} | a way {text}"
    nothing = measured(ROWS[0], FLAVOUR, [run(None)], wanted=1)
    assert "| - | - | - | - | 0 | 1, 1 did not recover |" in cells(nothing)


def test_measured_lines_take_the_place_of_older_ones_and_the_others_stay() -> None:
    page = PAGE.read_text()
    first = measured(ROWS[1], FLAVOUR, [run(1.0)], wanted=1)
    once = with_lines(page, [first], "Here.")
    again = with_lines(once, [measured(ROWS[0], FLAVOUR, [run(2.0)], wanted=1), first], "There.")
    assert [line for line in again.splitlines() if "| a way |" in line] == [
        cells(measured(ROWS[0], FLAVOUR, [run(2.0)], wanted=1)),
        cells(first),
    ]
    kept = [line for line in page.splitlines() if line not in again.splitlines()]
    assert [line for line in kept if not line.startswith("Last measured with")] == []
    assert "Here." not in again
    assert "\n\nThere.\n\n<!-- end -->" in again
    assert with_lines(again, [], "There.") == again


@pytest.mark.parametrize("name", FLAVOURS)
def test_every_case_is_a_fault_of_its_example(name: str) -> None:
    flavour = FLAVOURS[name]
    lab = read_lab(str(Path(ROOT) / "examples" / flavour.example))
    assert set(flavour.cases) <= set(ROWS)
    for case in flavour.cases.values():
        assert all(parse_line(text, lab) for text in case.fault.split(";"))
