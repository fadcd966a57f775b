"""fnmatch(3) without flags, compared with the C library's own."""

from __future__ import annotations

import ctypes
import os
import re

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from hostlab.jobs.glob import matches

pytestmark = pytest.mark.unit

FUZZ = int(os.environ.get("HOSTLAB_FUZZ", "60"))


@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        ("[016]", "0", True),
        ("[!2345]", "2", False),
        ("[^2345]", "1", True),
        ("eth*", "eth0", True),
        ("*", "a/b.c", True),
        ("/dev/tty?", "/dev/tty1", True),
        ("a\\*", "a*", True),
        ("a\\", "a", False),
        ("[", "[", True),
        ("[]]", "]", True),
        ("[[:digit:]]x", "7x", True),
        ("", "", True),
        ("***a", "a", True),
    ],
)
def test_globs(pattern: str, value: str, expected: bool) -> None:
    assert matches(pattern, value) is expected


def test_many_stars_take_no_time() -> None:
    assert not matches("*a" * 40 + "b", "a" * 2000)
    assert matches("*a" * 40 + "*", "a" * 2000)


@settings(max_examples=FUZZ)
@given(st.text(st.sampled_from("ab*?[]!-\\")), st.text(st.sampled_from("ab[]-!\\")))
@example("[a-]", "-")
def test_same_as_the_c_library(pattern: str, value: str) -> None:
    # What an unterminated bracket with a range in it means, glibc decides from case to case.
    assume(not re.search(r"\[[!^]?\]?[^]]*-[^]]*$", pattern))
    libc = ctypes.CDLL(None)
    assert matches(pattern, value) is (libc.fnmatch(pattern.encode(), value.encode(), 0) == 0)
