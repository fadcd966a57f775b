"""What rules ask of a packet: iptables' and nft's words for the same thing mean the same."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from hostlab.firewall.boundaries import Demand, Dimension, demand_of_nft, demand_of_saved
from hostlab.firewall.demands import placed_rules
from hostlab.firewall.iptables_save import words_of
from hostlab.firewall.ruleset import Ruleset
from hostlab.firewall.samples import sample_packets
from hostlab.firewall.target import Target, TargetInterface

pytestmark = pytest.mark.unit

TARGET = Target(
    interfaces=(
        TargetInterface(name="wan0", addresses=("203.0.113.10/24", "2001:db8::10/64")),
        TargetInterface(name="lan0", addresses=("10.0.0.1/24",)),
    )
)


def number(address: str) -> int:
    return int(ip_address(address))


def saved(rule: str, *, is_v6: bool = False, **sets: tuple[str, ...]) -> Demand:
    return demand_of_saved(words_of(rule), is_v6=is_v6, sets=sets)


def nft(rule: str, *, family: str = "inet", **sets: tuple[str, ...]) -> Demand:
    return demand_of_nft(rule, family=family, sets=sets)


@pytest.mark.parametrize(
    ("iptables", "nftables"),
    [
        (
            "-s 10.0.0.0/8 -i eth0 -p tcp -m tcp --dport 22 -j ACCEPT",
            'ip saddr 10.0.0.0/8 iifname "eth0" tcp dport 22 accept',
        ),
        ("-p udp -m multiport --dports 53,123:130 -j X", "udp dport { 53, 123-130 } jump X"),
        ("! -d 192.0.2.1/32 -j DROP", "ip daddr != 192.0.2.1 drop"),
        (
            "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            "ct state related,established accept",
        ),
        ("-m iprange --src-range 10.0.0.3-10.0.0.9 -j DROP", "ip saddr 10.0.0.3-10.0.0.9 drop"),
    ],
)
def test_the_same_is_asked_in_both_languages(iptables: str, nftables: str) -> None:
    one, other = saved(iptables), nft(nftables, family="ip")
    assert (one.wants, one.unwanted) == (other.wants, other.unwanted)


def test_elements_of_sets_are_boundaries() -> None:
    demand = nft("ip saddr @bad tcp dport @ports drop", bad=("10.0.0.0/24",), ports=("80", "443"))
    assert demand.wants[Dimension.SOURCE] == ((number("10.0.0.0"), number("10.0.0.255")),)
    assert demand.wants[Dimension.DESTINATION_PORT] == ((80, 80), (443, 443))
    demand = saved("-m set --match-set s src,dst -j DROP", s=("10.1.2.3,tcp:22",))
    assert demand.wants[Dimension.SOURCE] == ((number("10.1.2.3"), number("10.1.2.3")),)
    assert demand.wants[Dimension.DESTINATION_PORT] == ((22, 22),)


def test_what_no_sample_varies_is_named() -> None:
    assert saved("-m limit --limit 3/min -j ACCEPT").beyond == ("limit",)
    assert nft("limit rate 3/minute accept").beyond == ("limit",)
    assert nft('tcp dport 22 comment "limit of hosts" accept').beyond == ()


def test_a_packet_for_a_chain_satisfies_the_rules_that_lead_there() -> None:
    rules = Ruleset(
        iptables=(
            "*filter\n:INPUT DROP [0:0]\n:SSH - [0:0]\n:LOST - [0:0]\n"
            "-A INPUT -i wan0 -p tcp -m tcp --dport 22 -j SSH\n"
            "-A SSH -s 198.51.100.0/24 -j ACCEPT\n-A LOST -j DROP\nCOMMIT\n"
        )
    )
    placed = list(placed_rules(rules))
    assert [rule.chain for rule in placed] == ["filter INPUT", "filter SSH"]
    packets = sample_packets(placed, frozenset(), TARGET)
    asked = {(p.source, p.destination_port) for p in packets if p.interface == "wan0"}
    # On both ends of the prefix, and just outside.
    for source in ("198.51.100.0", "198.51.100.255", "198.51.99.255", "198.51.101.0"):
        assert (source, 22) in asked
    assert {port for _, port in asked} >= {21, 22, 23}


def test_nothing_is_said_of_a_host_without_interfaces() -> None:
    rules = list(placed_rules(Ruleset(iptables="*filter\n:INPUT DROP [0:0]\nCOMMIT\n")))
    assert sample_packets(rules, frozenset(), Target()) == []
