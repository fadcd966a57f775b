"""`hostlab check --watch`: what has changed is told when it changes, and nothing else."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hostlab.sync import Lab
from tests.netns.lab.lab_site import probe

pytestmark = pytest.mark.netns

DEADLINE_S = 90.0
_DESCRIPTION = """
name: watch-{pid}
segments: [lan]
nodes:
  a:
    jobs: {{web: sleep infinity}}
    checks:
      - {{job: {{web: running}}, within: 30s, if: {{interface: lo}}}}
      - {{file: {{path: /tmp/note, is: absent}}, within: 0s}}
      - {{route: 10.9.0.0/16, within: 0s}}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    probe()
    monkeypatch.setenv("HOSTLAB_RUN", str(tmp_path / "run"))
    (tmp_path / "lab.yaml").write_text(_DESCRIPTION.format(pid=os.getpid()))
    return tmp_path


class Follower:
    """A `hostlab check --watch` and what it prints."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.buffer = b""

    def line(self) -> str:
        assert self.process.stdout
        while b"\n" not in self.buffer:
            ready, _, _ = select.select([self.process.stdout], [], [], DEADLINE_S)
            assert ready, f"nothing is told: {self.buffer!r}"
            read = os.read(self.process.stdout.fileno(), 1 << 16)
            assert read, f"it has ended: {self.process.wait()}"
            self.buffer += read
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.decode()

    def change(self) -> tuple[str, str]:
        """What became of which check."""
        told = json.loads(self.line())
        return told["change"], told["check"]


@contextmanager
def following(place: Path, *words: str) -> Iterator[Follower]:
    """One that has judged once; nothing is looked at again but what is told of."""
    command = [sys.executable, "-m", "hostlab.cli.main", "check", "lab.yaml", "--watch", "--json"]
    process = subprocess.Popen(
        [*command, "--every", "3600", *words], cwd=place, stdout=subprocess.PIPE
    )
    try:
        follower = Follower(process)
        while follower.line() != "}":  # the first judgement is one value, indented
            pass
        yield follower
    finally:
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()


def test_what_is_told_is_judged_again(place: Path) -> None:
    with Lab(place / "lab.yaml") as lab:
        node = lab["a"]
        node.succeed("true")
        with following(place) as follower:
            node.succeed("echo x > /tmp/note")
            assert follower.change() == ("broken", "file: /tmp/note (absent)")
            node.succeed("ip route add 10.9.0.0/16 dev eth0")
            assert follower.change() == ("mended", "route: 10.9.0.0/16")
            node.succeed("rm /tmp/note; ip route del 10.9.0.0/16")
            both = {follower.change(), follower.change()}
            assert both == {
                ("broken", "route: 10.9.0.0/16"),
                ("mended", "file: /tmp/note (absent)"),
            }
            text = (place / "lab.yaml").read_text()
            (place / "lab.yaml").write_text(text.replace("is: absent", "is: absent, mode: 9"))
            (place / "lab.yaml").write_text(text.replace("/tmp/note", "/tmp/other"))
            assert {follower.change(), follower.change()} == {
                ("new", "file: /tmp/other (absent)"),
                ("gone", "file: /tmp/note (absent)"),
            }
            follower.process.send_signal(signal.SIGINT)
            assert follower.process.wait(DEADLINE_S) == 1


def test_it_ends_with_its_lab_or_after_enough_changes(place: Path) -> None:
    with Lab(place / "lab.yaml") as lab:
        lab["a"].succeed("ip route add 10.9.0.0/16 dev eth0")
        with following(place, "--count", "1") as counting, following(place) as ending:
            lab["a"].succeed("ip route del 10.9.0.0/16")
            assert counting.change() == ("broken", "route: 10.9.0.0/16")
            assert counting.process.wait(DEADLINE_S) == 1
            assert ending.change() == ("broken", "route: 10.9.0.0/16")
            lab.down()
            assert ending.process.wait(DEADLINE_S) in (1, 3)
