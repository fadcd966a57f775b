"""`hostlab firewall matrix` as it is called: a router's ruleset beside what is meant."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.netns.lab.lab_site import probe

pytestmark = pytest.mark.netns

RULES = """\
table inet fw {
    chain input {
        type filter hook input priority filter; policy drop;
        iifname "eth0" tcp dport 22 accept
        iifname "eth1" meta l4proto { tcp, udp } th dport 53 accept
    }
    chain forward {
        type filter hook forward priority filter; policy drop;
        iifname "eth1" accept
    }
}
"""
MEANT = """\
services: {dns: [udp/53, tcp/53]}
zones:
  wan: {interface: eth0, hosts: [198.51.100.7, "2001:db8:9::7"]}
  lan: {interface: eth1, hosts: 10.0.0.9}
expect:
  - wan -> host: [ssh]
  - lan -> host: [dns]
  - lan -> wan: {else: accept}
  - host -> wan: {else: accept}
  - host -> lan: {else: accept}
"""
WORDS = (
    *("matrix", "rules.nft", "--expect", "zones.yaml", "--forwarding"),
    *("--interface", "eth0=203.0.113.10/24,2001:db8::10/64", "--interface", "eth1=10.0.0.1/24"),
    *("--route", "0.0.0.0/0 via 203.0.113.1", "--route", "::/0 via 2001:db8::1"),
)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    probe()
    monkeypatch.setenv("HOSTLAB_RUN", str(tmp_path / "run"))
    (tmp_path / "rules.nft").write_text(RULES)
    (tmp_path / "zones.yaml").write_text(MEANT)
    return tmp_path


def called(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hostlab.cli.main", "firewall", *WORDS, *words],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_what_is_as_meant(directory: Path) -> None:
    done = called(directory, "--json", "--html", "m.html")
    assert not done.returncode, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["services"] == ["dns", "ssh", "any other"]
    assert not found["differences"]
    cells = {(each["from"], each["to"], each["service"]): each for each in found["cells"]}
    ssh = cells["wan", "host", "ssh"]
    assert ssh["state"] == "open"
    assert [each["packet"].partition(" in")[0] for each in ssh["packets"]] == [
        "tcp 198.51.100.7:40001 -> 203.0.113.10:22",
        "tcp [2001:db8:9::7]:40001 -> [2001:db8::10]:22",
    ]
    assert ssh["packets"][0]["decided_by"]["place"]["line"] == 4
    assert cells["wan", "lan", "ssh"]["state"] == "shut"
    assert "all is as meant" in (directory / "m.html").read_text()


def test_what_is_not_comes_first(directory: Path) -> None:
    path = directory / "rules.nft"
    path.write_text(RULES.replace('"eth0" tcp dport 22', '"eth0" tcp dport { 22, 8080 }'))
    (directory / "zones.yaml").write_text(MEANT.replace("[ssh]", "[ssh, tcp/443]"))
    done = called(directory)
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "! wan -> host: any other  meant: deny (zones.yaml:6)"
    assert lines[1].endswith(":8080 in eth0  and 1 more")
    assert lines[2].endswith("# rules.nft:4")
    assert "✕ wan -> host: tcp/443  meant: accept (zones.yaml:6)" in lines
    assert lines[-1].startswith("2 of ")
    header = next(line for line in lines if line.startswith("FROM"))
    assert header.split() == ["FROM", "TO", "dns", "ssh", "tcp/443", "any", "other"]


def test_a_page_that_cannot_be_written(directory: Path) -> None:
    done = called(directory, "--html", "no/such/place.html")
    assert done.returncode == 2
    assert "no/such/place.html" in done.stderr
