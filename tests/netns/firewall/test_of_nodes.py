"""A running node's firewall from outside: staged, compared, changed with the same way back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.sync import Lab, Node
from tests.netns.lab.lab_site import needs_hostlab_in_nodes, site

pytestmark = pytest.mark.netns

HOSTLAB = str(Path(sys.executable).with_name("hostlab"))
LAB = """
segments: {lan: 10.45.0.0/24}
nodes: {server: lan, client: lan}
"""
OLD = "iptables -P INPUT DROP; iptables -A INPUT -p tcp --dport 22 -j ACCEPT; iptables -N f2b-x"
NEW = """\
iptables -P INPUT DROP
iptables -A INPUT -p tcp --dport 23 -j ACCEPT
sysctl -qw net.ipv4.ip_forward=1
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    needs_hostlab_in_nodes()
    with pytest.MonkeyPatch.context() as patch, site(tmp_path_factory.mktemp("l"), patch) as place:
        found = place.up(LAB)
        # Its supervisor starts with the first connection, and is no leak of the first test.
        found["server"].succeed("true")
        yield found


@pytest.fixture
def server(lab: Lab) -> Node:
    """With the old rules."""
    node = lab["server"]
    node.succeed(f"iptables -F; iptables -X; {OLD}; echo 0 >/proc/sys/net/ipv4/ip_forward")
    return node


@pytest.fixture
def rules(tmp_path: Path) -> str:
    path = tmp_path / "new.sh"
    path.write_text(NEW)
    return str(path)


def firewall(*words: str, status: int = 0) -> str:
    """`hostlab firewall …`; what it printed."""
    command = (HOSTLAB, "firewall", *words)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def named(node: Node) -> str:
    return f"{node.lab}/{node.name}"


def saved(node: Node) -> str:
    return node.succeed("iptables -S; cat /proc/sys/net/ipv4/ip_forward")


def test_a_node_is_staged_and_compared(server: Node, rules: str) -> None:
    before = saved(server)
    said = firewall("stage", named(server))
    assert f"{named(server)}: 1 rules in" in said
    said = firewall("diff", named(server), rules, status=1)
    assert "- 1: -p tcp -m tcp --dport 22 -j ACCEPT" in said
    assert "-> 10.45.0.1:23 in eth0" in said
    said = firewall("stage", f"{server.lab}/sever", status=2)
    assert "there is no file" in said
    assert "did you mean server?" in said
    assert saved(server) == before


def test_what_a_check_proves_stays_and_what_it_does_not_goes(server: Node, rules: str) -> None:
    before = saved(server)
    said = firewall("apply", rules, "--node", named(server), "--check", "false", status=1)
    assert "the old rules are back, read back and compared" in said
    assert saved(server) == before
    check = "iptables -C INPUT -p tcp --dport 23 -j ACCEPT"
    said = firewall("apply", rules, "--node", named(server), "--check", check)
    assert "the way back stands" in said
    assert "confirmed" in said
    after = saved(server)
    assert "--dport 23" in after
    assert "--dport 22" not in after
    assert "f2b-x" in after
    assert after.endswith("\n1\n")
    assert "confirmed" in firewall("status", "--node", named(server))


def test_a_word_from_outside_confirms(server: Node, rules: str) -> None:
    command = (HOSTLAB, "firewall", "apply", rules, "--node", named(server), "--within", "600")
    applying = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    with applying:
        assert applying.stdout is not None
        assert any("loaded" in line for line in applying.stdout)
        assert "confirmed" in firewall("confirm", "--node", named(server))
        assert applying.wait(60) == 0
    assert "--dport 23" in saved(server)


def test_a_dry_run_changes_nothing_and_what_is_for_the_machine_is_refused(
    server: Node, rules: str
) -> None:
    before = saved(server)
    said = firewall("apply", rules, "--node", named(server), "--dry-run")
    assert "beside rules: sysctl" in said
    assert "--live" in firewall("apply", rules, "--node", named(server), "--strict", status=2)
    assert saved(server) == before
    assert "hostlab-firewall" not in server.succeed("ls /run")
