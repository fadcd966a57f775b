"""The command line's entry, where the interpreter itself fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from hostlab.cli import main

pytestmark = pytest.mark.unit
CRASH = """
import os, signal
from hostlab.cli import main
main.run = lambda words: os.kill(os.getpid(), signal.SIGSEGV)
main.main()
"""


def test_a_crash_of_the_interpreter_says_where_it_was() -> None:
    crashed = subprocess.run([sys.executable, "-c", CRASH], capture_output=True, text=True)
    assert crashed.returncode == -signal.SIGSEGV
    assert "Segmentation fault" in crashed.stderr
    assert "in main" in crashed.stderr


def test_it_runs_without_a_standard_error() -> None:
    shell = f"exec {sys.executable} -m hostlab.cli.main --version 2>&-"
    assert subprocess.run(["sh", "-c", shell], stdout=subprocess.DEVNULL).returncode == os.EX_OK


def test_a_locale_without_its_signs_has_them_told() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hostlab.cli.main", "check", "-", "--live"],
        input="nodes: {here: {checks: [{file: {path: /, contains: é}, within: 0s}]}}\n",
        env={**os.environ, "PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0"},
        capture_output=True,
        encoding="utf-8",
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith(r"\u2717 <stdin>:1:25: here: file: / (contains '\xe9'): fails: ")


@pytest.mark.parametrize("option", ["--format", "--output"])
def test_who_asks_for_a_format_is_told_of_json(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["check", "web", option, "json"]) == 2
    assert capsys.readouterr().err.endswith("Did you mean '--json'?\n")


def test_another_unknown_option_is_answered_with_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main.run(["check", "web", "--raport", "out"]) == 2
    assert "--report" in capsys.readouterr().err
