"""What a job says of its process, inside a node: limits bind there, and its sandbox is its own."""

from __future__ import annotations

import pytest

from hostlab.linux import cgroups
from tests.netns.lab.lab_site import Site, wait_until

pytestmark = pytest.mark.netns

LAB = """
nodes:
  one:
    jobs:
      jail:
        script: |
          exec >/run/said 2>&1
          touch /tmp/mine
          touch /usr/x 2>/dev/null || echo read-only
          nice
          cat /proc/self/oom_score_adj
          for n in 1 2 3 4 5 6 7 8 9; do
            sleep 1000 >/dev/null 2>&1 &
          done
          echo never
        limits: {pids: 6, memory: 64M}
        private_tmp: true
        read_only: [/usr]
        nice: -5
        oom_score_adj: 300
"""


def test_a_jobs_limits_bind_in_a_node_and_its_sandbox_is_its_own(place: Site) -> None:
    found = cgroups.find()
    if found.unified is None or "pids" not in found.v1:
        pytest.skip("here: this user has no pids controller for a job's own limit")
    node = place.up(LAB)["one"]

    def said() -> str:
        return node.shell("cat /run/said").stdout.decode()

    wait_until(lambda: "fork" in said() or "never" in said(), "the limit of processes binds")
    assert said().splitlines()[:3] == ["read-only", "0", "300"]
    assert "never" not in said()
    assert node.shell("test -e /tmp/mine").status == 1
