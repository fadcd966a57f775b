"""How results are shown."""

from __future__ import annotations

import pytest

from hostlab.cli.output import print_table

pytestmark = pytest.mark.unit


def test_a_table_is_as_wide_as_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME", "STATE"), [("a\x1b[2J", None), ("b", "up")])
    assert capsys.readouterr().out.splitlines() == [
        "NAME      STATE",
        r"a\x1b[2J  -",
        "b         up",
    ]
