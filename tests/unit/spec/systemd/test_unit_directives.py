"""The table of directives: every one that was found in Debian's units has a row."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostlab.spec.systemd.conditions import KINDS
from hostlab.spec.systemd.directives import Effect, directive, directives, is_section, suggestion
from hostlab.spec.systemd.loading import explain
from tests.unit.spec.systemd.unit_site import DATA, loaded

pytestmark = pytest.mark.unit
FOUND = (Path(__file__).parents[3] / "data" / "systemd-directives.txt").read_text().split()


def test_the_144_directives_of_debians_units_have_a_row() -> None:
    assert len(FOUND) == 144
    missing = [each for each in FOUND if tuple(each.split(".")) not in directives()]
    assert missing == []


def test_a_row_that_has_no_effect_or_only_some_says_why() -> None:
    for row in directives().values():
        assert len(row.text) > 3, row
    assert {row.effect for row in directives().values()} == set(Effect)


def test_every_condition_has_two_rows() -> None:
    for kind in KINDS:
        assert directive("Unit", f"Condition{kind}") is not None
        assert directive("Unit", f"Assert{kind}") is not None


def test_suggestions() -> None:
    assert suggestion("Service", "ExecStrat") == "did you mean `ExecStart`?"
    assert suggestion("Service", "execstart") == "did you mean `ExecStart`?"
    assert suggestion("Unit", "User") == "it belongs in [Service]"
    assert suggestion("Service", "Quuuux") is None
    assert is_section("X-Anything")


@pytest.mark.parametrize("path", sorted(DATA.glob("*.*[!d]")), ids=lambda path: path.name)
def test_debians_units_load_and_each_line_is_explained(path: Path) -> None:
    name = path.name.replace("@.", "@one.")
    found = loaded(path.read_text(), name)
    assert found.error is None
    assert found.job is not None
    assert all(row is not None for _, row in explain(found.unit))
    assert {each.code for each in found.warnings} <= {"degraded"}
