"""The hub's program may load before anybody knows for which lab, and ends when it is for none."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from hostlab.errors import Problem
from hostlab.lab import hub_start
from hostlab.lab.hub_start import HubProgram

pytestmark = pytest.mark.netns

DEADLINE_S = 60


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_one_that_is_not_needed_is_ended() -> None:
    before = children(os.getpid())
    with HubProgram() as hub:
        hub.begin()
        hub.begin()
        (begun,) = set(children(os.getpid())) - set(before)
    assert not Path(f"/proc/{begun}").exists()


def test_it_ends_with_a_caller_that_says_nothing() -> None:
    program = (
        "from hostlab.lab.hub_start import HubProgram\n"
        "hub = HubProgram(); hub.begin(); print(flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as caller:
        assert caller.stdout is not None
        caller.stdout.readline()
        (begun,) = children(caller.pid)
        pidfd = os.pidfd_open(begun)
        caller.kill()
    with os.fdopen(pidfd):
        assert select.select([pidfd], [], [], DEADLINE_S)[0]


def test_why_it_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no module of that name >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(Problem, match="no module of that name"):
        HubProgram().become({}, ())


def test_one_that_stands_still_is_given_up_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    still = tmp_path / "python"
    still.write_text("#!/bin/sh\nexec tail -f /dev/null\n")
    still.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(still))
    monkeypatch.setattr(hub_start, "TIMEOUT_S", 0.1)
    before = children(os.getpid())
    with pytest.raises(Problem, match="did not start within"):
        HubProgram().become({}, ())
    assert children(os.getpid()) == before
