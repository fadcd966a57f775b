"""`hostlab firewall stage`, `show` and `save`: what they print, write and end with."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from hostlab.cli.main import run
from tests.netns.cli.cli_site import NOBODY, Hostlab, needs_namespaces, plain_users_python
from tests.netns.lab.lab_site import probe

pytestmark = pytest.mark.netns

TARGET = ("--interface", "wan0=203.0.113.10/24", "--interface", "lan0=10.0.0.1/24,fd00::1/64")
RULES = """#!/bin/sh
iptables -P INPUT DROP
iptables -A INPUT -i lo -j ACCEPT
ip6tables-legacy -A INPUT -i lan0 -j ACCEPT
ipset create bad hash:ip
nft add table inet mine
echo 1 > /proc/sys/net/ipv4/ip_forward
main ip addr add 10.1.0.1/24 dev lan0
"""


class Said(NamedTuple):
    status: int
    out: str
    error: str


class Command:
    """`hostlab firewall …` in this process: starting one costs more than most of what is tested."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch = monkeypatch
        self.capsys = capsys

    def __call__(self, *arguments: str, stdin: str = "", status: int | None = 0) -> Said:
        given = io.TextIOWrapper(io.BytesIO(stdin.encode()))
        self.monkeypatch.setattr("sys.stdin", given)
        ended = run(["firewall", *arguments])
        said = Said(ended, *self.capsys.readouterr())
        assert status in (None, ended), said
        return said


@pytest.fixture
def hostlab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    probe()
    monkeypatch.setenv("HOSTLAB_RUN", str(tmp_path / "run"))
    yield Command(monkeypatch, capsys)
    assert not list((tmp_path / "run").glob("*"))


def test_stage_show_and_save(hostlab: Command, tmp_path: Path) -> None:
    rules = tmp_path / "rules.sh"
    rules.write_text(RULES)
    assert hostlab("stage", str(rules), *TARGET) == (
        0,
        f"{rules}: 2 rules in 6 chains, 1 ipsets\n"
        f"  sysctl -qw net.ipv4.ip_forward=1  # {rules}:7\n"
        f"  only on the real machine: ip addr add 10.1.0.1/24 dev lan0  # {rules}:8\n",
        "",
    )
    shown = hostlab("show", "--places", str(rules), *TARGET).out
    assert f"-A INPUT -i lo -j ACCEPT  # {rules}:3\n" in shown
    assert f"-A INPUT -i lan0 -j ACCEPT  # {rules}:4\n" in shown
    saved = tmp_path / "saved"
    hostlab("save", str(rules), *TARGET, "--output", str(saved))
    assert sorted(path.name for path in saved.iterdir()) == [
        "10-ipset",
        "20-rules.v4",
        "20-rules.v6.legacy",
        "30-nftables.conf",
    ]
    again = hostlab("show", str(saved), *TARGET).out
    assert _without_seeds(again) == _without_seeds(shown)


def _without_seeds(shown: str) -> list[str]:
    """Without places, and the seeds that ipset's hashes have of their own each time."""
    return [line.partition(" initval ")[0].partition("  # ")[0] for line in shown.split("\n")]


def test_json_is_whole(hostlab: Command, tmp_path: Path) -> None:
    (tmp_path / "rules.sh").write_text(RULES + "iptables -A INPUT -j NONE\n")
    told = json.loads(hostlab("stage", "--json", str(tmp_path / "rules.sh"), *TARGET, status=2).out)
    assert told["exit"] == 2
    assert [each["blame"] for each in told["troubles"]] == ["ruleset"]
    assert told["troubles"][0]["place"]["line"] == 9
    assert [each["kind"] for each in told["operations"]] == ["sysctl", "main"]
    assert ":INPUT DROP [0:0]" in told["ruleset"]["iptables"]
    assert {(each["chain"], each["place"]["line"]) for each in told["origins"]} == {
        ("INPUT", 3),
        ("INPUT", 4),
    }
    script = "#!/bin/bash\niptables -N A\n"
    rows = json.loads(hostlab("show", "--json", "-", *TARGET, stdin=script).out)
    assert {"family": "ip", "table": "filter", "name": "A", "rules": []} in rows


@pytest.mark.parametrize(
    ("arguments", "stdin", "status", "words"),
    [
        (("/nowhere",), "", 2, "/nowhere: No such file or directory"),
        (("-",), "", 2, "<stdin> has no rule in it"),
        (("-",), "\0\0", 2, "<stdin> is no text"),
        (("-",), "#!/usr/bin/python3\n", 2, "python3 is not run here"),
        (("-",), "*filter\n:INPUT\n", 2, "<stdin>:2"),
        (("-",), "table inet {\n", 2, "<stdin>:1: syntax error"),
        (("-", "--interface", "bad/name"), "", 2, "cannot be an interface's name"),
        (("-", "--interface", "eth0=10.0.0.300/24"), "", 2, "no address with a prefix"),
        (("-", "--interface", "eth0", "--route", "10.0.0.0/8"), "", 2, "leads nowhere"),
        (("-", "--node", "x", "--interface", "eth0"), "", 2, "either --node or --interface"),
        (
            ("-", "--interface", "e"),
            "*filter\n-A INPUT -j LED --led-trigger-id x\nCOMMIT\n",
            3,
            "LED",
        ),
    ],
)
def test_what_cannot_be_staged_is_told(
    hostlab: Command, arguments: tuple[str, ...], stdin: str, status: int, words: str
) -> None:
    target = () if "--interface" in arguments else ("--interface", "eth0")
    if "--node" in arguments:
        target = ()
    done = hostlab("stage", *arguments, *target, status=None, stdin=stdin)
    if status == 3 and done.status == 0:
        pytest.skip("here: the kernel has the target LED")
    assert done.status == status, done
    assert words in done.error


def test_a_plain_user_stages() -> None:
    needs_namespaces()
    python, path = plain_users_python()
    home = Path("/tmp") / f"hostlab-plain-{os.getpid()}"
    home.mkdir()
    try:
        if os.geteuid() == 0:
            os.chown(home, NOBODY, NOBODY)
        (home / "rules.sh").write_text(RULES.replace("ip6tables-legacy", "ip6tables"))
        user = NOBODY if os.geteuid() == 0 else None
        plain = Hostlab(home / "run", user=user, python=python, path=path)
        done = plain("firewall", "stage", str(home / "rules.sh"), *TARGET)
        assert "2 rules in 6 chains" in done.stdout
        done = plain(
            "firewall", "show", "-", *TARGET, stdin="table inet f {\n chain c {\n accept\n }\n}\n"
        )
        assert "chain c {" in done.stdout
        assert plain("firewall", "show", "--live", status=3).stderr
    finally:
        shutil.rmtree(home)
