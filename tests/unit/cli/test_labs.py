"""Commands about labs that need none: what they print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from hostlab.cli.labs import validate_command

pytestmark = pytest.mark.unit

TEXT = """\
roles:
  web:
    jobs:
      date: x
      web: {exec: x, start_on: started data}
nodes:
  web: {role: web, count: 3}
"""


def test_validate_notes_once_what_waits_in_vain(tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text(TEXT)
    note = f"{path}:5: `start on` of the job `web`: there is no job `data`; did you mean `date`?"
    done = CliRunner().invoke(validate_command, [str(path)], standalone_mode=False)
    assert done.exit_code == 0
    assert [line for line in done.output.splitlines() if "note:" in line] == [f"note: {note}"]
    done = CliRunner().invoke(validate_command, [str(path), "--json"], standalone_mode=False)
    assert json.loads(done.output)["valid"][0]["notes"] == [note]
