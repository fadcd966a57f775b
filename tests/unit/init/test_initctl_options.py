"""Command lines as libnih reads them."""

from __future__ import annotations

import pytest

from hostlab.init.initctl.options import COMMON, Line, Option, Refusal, read_line

pytestmark = pytest.mark.unit

OPTIONS = (
    *COMMON,
    Option("n", "no-wait"),
    Option("i", "ignore", "LIST"),
    Option("e", argument="X"),
)


def read(*words: str, until_argument: bool = False) -> Line:
    return read_line(words, OPTIONS, until_argument=until_argument)


def test_options_stand_anywhere() -> None:
    line = read("a", "-n", "b", "--quiet", "c")
    assert line == Line({"no-wait": [""], "quiet": [""]}, ["a", "b", "c"])


def test_two_dashes_end_them() -> None:
    assert read("-n", "--", "-q", "--", "a") == Line({"no-wait": [""]}, ["-q", "--", "a"])


def test_one_dash_is_an_argument() -> None:
    assert read("-", "-n").arguments == ["-"]


def test_until_an_argument() -> None:
    assert read("-q", "a", "-n", until_argument=True) == Line({"quiet": [""]}, ["a", "-n"])


def test_short_ones_are_joined() -> None:
    assert read("-nq").options == {"no-wait": [""], "quiet": [""]}
    assert read("-nei", "-eA", "-e", "B").options == {"no-wait": [""], "e": ["i", "A", "B"]}


def test_arguments_of_long_ones() -> None:
    assert read("--ignore=a=b", "--ignore", "--quiet").options == {"ignore": ["a=b", "--quiet"]}
    assert read("--ignore=").options == {"ignore": [""]}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("-x",), "invalid option: -x"),
        (("-nx",), "invalid option: -x"),
        (("--no-wai",), "invalid option: --no-wai"),
        (("--x=1",), "invalid option: --x"),
        (("--quiet=1",), "unexpected argument: --quiet=1"),
        (("--ignore",), "missing argument: --ignore"),
        (("-e",), "missing argument: -e"),
    ],
)
def test_what_is_wrong(words: tuple[str, ...], text: str) -> None:
    with pytest.raises(Refusal) as refused:
        read(*words)
    assert refused.value.text == text
    assert refused.value.advise
