"""The stage: a lab whose nodes have the target's network, and what is loaded into them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.errors import Failed
from hostlab.firewall.ruleset import Ruleset
from hostlab.firewall.stage import Stage
from hostlab.firewall.target import Target, TargetInterface, TargetRoute
from tests.netns.lab.lab_site import probe

pytestmark = pytest.mark.netns

TARGET = Target(
    interfaces=(
        TargetInterface(name="wan0", addresses=("203.0.113.10/24", "2001:db8::10/64"), mtu=1400),
        TargetInterface(name="lan0", addresses=("10.0.0.1/24",)),
        TargetInterface(name="off0", is_up=False),
    ),
    routes=(TargetRoute(to="0.0.0.0/0", via="203.0.113.1"),),
    sysctls=(("net.ipv4.ip_forward", "1"),),
)
SSH = "*filter\n:INPUT DROP [0:0]\n-A INPUT -p tcp --dport 22 -j ACCEPT\nCOMMIT\n"


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    probe()
    monkeypatch.setenv("HOSTLAB_RUN", str(tmp_path / "run"))
    with Stage(TARGET, ("old", "new")) as found:
        yield found


def test_a_node_has_the_targets_network_and_no_other(stage: Stage) -> None:
    node = stage.nodes["new"]
    shown = node.shell("ip -br -4 address; ip -4 route; cat /proc/sys/net/ipv4/ip_forward").stdout
    assert shown.decode().split("\n") == [
        "lo               UNKNOWN        127.0.0.1/8 ",
        *(line for line in shown.decode().split("\n") if line.startswith(("wan0@", "lan0@"))),
        "default via 203.0.113.1 dev wan0 proto static ",
        "10.0.0.0/24 dev lan0 proto kernel scope link src 10.0.0.1 ",
        "203.0.113.0/24 dev wan0 proto kernel scope link src 203.0.113.10 ",
        "1",
        "",
    ]
    links = node.shell("ip -o link").stdout.decode()
    assert "mtu 1400" in next(line for line in links.split("\n") if "wan0@" in line)
    assert "DOWN" in next(line for line in links.split("\n") if "off0@" in line)


def test_a_ruleset_goes_into_one_node_and_is_read_back(stage: Stage) -> None:
    given = Ruleset(
        iptables=SSH,
        legacy_ip6tables="*filter\n:FORWARD DROP [0:0]\nCOMMIT\n",
        nft="table inet mine {\n\tset s {\n\t\ttype ipv4_addr\n\t}\n}\n",
        ipset="create x hash:ip family inet\nadd x 10.0.0.1\n",
    )
    stage.nodes["new"].load(given)
    found = stage.nodes["new"].read()
    assert "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\n" in found.iptables
    assert ":FORWARD DROP [0:0]\n" in found.legacy_ip6tables
    assert found.nft == given.nft
    assert "add x 10.0.0.1\n" in found.ipset
    assert not stage.nodes["old"].read()


def test_a_tool_that_refuses_is_quoted(stage: Stage) -> None:
    with pytest.raises(Failed, match=r"nft: .*syntax error"):
        stage.nodes["new"].load(Ruleset(nft="tabel ip x {}\n"))
