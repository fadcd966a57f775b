"""Checklist §1.6: the `${x}` grammar."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostlab.jobs.environment import MAX_NESTING, ExpansionError, expand

pytestmark = pytest.mark.unit

FUZZ = int(os.environ.get("HOSTLAB_FUZZ", "60"))
ENVIRONMENT = {"A": "1", "EMPTY": "", "NAME": "A", "B2_": "$A", "OP": ":-"}


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("plain", "plain"),
        ("$A", "1"),
        ("x$A-y", "x1-y"),
        ("${A}0", "10"),
        ("${$NAME}", "1"),
        ("${${NAME}}", "1"),
        ("${}A", "$A"),
        ("$", "$"),
        ("$ 5$", "$ 5$"),
        ("$1", "$1"),
        ("${X-d}", "d"),
        ("${EMPTY-d}", ""),
        ("${EMPTY:-d}", "d"),
        ("${A:-d}", "1"),
        ("${X+a}", ""),
        ("${EMPTY+a}", "a"),
        ("${EMPTY:+a}", ""),
        ("${A:+a}", "a"),
        ("${X:-${Y:-$A}}", "1"),
        ("${X:-a:b-c+d}", "a:b-c+d"),
        ("$B2_", "$A"),
    ],
)
def test_expansion_grammar(text: str, meaning: str) -> None:
    assert expand(text, ENVIRONMENT) == meaning


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("$X", "unknown parameter: X"),
        ("${X}", "unknown parameter: X"),
        ("${A", "mismatched braces"),
        ("${A:-x", "mismatched braces"),
        ("${A:x}", "expected operator"),
        ("${A+$X}", "unknown parameter: X"),
        ("${" * (MAX_NESTING + 2), "nested more than 100 deep"),
    ],
)
def test_expansion_errors(text: str, reason: str) -> None:
    with pytest.raises(ExpansionError, match=reason):
        expand(text, ENVIRONMENT)


@settings(max_examples=FUZZ)
@given(st.text(st.sampled_from("${}:-+AX ")))
def test_every_text_expands_or_is_an_error(text: str) -> None:
    try:
        assert isinstance(expand(text, ENVIRONMENT), str)
    except ExpansionError:
        assert "$" in text
