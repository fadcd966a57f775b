"""Elements that packets add are no difference."""

from __future__ import annotations

import pytest

from hostlab.firewall.difference import text_difference
from hostlab.firewall.learnt import without_learnt
from hostlab.firewall.ruleset import Ruleset

pytestmark = pytest.mark.unit

NFT = (
    "table inet a {{\n\tset seen {{\n\t\ttype ipv4_addr\n\t\tsize 128\n\t\tflags dynamic,timeout\n"
    "\t\ttimeout 1m\n{}\t}}\n"
    "\tset fixed {{\n\t\ttype ipv4_addr\n\t\telements = {{ {} }}\n\t}}\n}}\n"
)


@pytest.mark.parametrize(("fixed", "differs"), [("192.0.2.1", False), ("192.0.2.2", True)])
def test_of_nft_those_of_sets_that_fade_or_that_rules_fill(fixed: str, *, differs: bool) -> None:
    old = Ruleset(nft=NFT.format("", "192.0.2.1"))
    new = Ruleset(nft=NFT.format("\t\telements = { 192.0.2.9 timeout 1m }\n", fixed))
    assert bool(text_difference(*without_learnt(old, new))) is differs


@pytest.mark.parametrize(
    ("kind", "rule", "differs"),
    [
        ("hash:ip", "-j ACCEPT", True),
        ("hash:ip timeout 60", "-j ACCEPT", False),
        ("hash:ip", "-j SET --add-set seen src", False),
    ],
)
def test_of_ipset_too(kind: str, rule: str, *, differs: bool) -> None:
    iptables = f"*filter\n:INPUT ACCEPT [0:0]\n-A INPUT {rule}\nCOMMIT\n"
    old = Ruleset(iptables=iptables, ipset=f"create seen {kind}\n")
    new = Ruleset(iptables=iptables, ipset=f"create seen {kind}\nadd seen 192.0.2.9 timeout 59\n")
    assert bool(text_difference(*without_learnt(old, new))) is differs
