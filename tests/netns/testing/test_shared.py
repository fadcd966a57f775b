"""A shared lab is set back: what is noticed, and whether it is undone in place or staged anew."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.faults.injecting import injected
from hostlab.faults.site import Site
from hostlab.testing.shared import SharedLab
from tests.netns.faults.fault_site import inject
from tests.netns.lab.lab_site import described, site

pytestmark = pytest.mark.netns

ROOT = Path(__file__).resolve().parents[3]
LAB = """
segments: [lan]
nodes:
  web:
    jobs:
      www: sleep infinity
      idle: {exec: sleep infinity, manual: true}
      breaks: {exec: "false", start_on: break}
  client:
"""


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SharedLab]:
    with (
        site(tmp_path, monkeypatch, kind="shared") as place,
        SharedLab(described(place.name, LAB)) as found,
    ):
        yield found


@pytest.mark.parametrize(
    ("name", "command", "what"),
    [
        ("client", "ip rule add to 192.0.2.1 lookup 7", "network"),
        ("client", "ip route add 192.0.2.0/24 dev eth0", "network"),
        ("client", "ip link set lo mtu 1500", "network"),
        ("client", "sysctl -qw net.core.somaxconn=77", "network"),
        ("client", "sysctl -qw net.ipv4.ip_default_ttl=77", "network"),
        ("client", "sysctl -qw net.ipv6.bindv6only=1", "network"),
        ("web", "echo > /tmp/left", "files"),
        ("web", "mkdir -p /srv/new/directory", "files"),
    ],
)
def test_a_node_that_is_changed_otherwise_is_staged_anew_alone(
    shared: SharedLab, name: str, command: str, what: str
) -> None:
    before = {node.name: node.pid for node in shared.lab}
    shared.lab[name].succeed(command)
    assert shared.reset() == (f"{name}: staged anew: its {what} changed",)
    after = {node.name: node.pid for node in shared.lab}
    assert [node for node in before if before[node] != after[node]] == [name]
    assert shared.reset() == ()


def test_faults_are_cleared(shared: SharedLab) -> None:
    where = Site.of(shared.lab.name)
    inject(where, "link-down web:eth0")
    inject(where, "one-way-loss client:eth0 loss=100%")
    assert [each.partition(" ")[0] for each in shared.reset()] == ["fault", "fault"]
    assert not injected(where)
    shared.lab["client"].succeed("ping -c 1 -w 30 web")


def test_a_node_into_which_something_was_plugged_is_there_anew(shared: SharedLab) -> None:
    client = shared.lab["client"]
    client.plug(ROOT / "examples/devices/stick.yaml")
    assert client.plugged()
    # What udev keeps of its devices in /run has come with it, and stays.
    assert shared.reset() == ("client: staged anew: its files changed",)
    assert not shared.lab["client"].plugged()


def test_jobs_are_stopped_and_started(shared: SharedLab) -> None:
    web = shared.lab["web"]
    web.job("idle", "start")
    web.job("www", "stop")
    assert sorted(shared.reset()) == ["web: job idle: stop", "web: job www: start"]
    assert web.wait_for_job("www").pid
    web.wait_for_job("idle", "stopped")
    assert shared.lab["web"].pid == web.pid


def test_a_job_that_has_failed_is_there_anew(shared: SharedLab) -> None:
    shared.lab["web"].emit("break", wait=False)
    shared.lab["web"].wait_for_job("breaks", "failed")
    assert shared.reset() == ("web: staged anew: its job breaks is failed",)
    assert shared.lab["web"].jobs()["breaks"].state == "waiting"


def test_the_description_is_applied_again(shared: SharedLab) -> None:
    text = LAB.replace("client:", "client:\n  guest:")
    shared.lab.description, own = described(shared.lab.name, text), shared.lab.description
    shared.lab.up()
    shared.lab.description = own
    assert shared.reset() == ("the description",)
    assert sorted(shared.lab.nodes()) == ["client", "web"]


def test_processes_that_commands_left_are_killed(shared: SharedLab) -> None:
    client = shared.lab["client"]
    client.execute("setsid sleep 1000 >/dev/null 2>&1 &")
    (said,) = shared.reset()
    assert re.fullmatch(r"client: processes \d+", said)
    # Its holder may collect it later.
    assert client.execute("pgrep --runstates DRST sleep").status


def test_a_process_that_has_ended_is_nothing_left(shared: SharedLab) -> None:
    """Its holder, which is late here, collects it at some time."""
    client = shared.lab["client"]
    client.execute("setsid sleep 1000 >/dev/null 2>&1 &")
    os.kill(client.pid, signal.SIGSTOP)
    try:
        (said,) = shared.reset()
    finally:
        os.kill(client.pid, signal.SIGCONT)
    assert re.fullmatch(r"client: processes \d+", said)
