"""What is printed of a host's text."""

from __future__ import annotations

import pytest

from hostlab.cli.output import plain

pytestmark = pytest.mark.unit


def test_no_text_of_a_host_commands_the_terminal() -> None:
    assert plain("\x1b]0;title\x07 \x9b31m \u202eevil\r") == (
        r"\x1b]0;title\x07 \x9b31m \u202eevil\r"
    )
    assert plain("é ✓ 日本\n\tline") == "é ✓ 日本\n\tline"
