"""What rules ask of a packet: iptables' and nft's words for the same thing mean the same."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from hostlab.firewall.boundaries import Demand, Dimension, demand_of_nft, demand_of_saved
from hostlab.firewall.demands import placed_rules
from hostlab.firewall.frames import ICMP_ERRORS, ICMPV6_ERRORS
from hostlab.firewall.iptables_save import words_of
from hostlab.firewall.packet import Packet, is_never_invalid
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


def sampled(ruleset: Ruleset) -> list[Packet]:
    placed = list(placed_rules(ruleset))
    return sample_packets(placed, frozenset(range(len(placed))), TARGET)


def saved_filter(*rules: str) -> Ruleset:
    body = "".join(f"-A {rule}\n" for rule in rules)
    return Ruleset(iptables=f"*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n{body}COMMIT\n")


def test_what_is_related_of_icmp_is_an_error() -> None:
    """Beside a type's boundary are types of no use: of them no connection could be made."""
    related = "-m conntrack --ctstate RELATED"
    rules = (f"INPUT -p icmp -m icmp --icmp-type {kind} {related} -j ACCEPT" for kind in (8, 12))
    found = sampled(saved_filter(*rules))
    kinds = {p.icmp_type for p in found if p.protocol == "icmp" and p.state == "related"}
    assert {3, 11, 12} <= kinds
    assert kinds <= ICMP_ERRORS | ICMPV6_ERRORS
    kinds = {p.icmp_type for p in found if p.protocol == "icmp" and p.state == "new"}
    assert {7, 8, 9} <= kinds


def test_no_packet_is_of_both_families() -> None:
    """A rule about IPv4 in a chain that only IPv6 is led to."""
    nft = (
        "table inet f {\n\tchain own {\n\t\tip saddr 192.0.2.1 drop\n"
        "\t\tip6 saddr != 2001:db8::1 accept\n\t}\n\n"
        "\tchain input {\n\t\ttype filter hook input priority filter; policy drop;\n"
        "\t\tip6 saddr 2001:db8:1::/48 jump own\n\t\ticmpv6 type 129 accept\n\t}\n}\n"
    )
    found = sampled(Ruleset(nft=nft))
    assert "2001:db8:1::1" in {p.source for p in found}
    assert not {p.icmp_type for p in found if ":" not in p.source} & {129}


def test_a_packet_leaves_by_every_interface_where_a_rule_names_one() -> None:
    found = sampled(saved_filter("FORWARD -i lan0 -o wan0 -p tcp -j ACCEPT"))
    ways = {(p.interface, p.destination) for p in found if p.protocol == "tcp"}
    assert ("lan0", "10.0.0.254") in ways
    assert ("lan0", "203.0.113.254") in ways


def test_where_a_rule_names_a_part_of_the_host_all_of_it_is_asked() -> None:
    """Beside a prefix that has one of the host's addresses nothing else comes to the host."""
    found = sampled(saved_filter("INPUT -d 203.0.113.0/28 -p udp -j ACCEPT"))
    asked = {p.destination for p in found if p.protocol == "udp" and p.interface == "wan0"}
    assert {"203.0.113.10", "10.0.0.1", "203.0.113.0", "203.0.113.16"} <= asked


def test_no_packet_is_asked_for_that_cannot_be_what_it_is_asked_for_as() -> None:
    found = sampled(saved_filter("INPUT -p icmp -m conntrack --ctstate INVALID -j ACCEPT"))
    assert any(p.state == "invalid" and p.protocol == "icmp" for p in found)
    assert not any(is_never_invalid(p) for p in found)


def test_nothing_is_said_of_a_host_without_interfaces() -> None:
    rules = list(placed_rules(Ruleset(iptables="*filter\n:INPUT DROP [0:0]\nCOMMIT\n")))
    assert sample_packets(rules, frozenset(), Target()) == []
