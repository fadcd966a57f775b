"""testinfra through hostlab's backends: an unchanged suite, and the modules that it lacks."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.errors import UsageError
from hostlab.sync import Lab
from hostlab.testing.testinfra_hosts import register
from tests.netns.lab.lab_site import free_port, site

testinfra = pytest.importorskip("testinfra")
pytestmark = [pytest.mark.netns, pytest.mark.timeout(600)]  # a pytest run within each

SUITE = Path(__file__).with_name("testinfra_suite.py")
DEADLINE_S = 300.0
LAB = """
segments: [lan]
nodes:
  debian:
    interfaces: {eth0: {segment: lan, addresses: [10.0.0.1/24]}}
    units: [nginx]
    jobs: {once: {exec: "true", start_on: never}}
    files:
      /etc/nginx/sites-enabled/default: |
        server { listen 80; listen [::]:80 ipv6only=on; }
  other:
    interfaces: {eth0: {segment: lan, addresses: [10.0.0.2/24]}}
"""
SSHD = """
segments: [lan]
nodes:
  server:
    publish: ["127.0.0.1:{port}:22"]
    files:
      /srv/host: {{content: {host}, mode: 0600}}
      /srv/authorized: {{content: {public}, mode: 0644}}
    jobs:
      sshd:
        pre_start: mkdir -p /run/sshd
        exec: >-
          /usr/sbin/sshd -D -e -f none -h /srv/host -o StrictModes=no -o PidFile=none
          -o AuthorizedKeysFile=/srv/authorized -o PermitRootLogin=yes
        readiness: {{port: 22}}
"""
SSH_SUITE = r"""
def test_one(host):
    assert host.check_output("hostname") == "server"
    assert host.file("/srv/host").mode == 0o600
    assert host.run("exit 7").rc == 7

def test_two(host):
    assert host.neighbours.table("lo") == []
    assert host.run("printf '\\303\\251'").stdout_bytes == b"\xc3\xa9"
    with host.sudo("www-data"):
        assert host.user().name == "www-data"
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    if shutil.which("nginx", path="/usr/sbin") is None:
        pytest.skip("no nginx")
    with (
        pytest.MonkeyPatch.context() as patch,
        site(tmp_path_factory.mktemp("infra"), patch, kind="infra") as place,
    ):
        lab = place.up(LAB)
        for node in lab:
            node.job_table()  # From now on each has its supervisor, which is no test's.
        lab["debian"].wait_for_open_port(80)
        yield lab


def run(directory: Path, hosts: str, suite: str) -> str:
    (directory / "test_suite.py").write_text(suite)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", f"--hosts={hosts}"],
        cwd=directory,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": ""},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    return done.stdout + done.stderr


def test_an_unchanged_suite_holds_on_a_node(lab: Lab, tmp_path: Path) -> None:
    suite = SUITE.read_text()
    printed = run(tmp_path, f"hostlab://{lab.name}/debian", suite)
    count = len(re.findall("^def test_", suite, re.M)) + 1
    assert re.search(rf"^{count} passed in", printed, re.M), printed


def test_hosts_are_one_node_some_or_all_and_this_machine(lab: Lab, tmp_path: Path) -> None:
    register()
    register()

    def names(spec: str) -> list[str]:
        found = testinfra.get_hosts([spec])
        return [host.check_output("hostname") for host in found]

    assert names(f"hostlab://{lab.name}") == ["debian", "other"]
    assert names(f"hostlab://{lab.name}/deb*") == ["debian"]
    assert names(f"hostlab://{lab.name}/other?sudo=true") == ["other"]
    assert names("hostlab://") == [socket.gethostname()]
    with pytest.raises(UsageError, match=f"lab {lab.name} has no node db"):
        names(f"hostlab://{lab.name}/db")
    printed = run(tmp_path, "hostlab://none", "def test_x(host): pass")
    assert "lab none is not up" in printed


def test_what_testinfra_has_no_module_for(lab: Lab) -> None:
    register()
    host = testinfra.get_host(f"hostlab://{lab.name}/debian")
    node = lab["debian"]
    node.succeed("nft add table inet mine; nft add chain inet mine in '{ policy drop;"
                 " type filter hook input priority 9; }'; nft add set inet mine few"
                 " '{ type ipv4_addr; elements = { 192.0.2.1 }; }';"
                 " nft insert rule inet mine in accept")  # fmt: skip
    assert "mine" in host.nftables.tables("inet")
    assert "mine" not in host.nftables.tables("ip")
    assert host.nftables.chains("mine") == ["in"]
    assert host.nftables.policy("mine", "in") == "drop"
    assert host.nftables.sets("mine") == {"few": ["192.0.2.1"]}
    assert host.nftables.rules("mine", "in") == [[{"accept": None}]]
    with pytest.raises(AssertionError, match="no chain out"):
        host.nftables.policy("mine", "out")
    node.succeed("nft delete table inet mine")
    node.succeed("ping -c 1 -w 30 other")
    assert host.neighbours.get("10.0.0.2").interface == "eth0"
    assert host.neighbours.table("lo") == []
    assert host.neighbours.get("192.0.2.9") is None
    assert [each["type"] for each in host.namespaces.get("net")] == ["net"]
    own = int(host.check_output("echo $PPID"))
    assert host.namespaces.named() == []
    assert own == 1 or host.namespaces.of_process(own)
    assert "NET_ADMIN" in host.capabilities.of_process(1)
    nginx = host.process.get(user="root", comm="nginx").pid
    assert "NET_BIND_SERVICE" in host.capabilities.of_process(nginx, "permitted")
    assert "SYS_MODULE" not in host.capabilities.of_process(nginx, "bounding")
    assert host.capabilities.of_file("/bin/true") == ""
    job = host.jobs("once")
    assert (job.exists, job.state, job.is_running, job.pid) == (True, "waiting", False, None)
    assert not host.jobs("none").exists
    assert isinstance(host.timers.get(), list)
    machine = testinfra.get_host("hostlab://")
    with pytest.raises(NotImplementedError, match="is no node"):
        _ = machine.jobs("once").state
    with pytest.raises(UsageError, match="no node of a lab"):
        _ = machine.backend.node


def test_a_host_by_ssh_over_one_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("sshd", path="/usr/sbin") is None:
        pytest.skip("no sshd")
    keys = {name: tmp_path / name for name in ("host", "user")}
    for key in keys.values():
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
        subprocess.run(words, check=True)
    public = keys["user"].with_suffix(".pub").read_text()
    config = tmp_path / "ssh_config"
    config.write_text(
        f"Host *\n  IdentityFile {keys['user']}\n  IdentityAgent none\n  LogLevel ERROR\n"
        "  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n"
    )
    port = free_port()
    text = SSHD.format(
        port=port, host=json.dumps(keys["host"].read_text()), public=json.dumps(public)
    )
    with site(tmp_path, monkeypatch, kind="ssh") as place:
        server = place.up(text)["server"]
        server.wait_for_job("sshd")
        hosts = f"hostlab+ssh://root@127.0.0.1:{port}?ssh_config={config}"
        printed = run(tmp_path, hosts, SSH_SUITE)
        assert "2 passed" in printed, printed
        server.wait_for_log("sshd", "Disconnected from user root")
        log = "\n".join(server.log_tail("sshd", 100))
        assert log.count("Accepted publickey") == 1, log
