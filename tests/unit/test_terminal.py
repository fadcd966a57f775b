"""What is printed of a host's text."""

from __future__ import annotations

import pytest

from hostlab.errors import Place, SpecError
from hostlab.terminal import plain

pytestmark = pytest.mark.unit

HARM = "\x1b]0;title\x07 \x9b31m \u202eevil\r"
TOLD = r"\x1b]0;title\x07 \x9b31m \u202eevil\r"


def test_no_text_of_a_host_commands_the_terminal() -> None:
    assert plain(HARM) == plain(TOLD) == TOLD
    assert plain("é ✓ 日本\n\tline") == "é ✓ 日本\n\tline"


def test_a_problem_is_plain_and_its_caret_stands_where_the_mistake_does() -> None:
    place = Place("lab\x1b.yaml", 1, 3, "\u200ba: b")
    problem = SpecError("x", HARM, where=place, hint="\x1bhint")
    assert str(problem).splitlines() == [
        rf"lab\x1b.yaml:1:3: {TOLD}",
        r"    \u200ba: b",
        "           ^",
        r"  hint: \x1bhint",
    ]
    assert problem.message == HARM
