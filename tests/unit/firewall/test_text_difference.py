"""Differences by text: what matters is told, what does not is not."""

from __future__ import annotations

import pytest

from hostlab.errors import DecodeError
from hostlab.firewall.difference import text_difference
from hostlab.firewall.listing import chains
from hostlab.firewall.ruleset import Ruleset
from hostlab.plan.nft_text import nft_tables, parse_nft, print_nft

pytestmark = pytest.mark.unit

NFT = """\
table inet mine {
\tcomment "of ours"

\tset blocked {
\t\ttype ipv4_addr
\t\tflags interval
\t\telements = { 192.0.2.0/24, 198.51.100.7 comment "a, b",
\t\t\t     203.0.113.1 }
\t}

\tchain input {
\t\ttype filter hook input priority filter; policy drop;
\t\tip saddr @blocked drop
\t\tct state established,related counter packets 3 bytes 180 accept
\t}
}
"""


def lines(old: Ruleset, new: Ruleset) -> list[tuple[str, str, int, str]]:
    return [
        (place.place, line.change, line.at, line.text)
        for place in text_difference(old, new)
        for line in place.changes
    ]


def saved(*rules: str, policy: str = "DROP") -> Ruleset:
    body = "".join(f"-A INPUT {rule}\n" for rule in rules)
    return Ruleset(iptables=f"*filter\n:INPUT {policy} [0:0]\n{body}COMMIT\n")


def test_an_nft_listing_is_read() -> None:
    (table,) = parse_nft(NFT)
    assert (table.family, table.name, table.head) == ("inet", "mine", ('comment "of ours"',))
    blocked, chain = table.objects
    assert blocked.elements == ("192.0.2.0/24", '198.51.100.7 comment "a, b"', "203.0.113.1")
    assert blocked.head == ("type ipv4_addr", "flags interval")
    assert chain.head == ("type filter hook input priority filter; policy drop;",)
    assert chain.rules == ("ip saddr @blocked drop", "ct state established,related counter accept")
    assert parse_nft(print_nft((table,))) == (table,)


@pytest.mark.parametrize("text", ["chain x {\n}\n", "table ip x {\n", "table ip x {\n\tset s {\n"])
def test_what_nft_would_not_print_is_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        parse_nft(text)


def test_rules_are_added_removed_and_moved() -> None:
    old = saved("-s 192.0.2.1/32 -j DROP", "-p tcp -j ACCEPT", "-p udp -j ACCEPT")
    new = saved("-p udp -j ACCEPT", "-p tcp -j ACCEPT", "-p icmp -j ACCEPT")
    assert lines(old, new) == [
        ("filter INPUT", "removed", 1, "-s 192.0.2.1/32 -j DROP"),
        ("filter INPUT", "moved", 1, "-p udp -j ACCEPT"),
        ("filter INPUT", "added", 3, "-p icmp -j ACCEPT"),
    ]


def test_a_policy_is_told() -> None:
    assert lines(saved(policy="DROP"), saved("-j DROP", policy="ACCEPT")) == [
        ("filter INPUT", "removed", 0, "policy DROP"),
        ("filter INPUT", "added", 0, "policy ACCEPT"),
        ("filter INPUT", "added", 1, "-j DROP"),
    ]


def test_elements_have_no_order_and_counters_no_meaning() -> None:
    other = NFT.replace("packets 3 bytes 180", "packets 9 bytes 999")
    other = other.replace("192.0.2.0/24, 198", "198")
    other = other.replace("203.0.113.1 }", "203.0.113.1, 192.0.2.0/24 }")
    assert lines(Ruleset(nft=NFT), Ruleset(nft=other)) == []
    fewer = NFT.replace("192.0.2.0/24, ", "")
    assert lines(Ruleset(nft=NFT), Ruleset(nft=fewer)) == [
        ("inet mine set blocked", "removed", 0, "192.0.2.0/24")
    ]


def test_an_ipset_is_compared_without_what_the_kernel_chose() -> None:
    text = "create x hash:ip family inet hashsize 1024 maxelem 65536 initval 0x{} comment\nadd x {}"
    one, two = text.format("11", "10.0.0.1"), text.format("22", "10.0.0.1")
    assert lines(Ruleset(ipset=one), Ruleset(ipset=two)) == []
    assert lines(Ruleset(ipset=one), Ruleset(ipset=text.format("11", "10.0.0.2"))) == [
        ("x", "removed", 0, "10.0.0.1"),
        ("x", "added", 0, "10.0.0.2"),
    ]


def test_a_listing_is_its_tables() -> None:
    first = "table ip a {\n\tchain c {\n\t\taccept\n\t}\n}\n"
    second = 'table inet b { # handle 7\n\tcomment "}"\n}'
    found = [(("ip", "a"), first), (("inet", "b"), second)]
    assert list(nft_tables(f"# a remark\n{first}{second}")) == found
    assert list(nft_tables(f"{first}{second[:-1]}")) == found[:1]


def test_the_elements_of_a_set_hide_no_rule() -> None:
    text = """table ip a {
\tset s {
\t\ttype ipv4_addr
\t\telements = { 1.1.1.1 comment "a } b",
\t\t\t     2.2.2.2 comment "}", 3.3.3.3 }
\t}
\tchain c {
\t\ttcp dport { 1,
\t\t\t 2 } accept
\t\tdrop
\t}
}
"""
    (chain,) = chains(Ruleset(nft=text))
    assert (chain.name, chain.rules) == ("c", ("tcp dport { 1, 2 } accept", "drop"))
