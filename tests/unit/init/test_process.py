"""What is told of a process that has ended."""

from __future__ import annotations

import os

import pytest

from hostlab.init.spawning.process import exit_of

pytestmark = pytest.mark.unit


def test_a_signal_is_told_apart_from_an_exit() -> None:
    assert exit_of(3 << 8) == {"status": 3, "signal": None}
    assert exit_of(9) == {"status": 137, "signal": 9}
    assert os.waitstatus_to_exitcode(9) == -9
