"""A stage whose maker was killed: the next one that is made takes it down."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hostlab.firewall.stage import Stage, take_down_abandoned
from hostlab.firewall.target import Target
from hostlab.lab import remains
from hostlab.lab.paths import labs
from tests.netns.lab.lab_site import probe, wait_until

pytestmark = pytest.mark.netns


def test_the_next_stage_takes_it_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe()
    monkeypatch.setenv("HOSTLAB_RUN", str(tmp_path / "run"))
    script = tmp_path / "rules.sh"
    script.write_text("#!/bin/sh\niptables -N A\nsleep 3600\n")
    argv = (sys.executable, "-m", "hostlab.cli.main", "firewall", "stage", str(script))
    with subprocess.Popen((*argv, "--interface", "eth0")) as maker:
        try:
            wait_until(lambda: any(f"-{maker.pid}-" in name for name in labs()), "a stage is there")
            (name,) = labs()
            wait_until(lambda: name in remains.marked_processes().values(), "it runs")
        finally:
            os.kill(maker.pid, signal.SIGKILL)
    assert labs() == [name]
    with Stage(Target()) as stage:
        assert labs() == [stage.lab]
        assert not remains.marked_processes(name)
        assert not remains.lab_cgroups(name)
        assert take_down_abandoned() == ()
    assert labs() == []


def test_an_interrupt_ends_script_and_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe()
    monkeypatch.setenv("HOSTLAB_RUN", str(tmp_path / "run"))
    script = tmp_path / "rules.sh"
    seconds = f"86397.{os.getpid()}"
    script.write_text(f"#!/bin/sh\ntrap '' INT HUP TERM\nsleep {seconds}\nsleep {seconds}\n")
    argv = (sys.executable, "-m", "hostlab.cli.main", "firewall", "stage", str(script))
    with subprocess.Popen((*argv, "--interface", "eth0")) as maker:
        try:
            wait_until(lambda: _runs(seconds), "the script runs")
            os.kill(maker.pid, signal.SIGINT)
            assert maker.wait(60) == 130
        finally:
            maker.kill()
    assert labs() == []
    assert not _runs(seconds)


def _runs(word: str) -> bool:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if command == f"sleep\0{word}\0".encode():
            return True
    return False
