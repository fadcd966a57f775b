"""Sources in nodes: tables of cron, files and the network as a node's own init sees them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.api import Node
from hostlab.sync import Lab
from tests.netns.lab.lab_site import probe, site, wait_until
from tests.netns.lab.wall_site import Site

pytestmark = pytest.mark.netns

DESCRIPTION = """
name: sources-{pid}
segments: {{lan: {{}}}}
nodes:
  box:
    interfaces: {{eth0: {{segment: lan, address: 10.9.0.1/24}}}}
    crontabs: [/srv/crontab, /srv/cron.d]
    files:
      /srv/crontab: |
        @reboot root cat; echo "up as $LOGNAME"%from the table
        * * * * * root echo each minute
      /srv/cron.d/open: {{content: "@reboot root echo never", mode: "0666"}}
    jobs:
      up:
        start_on: net-device-up
        task: true
        instance: $IFACE
        exec: echo $IFACE $METHOD
      address:
        start_on: net-address-added INTERFACE=eth0
        task: true
        instance: $ADDRESS
        exec: echo $ADDRESS $FAMILY
      plugged:
        start_on: net-device-added INTERFACE=extra*
        task: true
        instance: $INTERFACE
        exec: echo $INTERFACE $KIND
      made:
        start_on: file FILE=/srv/in/*.txt EVENT=create
        task: true
        instance: $MATCH
        exec: echo $MATCH
  other: {{interfaces: [lan]}}
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    probe()
    monkeypatch.setenv("HOSTLAB_RUN", str(tmp_path / "run"))
    path = tmp_path / "sources.yaml"
    path.write_text(DESCRIPTION.format(pid=os.getpid()))
    with Lab(path) as found:
        yield found


def names(node: Node) -> set[str]:
    return {row["name"] for row in node.job_table()}


def logged(node: Node, job: str, instance: str = "") -> list[str]:
    return list(node.log_tail(job, instance=instance))


def wait_logged(node: Node, job: str, instance: str, line: str) -> None:
    wait_until(lambda: line in logged(node, job, instance), f"{line!r} of {job}")


def test_cron_is_replaced(lab: Lab) -> None:
    """Tables that come with the description, one that changes, one that apply adds."""
    box = lab["box"]
    wait_logged(box, "srv/crontab.1", "", "up as root")
    assert logged(box, "srv/crontab.1")[0] == "from the table"
    rows = {row["timer"]: row["jobs"] for row in box.timers()}
    assert rows == {"CRON=* * * * *": ["srv/crontab.2"]}
    assert "srv/cron.d/open.1" not in names(box)
    box.succeed("printf '5 5 * * * daemon true\\n' > /srv/cron.d/late")
    wait_until(lambda: "cron.d/late.1" in names(box), "a table that was written")
    box.succeed("rm /srv/crontab")
    wait_until(lambda: "srv/crontab.1" not in names(box), "a table that has gone")


def test_tables_that_are_described_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By `apply`, to a node that had none; and taken away again."""
    with site(tmp_path, monkeypatch) as place:
        text = "nodes: {box: {jobs: {idle: {exec: sleep infinity}}, files: {/srv/tab: %s}%s}}"
        lines = '"7 7 * * * root true\\n"'
        box = place.up(text % (lines, ""))["box"]
        assert names(box) == {"idle"}
        box = place.up(text % (lines, ", crontabs: [/srv/tab]"))["box"]
        wait_until(lambda: names(box) == {"idle", "srv/tab.1"}, "a table")
        box = place.up(text % (lines, ""))["box"]
        wait_until(lambda: names(box) == {"idle"}, "no table")


def test_the_network_of_a_node(lab: Lab) -> None:
    """The boot tells of the description's interfaces, once; the rest its source."""
    box = lab["box"]
    wait_logged(box, "up", "eth0", "eth0 static")
    wait_logged(box, "up", "lo", "lo loopback")
    wait_logged(box, "address", "10.9.0.1/24", "10.9.0.1/24 inet")
    assert logged(box, "up", "eth0") == ["eth0 static"]
    box.succeed("ip link add extra0 type veth peer name extra1 && ip link set extra0 up")
    wait_logged(box, "plugged", "extra0", "extra0 veth")
    wait_logged(box, "up", "extra0", "extra0 static")
    box.succeed("ip addr add 10.9.0.7/24 dev eth0")
    wait_logged(box, "address", "10.9.0.7/24", "10.9.0.7/24 inet")
    assert logged(box, "up", "eth0") == ["eth0 static"]


def test_files_of_a_node(lab: Lab) -> None:
    box = lab["box"]
    box.succeed("mkdir /srv/in && echo x > /srv/in/a.txt")
    wait_logged(box, "made", "/srv/in/a.txt", "/srv/in/a.txt")


PLAIN = f"""
name: plain-{os.getpid()}
segments: {{lan: {{}}}}
nodes:
  box:
    interfaces: {{eth0: {{segment: lan, address: 10.9.0.1/24}}}}
    crontabs: [/srv/crontab, /srv/cron.d]
    files:
      /srv/crontab: "@reboot root touch /srv/reboot"
      /srv/cron.d/open: {{content: "@reboot root touch /srv/never", mode: "0666"}}
    jobs:
      up: {{start_on: net-device-up IFACE=eth0, task: true, exec: touch /srv/eth0}}
      address: {{start_on: net-address-added ADDRESS=10.9*, task: true, exec: touch /srv/10.9.0.1}}
      made: {{start_on: file FILE=/srv/in/*.txt, task: true, exec: touch /srv/file}}
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="the lab is of another user")
def test_a_plain_users_node_has_them_too() -> None:
    """One uid, and tables that belong to the node's root."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        _plain(Site(Path(name), PLAIN, is_root=False))


def _plain(site: Site) -> None:
    try:
        site.run("box", "mkdir", "/srv/in")
        site.run("box", "touch", "/srv/in/a.txt")

        def has_all() -> bool:
            made = set(site.run("box", "ls", "/srv").split())
            return {"reboot", "file", "eth0", "10.9.0.1"} <= made

        wait_until(has_all, "a table, a file, a link and an address to be told")
        assert "never" not in site.run("box", "ls", "/srv")
    finally:
        site.close()
