"""systemd's units in a node: the boot, loading on demand, changed files, a killed supervisor."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.errors import Failed, UsageError
from hostlab.sync import Node
from tests.netns.init.test_readiness_in_nodes import supervisor
from tests.netns.lab.lab_site import Site, site, wait_until

pytestmark = pytest.mark.netns

FILES = """
      /etc/systemd/system/web.service:
        content: |
          [Unit]
          Description=A web server
          Wants=store.service
          After=store.service
          [Service]
          ExecStart=/bin/sleep 1000
          [Install]
          WantedBy=multi-user.target
          Alias=www.service
      /etc/systemd/system/store.service:
        content: |
          [Service]
          Type=oneshot
          RemainAfterExit=yes
          ExecStart=/bin/sh -c 'echo stored >> /var/log/order'
      /etc/systemd/system/enabled.service:
        content: |
          [Service]
          ExecStart=/bin/sleep 1001
      /etc/systemd/system/multi-user.target.wants/enabled.service: |
        [Service]
        ExecStart=/bin/sleep 1001
      /etc/systemd/system/echo@.service:
        content: |
          [Service]
          ExecStart=/bin/sh -c 'echo it is %i; exec sleep 1002'
      /etc/systemd/system/enemy.service:
        content: |
          [Unit]
          Conflicts=web.service
          [Service]
          ExecStart=/bin/sleep 1003
"""
LAB = f"nodes:\n  box:\n    units: UNITS\n    files:{FILES}"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with site(tmp_path, monkeypatch) as found:
        yield found


def states(node: Node) -> dict[str, str]:
    return {row["name"]: row["state"] for row in node.job_table()}


def put(node: Node, path: str, text: str) -> None:
    """Write a file of the node."""
    node.succeed(f"cat > {path} <<'END'\n{text}END\n")


def booted(place: Site, units: str) -> Node:
    node = place.up(LAB.replace("UNITS", units)).nodes()["box"]
    node.wait_settled(within_s=60)
    return node


def test_a_node_starts_what_is_named_and_what_that_pulls_in(place: Site) -> None:
    node = booted(place, "[web]")
    found = states(node)
    assert found["web.service"] == found["store.service"] == "running"
    assert found["multi-user.target"] == "running"
    assert "enabled.service" not in found, "what the machine has enabled is not the node's"
    assert node.succeed("cat /var/log/order") == "stored\n"


def test_a_node_that_says_so_starts_what_is_enabled(place: Site) -> None:
    found = states(booted(place, "{start: web, enabled: true, directories: /etc/systemd/system}"))
    assert found["enabled.service"] == found["web.service"] == "running"


def test_a_unit_is_loaded_when_it_is_asked_for(place: Site) -> None:
    node = booted(place, "[]")
    assert "web.service" not in states(node)
    node.job("echo@one.service", "start")
    node.succeed("ln -s web.service /etc/systemd/system/www.service")
    node.job("www.service", "start")
    assert states(node)["echo@one.service"] == states(node)["web.service"] == "running"
    with pytest.raises(UsageError, match=r"nothing\.service"):
        node.job("nothing.service", "start")


def test_what_comes_later_conflicts_with_what_runs(place: Site) -> None:
    node = booted(place, "[web]")
    node.job("enemy.service", "start")
    assert states(node)["web.service"] == "stopped"


def test_changed_files_are_read_again(place: Site) -> None:
    node = booted(place, "[web]")
    late = "/etc/systemd/system/late.service"
    put(node, late, "[Service]\nExecStart=/bin/sleep 1004\n")
    node.job("late.service", "start")
    put(node, late, "[Unit]\nDescription=Another\n[Service]\nExecStart=/bin/sleep 1005\n")
    node.job("late.service", "stop")

    def description() -> object:
        return {row["name"]: row["description"] for row in node.job_table()}["late.service"]

    wait_until(lambda: description() == "Another", "the unit is read again")


def test_a_killed_supervisor_knows_its_units(place: Site) -> None:
    node = booted(place, "[web]")
    pids = {row["name"]: row["pid"] for row in node.job_table()}
    os.kill(supervisor(node), signal.SIGKILL)
    assert {row["name"]: row["pid"] for row in node.job_table()} == pids
    node.job("echo@two.service", "start")
    node.job("web.service", "stop")
    assert states(node)["echo@two.service"] == "running"
    assert states(node)["web.service"] == "stopped"


def test_what_is_said_of_units_changes_in_a_node_that_is_up(place: Site) -> None:
    node = booted(place, "[web, store]")
    pid = {row["name"]: row["pid"] for row in node.job_table()}["web.service"]
    node = booted(place, "[web, echo@new]")
    rows = {row["name"]: row for row in node.job_table()}
    assert rows["web.service"]["pid"] == pid, "it goes on"
    assert rows["echo@new.service"]["state"] == "running"
    assert rows["store.service"]["state"] == "stopped"
    plain = place.up(LAB.replace("    units: UNITS\n", "")).nodes()["box"]
    assert "web.service" not in states(plain)
    node = booted(place, "[web]")
    assert states(node)["web.service"] == "running"
    assert node.succeed("systemctl is-active web") == "active\n"


def test_a_boot_goes_on_whoever_is_killed_in_it(place: Site) -> None:
    node = place.up(LAB.replace("UNITS", "[web, echo@one]")).nodes()["box"]
    for _ in range(6):
        # At an instant of users, files and generators, or of the units' start.
        with contextlib.suppress(Failed, AssertionError):
            os.kill(supervisor(node), signal.SIGKILL)

    def is_up() -> bool:
        with contextlib.suppress(Failed):
            node.wait_settled(within_s=60)
            return states(node).get("multi-user.target") == "running"
        return False

    wait_until(is_up, "the boot is over", timeout_s=60)
    found = states(node)
    assert found["web.service"] == found["echo@one.service"] == "running"
    assert node.succeed("cat /var/log/order") == "stored\n", "once"
    listed = "ps -o args= -C sleep | sort | uniq -c"
    once = ["1", "/bin/sleep", "1000", "1", "sleep", "1002"]
    # The last one begins as a shell.
    wait_until(lambda: len(node.succeed(listed).split()) >= len(once), "both processes")
    assert node.succeed(listed).split() == once
