"""What `up` says of jobs that have failed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.cli.cli_site import Hostlab
from tests.netns.lab.lab_site import probe

pytestmark = pytest.mark.netns

NAME = f"upfailed-{os.getpid()}"
_DESCRIPTION = """
segments: [lan]
nodes:
  server:
    jobs:
      web: pyton3 -m http.server 80
      good: sleep infinity
  client:
"""
_TOLD = "server/web failed: execute: No such file or directory: pyton3"


@pytest.fixture
def hostlab(tmp_path: Path) -> Iterator[Hostlab]:
    probe()
    made = Hostlab(tmp_path / "run")
    yield made
    made("down", NAME)


def _described(tmp_path: Path, text: str) -> str:
    path = tmp_path / "lab.yaml"
    path.write_text(f"name: {NAME}\n{text}")
    return str(path)


def _words(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if not line.startswith("warning: ")]


def test_a_job_whose_program_is_missing_is_named(hostlab: Hostlab, tmp_path: Path) -> None:
    file = _described(tmp_path, _DESCRIPTION)
    done = hostlab("up", file)  # its status is 0: the lab is up as it is described
    assert _words(done.stderr) == [_TOLD, f"  hint: `hostlab job list -n {NAME}/server`"]
    assert _TOLD.partition("failed: ")[2] in hostlab("job", "list", "-n", f"{NAME}/server").stdout
    line = "hostlab: main process: unable to execute: No such file or directory: pyton3\n"
    assert hostlab("job", "log", "web", "-n", f"{NAME}/server").stdout == line
    assert line in hostlab("logs", f"{NAME}/server", "web").stdout
    again = hostlab("up", file, "--json")
    assert _words(again.stderr) == []
    assert json.loads(again.stdout)["failed_jobs"] == [
        {
            "node": "server",
            "name": "web",
            "instance": "",
            "reason": "execute: No such file or directory: pyton3",
        }
    ]
    _described(tmp_path, _DESCRIPTION.replace("pyton3 -m http.server 80", "sleep 1000"))
    assert _words(hostlab("up", file).stderr) == []  # what is mended is tried again
    states = json.loads(hostlab("job", "list", "-n", f"{NAME}/server", "--json").stdout)
    assert {row["name"]: row["state"] for row in states} == {"web": "running", "good": "running"}


def test_jobs_of_several_nodes_are_named(hostlab: Hostlab, tmp_path: Path) -> None:
    twice = _DESCRIPTION.replace("  client:\n", "  client: {jobs: {web: /none/at all}}\n")
    done = hostlab("up", _described(tmp_path, twice))
    assert _words(done.stderr) == [
        _TOLD,
        "client/web failed: execute: No such file or directory: /none/at",
        f"  hint: `hostlab job list -n '{NAME}/*'`",
    ]


def test_a_job_whose_pre_start_failed_is_named(hostlab: Hostlab, tmp_path: Path) -> None:
    """When `up` has waited for the routing, beside what that has come to."""
    if shutil.which("bird") is None:
        pytest.skip("no bird")
    text = """
segments: [lan]
nodes:
  a:
    forwarding: true
    routing: {engine: bird, ospf: {}}
    jobs: {web: {exec: sleep infinity, pre_start: exit 7}}
  b: {forwarding: true, routing: {engine: bird, ospf: {}}}
"""
    done = hostlab("up", _described(tmp_path, text), "--wait", "60")
    assert "routing has converged" in done.stdout
    assert _words(done.stderr) == [
        "a/web failed: pre-start: exit status 7",
        f"  hint: `hostlab job list -n {NAME}/a`",
    ]
