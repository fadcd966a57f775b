"""`hostlab firewall ask`, `prove`, `coverage` and `mutate`, as they are called."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.netns.lab.lab_site import probe

pytestmark = pytest.mark.netns

RULES = """\
#!/bin/sh
set -e
iptables -P INPUT DROP
iptables -P FORWARD DROP
iptables -N SSH
iptables -A INPUT -i lo -j ACCEPT
iptables -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
iptables -A INPUT -p tcp --dport 22 -j SSH
iptables -A SSH -s 198.51.100.0/24 -j ACCEPT
iptables -A SSH -j REJECT
iptables -A FORWARD -d 10.0.0.9 -p tcp --dport 80 -j ACCEPT
iptables -t nat -A PREROUTING -i eth0 -p tcp --dport 81 -j DNAT --to 10.0.0.9:80
"""
EXPECTED = """\
zones:
  wan: {interface: eth0, hosts: 198.51.100.7}
expect:
  - wan -> host: {accept: tcp/22, else: drop}
  - reject: tcp 192.0.2.7 -> 203.0.113.10:22 in eth0
    by: "SSH -j REJECT"
  - accept: tcp 198.51.100.7 -> 203.0.113.10:81 in eth0
    nat: to 10.0.0.9:80
    leaves: eth1
"""
LIMITED = "iptables -A OUTPUT -m limit --limit 1/minute -j ACCEPT\n"
TARGET = (
    *("--interface", "eth0=203.0.113.10/24", "--interface", "eth1=10.0.0.1/24", "--forwarding"),
    *("--route", "0.0.0.0/0 via 203.0.113.1"),
)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    probe()
    monkeypatch.setenv("HOSTLAB_RUN", str(tmp_path / "run"))
    (tmp_path / "rules.sh").write_text(RULES)
    (tmp_path / "e.yaml").write_text(EXPECTED)
    return tmp_path


def called(
    directory: Path, *words: str, stdin: str = "", target: tuple[str, ...] = TARGET
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hostlab.cli.main", "firewall", words[0], *target, *words[1:]],
        cwd=directory,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_ask_tells_the_way(directory: Path) -> None:
    done = called(directory, "ask", "rules.sh", "tcp 198.51.100.7 → 203.0.113.10:81 in eth0")
    assert done.stdout.splitlines() == [
        "accept  tcp 198.51.100.7:40000 -> 203.0.113.10:81 in eth0",
        "  by ip filter FORWARD 1: -A FORWARD -d 10.0.0.9/32 -p tcp -m tcp --dport 80 -j ACCEPT"
        "  [accept]  # rules.sh:11",
        "    1. ip nat PREROUTING 1: -A PREROUTING -i eth0 -p tcp -m tcp --dport 81 -j DNAT"
        " --to-destination 10.0.0.9:80  [accept]  # rules.sh:12",
        "    2. ip filter FORWARD 1: -A FORWARD -d 10.0.0.9/32 -p tcp -m tcp --dport 80 -j ACCEPT"
        "  [accept]  # rules.sh:11",
        "  NAT: destination 203.0.113.10:81 became 10.0.0.9:80",
        "  leaves by eth1",
    ]
    assert (done.returncode, done.stderr) == (0, "")


def test_ask_reads_packets_and_prints_json(directory: Path) -> None:
    lines = (
        "# to ssh\ntcp 192.0.2.7 -> 203.0.113.10:22 in eth0\n\nudp 10.0.0.9 -> 1.1.1.1:53 in eth1\n"
    )
    done = called(directory, "ask", "--json", "rules.sh", stdin=lines)
    first, second = json.loads(done.stdout)
    assert first["verdict"] == "reject"
    assert first["decided_by"]["place"]["line"] == 10
    assert (second["verdict"], second["decided_by"]["chain"]) == ("drop", "FORWARD")
    done = called(directory, "ask", "rules.sh", stdin="tcp 1.2.3.4 -> 1.2.3.5:1 inn eth0\n")
    assert done.returncode == 2
    assert "<stdin>:1:26: 'inn' is not understood" in done.stderr
    done = called(directory, "ask", "-", stdin=RULES)
    assert done.returncode == 2
    assert "both ruleset and packets" in done.stderr
    done = called(directory, "ask", "nothing", "icmp 1.1.1.1 -> 1.1.1.2 out")
    assert done.returncode == 2
    assert "there is no file nothing" in done.stderr


def test_prove_names_what_is_not_so(directory: Path) -> None:
    done = called(directory, "prove", "rules.sh", "--expect", "e.yaml")
    assert (done.returncode, done.stdout) == (0, "16 of 16 packets end as expected\n")
    rules = RULES.replace("--dport 22", "--dport 23") + LIMITED
    done = called(directory, "prove", "-", "--expect", "e.yaml", stdin=rules)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "e.yaml:4:5: expected accept, got drop",
        "    tcp 198.51.100.7:40001 -> 203.0.113.10:22 in eth0",
        "    by ip filter INPUT: policy  [drop]",
        "e.yaml:4:5: expected drop, got accept",
        "    tcp 198.51.100.7:40001 -> 203.0.113.10:23 in eth0",
        "    by ip filter SSH 1: -A SSH -s 198.51.100.0/24 -j ACCEPT  [accept]  # <stdin>:9",
        "e.yaml:5:5: expected reject, got drop",
        "    tcp 192.0.2.7:40000 -> 203.0.113.10:22 in eth0",
        "    by ip filter INPUT: policy  [drop]",
        "13 of 16 packets end as expected",
    ]
    assert done.stderr.startswith("remark: what came before counts for a rule: -A OUTPUT -m limit")


def test_coverage_and_mutate_name_what_is_not_tested(directory: Path) -> None:
    done = called(directory, "coverage", "rules.sh", "--expect", "e.yaml", "--fail-under", "80")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "ip filter INPUT 1: -A INPUT -i lo -j ACCEPT  # rules.sh:6",
        "ip filter INPUT 2: -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
        "  # rules.sh:7",
        "5 of 7 rules reached, 71 %",
    ]
    done = called(directory, "mutate", "rules.sh", "--expect", "e.yaml", "--json")
    found = json.loads(done.stdout)
    survivors = {(each["change"], each["chain"], each["number"]) for each in found["survivors"]}
    assert survivors == {
        ("delete", "INPUT", 1),
        ("invert", "INPUT", 1),
        ("delete", "INPUT", 2),
        ("swap", "INPUT", 2),
        ("invert", "INPUT", 2),
    }
    # What it suggests is noticed.
    lines = [f"  {each['suggestion']}" for each in found["survivors"]]
    (directory / "e.yaml").write_text(EXPECTED + "\n".join(dict.fromkeys(lines)) + "\n")
    done = called(directory, "mutate", "rules.sh", "--expect", "e.yaml", "--fail-under", "100")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert done.stdout.endswith(" changes noticed, 100 %\n")


def test_a_node_is_asked_without_being_touched(directory: Path) -> None:
    (directory / "lab.yaml").write_text(
        "name: asked\nsegments: [s]\nnodes:\n  web:\n    interfaces:\n"
        "      eth0: {segment: s, address: 203.0.113.10/24}\n"
    )
    hostlab = [sys.executable, "-m", "hostlab.cli.main"]
    try:
        subprocess.run([*hostlab, "up", "lab.yaml"], cwd=directory, check=True, timeout=60)
        rule = "iptables-nft -A INPUT -p tcp -j DROP"
        command = [*hostlab, "exec", "web", "--", *rule.split()]
        subprocess.run(command, cwd=directory, check=True, timeout=60)
        done = called(
            directory,
            "ask",
            "web",
            "tcp 203.0.113.7 -> 203.0.113.10:22 in eth0",
            "udp 203.0.113.7 -> 203.0.113.10:22 in eth0",
            target=(),
        )
        ends = [line.split()[0] for line in done.stdout.splitlines() if not line.startswith(" ")]
        assert (ends, done.stderr) == (["drop", "accept"], "")
    finally:
        subprocess.run([*hostlab, "down", "asked"], cwd=directory, check=True, timeout=60)
