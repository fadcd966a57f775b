"""A remark about what is kept out by IPv4 only, where the host has IPv6; and none elsewhere."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from hostlab.firewall.one_family import left_open
from hostlab.firewall.ruleset import Ruleset
from hostlab.firewall.target import Target, TargetInterface

pytestmark = pytest.mark.unit

DUAL = Target(interfaces=(TargetInterface(name="e", addresses=("192.0.2.1/24", "fd00::1/64")),))
DROPS = "*filter\n:INPUT DROP [0:0]\nCOMMIT\n"
REJECTS = "*filter\n:INPUT ACCEPT [0:0]\n:X - [0:0]\n-A X -p tcp -j REJECT\nCOMMIT\n"
EMPTY = "*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n"
NFT = "table {} t {{\n\tchain c {{\n\t\ttcp dport 22 accept\n\t}}\n}}\n"


@pytest.mark.parametrize(
    "ruleset",
    [
        Ruleset(iptables=DROPS),
        Ruleset(legacy_iptables=REJECTS),
        Ruleset(iptables=DROPS, ip6tables=EMPTY, nft=NFT.format("ip")),
    ],
)
def test_what_is_open_in_ipv6_is_told(ruleset: Ruleset) -> None:
    (remark,) = left_open(ruleset, DUAL)
    assert remark.blame == "remark"
    assert "IPv6" in remark.message


@pytest.mark.parametrize(
    "ruleset",
    [
        Ruleset(),
        Ruleset(iptables=EMPTY),
        Ruleset(nft=NFT.format("ip")),
        Ruleset(iptables=DROPS, ip6tables=DROPS),
        Ruleset(iptables=DROPS, legacy_ip6tables=REJECTS),
        Ruleset(iptables=DROPS, nft=NFT.format("inet")),
        Ruleset(iptables=DROPS, nft=NFT.format("ip6")),
    ],
)
def test_nothing_is_told_where_nothing_is_kept_out_or_ipv6_was_thought_of(ruleset: Ruleset) -> None:
    assert not list(left_open(ruleset, DUAL))


def test_nothing_is_told_of_a_host_without_ipv6() -> None:
    link = DUAL.interfaces[0]
    ruleset = Ruleset(iptables=DROPS)
    without = Target(interfaces=(replace(link, addresses=link.addresses[:1]),))
    assert not list(left_open(ruleset, without))
    assert not list(left_open(ruleset, Target(interfaces=(replace(link, is_up=False),))))
    off = replace(DUAL, sysctls=(("net.ipv6.conf.all.disable_ipv6", "1"),))
    assert not list(left_open(ruleset, off))
