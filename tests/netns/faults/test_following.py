"""`hostlab monitor` tells faults among the events, on one clock, to one who begins before them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hostlab.errors import UsageError
from hostlab.faults import injecting
from hostlab.sync import Node
from tests.netns.faults.fault_site import broken_lab, inject

pytestmark = pytest.mark.netns

LAB = """
segments: [lan]
nodes:
  a: {jobs: {cheer: {start_on: won, task: true, exec: "true"}}}
  b: {}
"""


def test_faults_are_told_among_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with broken_lab(tmp_path, monkeypatch, LAB) as site:
        inject(site, "node-cut-off b")
        every = f"{site.lab.name}/*"
        command = (sys.executable, "-m", "hostlab.cli.main", "monitor", "--count", "4")
        with subprocess.Popen(
            (*command, "--node", every, "--event", "fault-*", "--event", "won"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        ) as monitor:
            assert monitor.stdout is not None
            try:
                while monitor.stdout.readline().strip():
                    continue  # Behind the header, all that comes is told.
                with pytest.raises(UsageError):
                    inject(site, "node-cut-off b")
                inject(site, "one-way-loss b:eth0 loss=1%")
                Node(site.lab.name, "a", site.pid("a")).emit("won")
                injecting.clear(site)
                lines = monitor.stdout.read().splitlines()
            finally:
                monitor.kill()
        told = [line.partition(" ")[2].partition(" ")[2] for line in lines]
        words = "KIND='one-way-loss' ON='b:eth0' LOSS='1%' NUMBER='2'"
        assert sorted(told) == [
            "a won",
            "b fault-cleared KIND='node-cut-off' ON='b' NUMBER='1'",
            f"b fault-cleared {words}",
            f"b fault-injected {words}",
        ]
