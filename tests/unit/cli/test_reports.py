"""`hostlab report`: what it prints of others' reports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hostlab.cli.main import run
from hostlab.cli.reports import write_report
from tests.unit.checks.run_site import HARM, a_run, verdict

pytestmark = pytest.mark.unit


@pytest.fixture
def reports(tmp_path: Path) -> tuple[str, str]:
    """Two with harmful texts in every place: what held does not any more."""
    made = []
    for name, outcome in (("monday", "h"), ("tuesday", "f")):
        made.append(str(tmp_path / name))
        write_report(made[-1], a_run(verdict(f"web{HARM}", f"command: {HARM}", outcome, HARM)))
    return made[0], made[1]


@pytest.mark.parametrize("command", ["show", "diff"])
def test_nothing_of_a_report_commands_the_terminal(
    reports: tuple[str, str], command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = reports if command == "diff" else reports[1:]
    assert run(["report", command, *asked]) == 1
    said = capsys.readouterr().out
    assert said.count(r"\x00\x1b[31m\u202e\u2028#") > 2
    assert said.replace("\n", "").isprintable(), said


def test_a_change_names_the_node_as_a_verdict_does(
    reports: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", "diff", "--json", *reports]) == 1
    (changed,) = json.loads(capsys.readouterr().out)
    assert run(["report", "show", "--json", reports[1]]) == 1
    (row,) = json.loads(capsys.readouterr().out)["report"]["rows"]
    assert [(each["node"], each["check"]) for each in (changed, row)] == [
        (f"web{HARM}", f"command: {HARM}")
    ] * 2
