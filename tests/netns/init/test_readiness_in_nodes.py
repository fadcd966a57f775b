"""Readiness with the engine round it: a daemon of a node is followed by the next supervisor."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.sync import Node
from tests.netns.init.ready_site import until
from tests.netns.lab.lab_site import Site, site

pytestmark = pytest.mark.netns

LAB = """
nodes:
  a:
    files:
      /srv/daemon:
        content: |
          import os, signal
          os.mkfifo("/tmp/go")
          if os.fork():
              open("/tmp/go").read()
              os._exit(0)
          os.setsid()
          signal.pause()
    jobs:
      daemon: {exec: python3 -S /srv/daemon, readiness: KIND}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with site(tmp_path, monkeypatch) as found:
        yield found


def supervisor(node: Node) -> int:
    """The machine's pid of the node's supervisor: the holder's child that answers."""
    with node.control() as control:
        inside = control.call("ping")["pid"]
    children = Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text().split()
    for pid in map(int, children):
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text()
            line = next(line for line in status.splitlines() if line.startswith("NSpid:"))
            if int(line.split()[-1]) == inside:
                return pid
    raise AssertionError(f"no child of {node.pid} has the pid {inside}")


def row(node: Node) -> dict[str, object]:
    (found,) = [row for row in node.job_table() if row["name"] == "daemon"]
    return dict(found)


@pytest.mark.parametrize("kind", ["fork", "daemon"])
def test_a_daemon_whose_parent_left_while_nobody_looked(place: Site, kind: str) -> None:
    node = place.up(LAB.replace("KIND", kind))["a"]
    until(lambda: os.path.exists(f"/proc/{node.pid}/root/tmp/go"))
    first = row(node)["pid"]
    pid = supervisor(node)
    os.kill(pid, signal.SIGSTOP)
    with open(f"/proc/{node.pid}/root/tmp/go", "w"):
        pass
    until(lambda: not alive(node, first))
    os.kill(pid, signal.SIGKILL)
    until(lambda: row(node)["pid"] not in (None, first))
    daemon = row(node)["pid"]
    assert alive(node, daemon)
    node.wait_settled()
    until(lambda: row(node)["state"] == "running")
    node.run(f"kill -KILL {daemon}", timeout_s=60)
    until(lambda: row(node)["state"] != "running")


def alive(node: Node, pid: object) -> bool:
    return os.path.exists(f"/proc/{node.pid}/root/proc/{pid}")
