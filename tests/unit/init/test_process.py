"""How an `exec` line becomes an argument vector."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.init.process import command_line, exit_of

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("line", "argv"),
    [
        ("sleep 1", ("sleep", "1")),
        ("  a\tb  ", ("a", "b")),
        ("echo $HOME", ("/bin/sh", "-e", "-c", "echo $HOME")),
        ("echo 'a b'", ("/bin/sh", "-e", "-c", "echo 'a b'")),
        ("true\nfalse", ("/bin/sh", "-e", "-c", "true\nfalse")),
        ("", ("/bin/sh", "-e", "-c", "")),
        ("a #b", ("a", "#b")),
    ],
)
def test_only_shell_characters_need_the_shell(line: str, argv: tuple[str, ...]) -> None:
    assert command_line(line) == argv


@given(st.text())
def test_every_line_has_an_argument_vector(line: str) -> None:
    argv = command_line(line)
    assert argv
    if argv[0] == "/bin/sh" and len(argv) == 4:
        assert argv[3] == line


def test_a_signal_is_told_apart_from_an_exit() -> None:
    assert exit_of(3 << 8) == {"status": 3, "signal": None}
    assert exit_of(9) == {"status": 137, "signal": 9}
    assert os.waitstatus_to_exitcode(9) == -9
