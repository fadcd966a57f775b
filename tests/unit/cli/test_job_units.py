"""`hostlab job check` of systemd units as a person calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hostlab.cli.main import run

pytestmark = pytest.mark.unit
Capture = pytest.CaptureFixture[str]


def test_a_unit_with_an_unknown_key_is_valid_and_says_where(
    tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "a.service"
    path.write_text("[Service]\nExecStart=/bin/a\nRestrat=always\n")
    assert run(["job", "check", str(path)]) == 0
    out, err = capsys.readouterr()
    assert out == "1 job, 0 with errors\n"
    assert f"warning: {path}:3:1: unknown key `Restrat` in [Service]" in err
    assert "did you mean `Restart`?" in err


def test_a_unit_that_means_nothing_is_an_error(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "a.service").write_text("[Service]\nType=simple\n")
    assert run(["job", "check", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == "1 job, 1 with errors\n"
    assert "a.service:2:6: a.service runs nothing" in err


def test_explain_has_a_line_for_each_directive(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "a.service"
    path.write_text("[Service]\nExecStart=/bin/a\nProtectClock=yes\nDynamicUser=yes\nFoo=bar\n")
    assert run(["job", "check", "--explain", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"{path}:3: ProtectClock= without effect: a node cannot set the clock"
    assert lines[2].startswith(f"{path}:4: DynamicUser= partly: ")
    assert lines[3] == f"{path}:5: Foo= unknown"


def test_json_has_remarks_and_directives(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "a.service"
    path.write_text("[Service]\nExecStart=/bin/a\nNice=high\n")
    assert run(["job", "check", "--json", "--explain", str(path)]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["valid"], row["remarks"][0]["line"]) == (True, 3)
    assert [each["effect"] for each in row["directives"]] == ["implemented", "implemented"]
