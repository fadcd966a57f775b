"""A firewall as nft's text: one table, one transaction, and a line for every complaint."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hostlab.errors import Place
from hostlab.plan.difference import difference
from hostlab.plan.firewall import render, text
from hostlab.plan.operations import Kind
from hostlab.spec import load
from hostlab.spec.firewall import Ends, Firewall, Rule, Service, Verdict
from hostlab.spec.model import Lab, Node

pytestmark = pytest.mark.unit

LAB = """
segments: {world: [203.0.113.0/24, "fd00::/64"], lan: [10.1.0.0/24, "fd01::/64"]}
nodes:
  r:
    interfaces: {wan0: world, lan0: lan}
    forwarding: true
    firewall:
      zones: {wan: wan0, lan: {interfaces: lan0, default: accept}}
      default: reject
      deny: smtp from lan to wan
      allow:
        - ssh, ping from 203.0.113.8/29, 203.0.113.9
        - dns, 50-60 from lan to any
        - ntp from host to 203.0.113.7
      masquerade: wan
      publish: 8080 from wan to web:80
      raw: chain own { counter; }
  web: lan
"""
RENDERED = """\
# The firewall of r, as its description says: hostlab makes it anew.
add table inet hostlab
delete table inet hostlab
table inet hostlab {
	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		meta nfproto ipv4 iifname "wan0" fib daddr type local tcp dport 8080 dnat ip to 10.1.0.2:80 comment "publish 8080/tcp from wan to web:80"
		meta nfproto ipv6 iifname "wan0" fib daddr type local tcp dport 8080 dnat ip6 to [fd01::2]:80 comment "publish 8080/tcp from wan to web:80"
	}
	chain input {
		type filter hook input priority filter; policy drop;
		ct state established,related accept comment "answers"
		iifname "lo" accept
		icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, mld-listener-query, mld-listener-report, mld2-listener-report } accept comment "neighbour discovery"
		ip saddr 203.0.113.8/29 tcp dport 22 accept comment "allow ssh, ping from 203.0.113.8/29, 203.0.113.9"
		ip saddr 203.0.113.8/29 icmp type echo-request accept comment "allow ssh, ping from 203.0.113.8/29, 203.0.113.9"
		iifname "lan0" tcp dport 50-60 accept comment "allow dns, 50-60 from lan to any"
		iifname "lan0" udp dport 53 accept comment "allow dns, 50-60 from lan to any"
		iifname "lan0" accept comment "zone lan"
		reject comment "default"
	}
	chain forward {
		type filter hook forward priority filter; policy drop;
		ct state established,related accept comment "answers"
		iifname "lan0" oifname "wan0" tcp dport 25 reject comment "deny smtp from lan to wan"
		iifname "wan0" ip daddr 10.1.0.2 tcp dport 80 ct status dnat accept comment "publish 8080/tcp from wan to web:80"
		iifname "wan0" ip6 daddr fd01::2 tcp dport 80 ct status dnat accept comment "publish 8080/tcp from wan to web:80"
		iifname "lan0" tcp dport 50-60 accept comment "allow dns, 50-60 from lan to any"
		iifname "lan0" udp dport 53 accept comment "allow dns, 50-60 from lan to any"
		iifname "lan0" accept comment "zone lan"
		reject comment "default"
	}
	chain output {
		type filter hook output priority filter; policy accept;
		ct state established,related accept comment "answers"
		oifname "lo" accept
		ip daddr 203.0.113.7 udp dport 123 accept comment "allow ntp from host to 203.0.113.7"
	}
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		meta nfproto ipv4 oifname "wan0" masquerade comment "masquerade"
	}
	chain own { counter; }
}
"""  # noqa: E501


def firewall_of(lab: str) -> Firewall:
    found = load(lab, file="lab.yaml").node("r").firewall
    assert found is not None
    return found


def test_the_text_is_what_a_person_would_write() -> None:
    assert text(render("r", firewall_of(LAB))) == RENDERED


def test_without_a_firewall_the_table_is_taken_away_whether_it_is_there_or_not() -> None:
    assert text(render("r", None)) == "add table inet hostlab\ndelete table inet hostlab\n"
    assert render("r", None, RENDERED) == render("r", None)


def test_a_table_that_is_there_keeps_its_base_chains() -> None:
    firewall = firewall_of(LAB)
    listed = (
        "table inet hostlab {\n"
        "\tset strange {\n\t\ttype ipv4_addr\n\t}\n\n"
        "\tchain input {\n\t\ttype filter hook input priority filter; policy accept;\n"
        "\t\tjump own\n\t}\n\n"
        "\tchain own {\n\t}\n"
        "\tchain late {\n\t\ttype filter hook input priority 9; policy drop;\n\t}\n}\n"
    )
    anew = "add table inet hostlab\ndelete table inet hostlab\n"
    assert anew in RENDERED
    before = (
        "flush table inet hostlab\ndelete set inet hostlab strange\ndelete chain inet hostlab own\n"
    )
    expected = RENDERED.replace(anew, before) + "delete chain inet hostlab late\n"
    assert text(render("r", firewall, listed)) == expected
    dormant = listed.replace("hostlab {\n", "hostlab {\n\tflags dormant\n")
    assert text(render("r", firewall, dormant)) == RENDERED


@pytest.mark.parametrize(
    ("said", "chains"),
    [
        ("{deny: []}", []),
        ("{deny: ssh}", ["input", "forward"]),
        ("{zones: {w: {interfaces: wan0, default: drop}}, default: accept}", ["input", "forward"]),
        ("{raw: 'chain input { tcp dport 1 drop; }'}", ["input", "forward", "input"]),
        ("{raw: 'chain output { udp dport 1 drop; }'}", ["output", "output"]),
        ("{raw: 'chain postrouting { counter; }'}", ["postrouting", "postrouting"]),
        ("{raw: 'chain input { type filter hook input priority 0; }'}", ["input"]),
    ],
)
def test_only_the_chains_that_are_needed_are_made(said: str, chains: list[str]) -> None:
    head, _, rest = LAB.partition("    firewall:\n")
    lab = f"{head}    firewall: {said}\n  web: {rest.rpartition('web: ')[2]}"
    rendered = text(render("r", firewall_of(lab)))
    found = [line.split()[1] for line in rendered.split("\n") if line.startswith("\tchain")]
    assert found == chains


def test_a_comment_is_no_longer_than_the_kernel_takes() -> None:
    rule = Rule(
        said="é" * 100, sources=Ends(anywhere=True), targets=Ends(host=True), place=Place("f", 1, 1)
    )
    lines = render("r", Firewall(default=Verdict.DROP, allow=(rule,)))
    (line,) = [line for line in lines if line.place]
    assert line.text.strip() == f'accept comment "{"é" * 63}"'


RANGES = st.tuples(st.integers(1, 40), st.integers(0, 10)).map(lambda p: (p[0], p[0] + p[1]))


@given(st.lists(RANGES, min_size=1))
def test_ports_are_the_same_ports_and_none_overlap(ranges: list[tuple[int, int]]) -> None:
    services = tuple(Service(protocol="tcp", first=a, last=b) for a, b in ranges)
    rule = Rule(
        said="x",
        services=services,
        sources=Ends(anywhere=True),
        targets=Ends(host=True),
        place=Place("f", 1, 1),
    )
    (line,) = [
        line.text
        for line in render("r", Firewall(default=Verdict.DROP, allow=(rule,)))
        if line.place
    ]
    said = line.partition("dport ")[2].partition(" accept")[0].strip("{ }")
    found: list[int] = []
    for part in said.split(", "):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    assert found == sorted({p for a, b in ranges for p in range(a, b + 1)})


def plan(was: Firewall | None, now: Firewall | None) -> list[tuple[Kind, str]]:
    before, after = (
        Lab(name="l", nodes=(Node(name="r", hostname="r", firewall=each),)) for each in (was, now)
    )
    return [(o.kind, o.reason) for o in difference(before, after).operations]


def test_a_change_is_one_operation_that_says_what_changed() -> None:
    firewall = firewall_of(LAB)
    change = Kind.CHANGE_FIREWALL
    assert plan(None, firewall) == [(change, "a table of its own")]
    assert plan(firewall, None) == [(change, "its table is taken away")]
    other = replace(firewall, default=Verdict.DROP, allow=())
    assert plan(firewall, other) == [(change, "default, allow changed")]
    assert plan(firewall, firewall_of("\n\n" + LAB)) == []


def test_a_nodes_new_address_changes_the_firewall_that_names_it() -> None:
    was = load(LAB, file="lab.yaml")
    now = load(
        LAB.replace(
            "  web: lan",
            "  web: {interfaces: {eth0: {segment: lan, addresses: [10.1.0.7, fd01::7]}}}",
        ),
        file="lab.yaml",
    )
    changes = difference(was, replace(now, name=was.name)).of(Kind.CHANGE_FIREWALL)
    assert [(o.subject, o.reason) for o in changes] == [("r", "publish changed")]
