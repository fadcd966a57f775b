"""Programs run inside: their input and output of any size, and how they end."""

from __future__ import annotations

import os

import pytest

from hostlab.linux.running import run_inside, start_inside

pytestmark = pytest.mark.unit


def test_what_goes_in_comes_out_however_much_it_is() -> None:
    data = os.urandom(1 << 20)
    done = run_inside(os.getpid(), (), ("cat",), stdin=data)
    assert (done.returncode, done.stdout, done.stderr) == (0, data, b"")
    done = run_inside(os.getpid(), (), ("sh", "-c", "echo no >&2; exit 3"))
    assert (done.returncode, done.stdout, done.stderr) == (3, b"", b"no\n")
    assert run_inside(os.getpid(), (), ("sh", "-c", "kill -PIPE $$")).returncode == -13


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="no-such-tool"):
        run_inside(os.getpid(), (), ("no-such-tool",))


def test_one_that_is_late_is_ended() -> None:
    with pytest.raises(TimeoutError, match="sleep has not ended in time"):
        run_inside(os.getpid(), (), ("sleep", "1000"), timeout_s=0.01)


def test_several_run_at_once_and_what_is_left_is_ended() -> None:
    with (
        start_inside(os.getpid(), (), ("sleep", "1000")),
        start_inside(os.getpid(), (), ("cat",), stdin=b"x") as quick,
    ):
        assert quick.wait().stdout == b"x"
    # What `no_leaks` of conftest.py looks for is not there: no child, no descriptor.
