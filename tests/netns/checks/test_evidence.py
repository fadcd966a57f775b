"""What a report keeps of a failure: the lines of the node's jobs, and its packets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hostlab.checks.evidence import with_logs, with_packets
from hostlab.checks.page import page
from hostlab.checks.run import run_of
from hostlab.sync import Lab
from tests.netns.lab.lab_site import probe, wait_until

pytestmark = pytest.mark.netns

_DESCRIPTION = """
name: evidence-{pid}
segments: [lan]
nodes:
  a:
    jobs:
      say: {{exec: "sh -c 'echo listening on opensesame; exec sleep infinity'"}}
    checks:
      - {{reaches: "10.0.0.2:81", within: 0.2s}}
      - {{file: /etc/passwd}}
      - {{command: {{run: "test -e !none"}}, within: 0.2s, name: !secret "opensesame"}}
  b:
"""


def test_a_failure_has_logs_and_packets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe()
    monkeypatch.setenv("HOSTLAB_RUN", str(tmp_path / "run"))
    (tmp_path / "lab.yaml").write_text(_DESCRIPTION.format(pid=os.getpid()))
    with Lab(tmp_path / "lab.yaml") as lab:
        nodes, checks = lab.nodes(), lab.description.checks
        wait_until(lambda: nodes["a"].log_tail("say", 1) != (), "the job has written")
        report = lab.check()
        secrets = lab.description.secrets
        report = with_logs(report, nodes, lab.description)
        report = with_packets(report, checks, nodes, str(tmp_path / "out"), secrets)
    reached, file, named = report.rows
    assert reached.jobs_said == named.jobs_said == ("say: listening on ••••••",)
    assert (file.jobs_said, file.packets) == ((), ())
    # a connection is asked for, and refused
    assert any("10.0.0.1." in line and "10.0.0.2.81: Flags [S]" in line for line in reached.packets)
    assert any("Flags [R.]" in line for line in reached.packets)
    assert (tmp_path / "out/packets/0-a-eth0.pcapng").read_bytes()[:4] == b"\x0a\x0d\x0d\x0a"
    made = page(run_of(lab.description, report, began=1.0))
    assert "Flags [R.]" in made
    assert "opensesame" not in made


def test_what_cannot_be_captured_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe()
    monkeypatch.setenv("HOSTLAB_RUN", str(tmp_path / "run"))
    (tmp_path / "lab.yaml").write_text(_DESCRIPTION.format(pid=os.getpid()))
    with Lab(tmp_path / "lab.yaml") as lab:
        nodes, checks = lab.nodes(), lab.description.checks
        report = lab.check()
    told = with_packets(report, checks, nodes, str(tmp_path / "out"))
    assert told.rows[0].packets[0].startswith("they could not be captured: ")
    assert with_logs(report, nodes, lab.description).rows[0].jobs_said == ()
