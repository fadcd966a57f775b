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


def test_verdicts_that_several_labs_have_are_told_when_they_are_merged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for lab, outcome in (("one", "f"), ("two", "h")):
        rows = [verdict("web", "listens: 80", outcome), verdict("web", f"own: {lab}")]
        write_report(str(tmp_path / lab), a_run(*rows, lab=lab, began=1.0 if lab == "one" else 2.0))
    one, two, all_of_them = (str(tmp_path / name) for name in ("one", "two", "all"))
    assert run(["report", "merge", all_of_them, one, two]) == 0
    said = capsys.readouterr()
    assert said.err == (
        "warning: several labs have web: listens: 80; of each the later verdict is kept\n"
    )
    assert said.out == "3 of 3 checks hold\n"
    assert run(["report", "merge", all_of_them, one, one]) == 1
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("option", "place", "said"),
    [
        ("--report", "file/below", "file/below: Not a directory"),
        ("--junit", "none/j.xml", "none: No such file or directory"),
    ],
)
def test_where_nothing_can_be_written_nothing_is_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, place: str, said: str
) -> None:
    (tmp_path / "file").write_text("")
    lab = tmp_path / "lab.yaml"
    lab.write_text("nodes: {here: {checks: [{file: /}]}}\n")
    assert run(["check", str(lab), "--live", option, str(tmp_path / place)]) == 2
    assert capsys.readouterr() == ("", f"hostlab: {tmp_path}/{said}\n")
