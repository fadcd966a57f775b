"""Changes of rules, and packets that may tell them."""

from __future__ import annotations

import pytest

from hostlab.firewall.candidates import candidates
from hostlab.firewall.mutants import Mutant, mutants, rules_of
from hostlab.firewall.packet import print_packet
from hostlab.firewall.ruleset import Ruleset
from hostlab.firewall.target import Target, TargetInterface

pytestmark = pytest.mark.unit

SAVED = """\
*filter
:INPUT DROP [0:0]
:SSH - [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -p tcp -m tcp --dport 22 -j SSH
-A INPUT -p udp -m udp --dport 53 -j REJECT --reject-with icmp-port-unreachable
-A SSH -s 198.51.100.0/24 -j ACCEPT
-A SSH -j LOG
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
-A PREROUTING -p tcp -m tcp --dport 81 -j ACCEPT
COMMIT
"""
NFT = """\
table inet f {
	set s {
		type ipv4_addr
	}

	chain in {
		comment "one"
		type filter hook input priority filter; policy drop;
		iifname "wan0" tcp dport { 22, 80 } accept comment "a drop"
		ip saddr 10.0.0.0/8 counter packets 0 bytes 0 jump more
		reject with icmpx admin-prohibited
	}

	chain more {
		udp dport 53 drop
	}
}
"""


def told(mutant: Mutant) -> str:
    return f"{mutant.change} {mutant.key.table} {mutant.key.chain} {mutant.key.number}"


def changed(before: str, mutant: Mutant) -> tuple[list[str], list[str]]:
    """The lines that are only in one of them."""
    one, two = before.split("\n"), mutant.text.split("\n")
    return [each for each in one if each not in two], [each for each in two if each not in one]


@pytest.mark.parametrize("field", ["iptables", "legacy_ip6tables"])
def test_changes_of_saved_rules(field: str) -> None:
    found = {told(each): each for each in mutants(Ruleset(**{field: SAVED}))}
    assert list(found) == [
        "delete filter INPUT 1",
        "swap filter INPUT 1",
        "invert filter INPUT 1",
        "delete filter INPUT 2",
        "swap filter INPUT 2",
        "delete filter INPUT 3",
        "invert filter INPUT 3",
        "delete filter SSH 1",
        "swap filter SSH 1",
        "invert filter SSH 1",
        "delete filter SSH 2",
        "delete nat PREROUTING 1",
    ]
    assert changed(SAVED, found["invert filter INPUT 3"]) == (
        ["-A INPUT -p udp -m udp --dport 53 -j REJECT --reject-with icmp-port-unreachable"],
        ["-A INPUT -p udp -m udp --dport 53 -j ACCEPT"],
    )
    swapped = found["swap filter INPUT 1"].text
    assert swapped.index("-i lo") > swapped.index("-j SSH")
    assert sorted(swapped) == sorted(SAVED)
    assert {each.key.is_legacy for each in found.values()} == {field != "iptables"}


def test_changes_of_nft_rules() -> None:
    found = {told(each): each for each in mutants(Ruleset(nft=NFT))}
    assert list(found) == [
        "delete f in 1",
        "swap f in 1",
        "invert f in 1",
        "delete f in 2",
        "swap f in 2",
        "delete f in 3",
        "invert f in 3",
        "delete f more 1",
        "invert f more 1",
    ]
    assert changed(NFT, found["invert f in 1"])[1] == [
        '\t\tiifname "wan0" tcp dport { 22, 80 } drop comment "a drop"'
    ]
    assert changed(NFT, found["invert f in 3"])[1] == ["\t\taccept"]
    assert [each.key.number for each in rules_of(Ruleset(nft=NFT))] == [1, 2, 3, 1]


def test_packets_that_a_rule_is_meant_for() -> None:
    target = Target(
        interfaces=(
            TargetInterface(name="wan0", addresses=("203.0.113.10/24",)),
            TargetInterface(name="lan0", addresses=("10.0.0.1/24",)),
        )
    )
    ruleset = Ruleset(iptables=SAVED, nft=NFT)
    found = {
        key: {print_packet(each) for each in packets}
        for key, packets in candidates(rules_of(ruleset), target).items()
    }
    by_name = {f"{key.table} {key.chain} {key.number}": each for key, each in found.items()}
    assert "tcp 127.0.0.1:40002 -> 127.0.0.1:40003 in lo" in by_name["filter INPUT 1"]
    # What leads to the chain is demanded with what the rule itself demands.
    assert "tcp 198.51.100.1:40002 -> 203.0.113.10:22 in wan0" in by_name["filter SSH 1"]
    assert "udp 10.0.0.1:40002 -> 203.0.113.10:53 in wan0" in by_name["f more 1"]
    assert "tcp 198.51.100.7:40002 -> 203.0.113.10:22 in wan0" in by_name["f in 1"]
