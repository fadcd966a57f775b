"""Routes and paths of a lab with static routes, beside what `ip` says and what packets do."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from hostlab.api import Lab
from hostlab.errors import UsageError
from hostlab.observe.path import Outcome, Path, draw
from hostlab.observe.routing import MACHINE, NextHop
from tests.netns.lab.lab_site import site, wait_until
from tests.netns.observe.ttl_probe import assert_probes_agree, branches, probed

pytestmark = pytest.mark.netns

# alice - r1 = (r2 | r3) = r4 - bob; the way there is over both, the way back over r2 alone.
LAB = """
segments:
  {a: ~, left2: ~, left3: ~, right2: ~, right3: ~,
   b: {machine: [10.5.0.99, "fd00:0:0:5::99"]}}
roles:
  router:
    forwarding: true
    sysctls: {net.ipv4.icmp_ratelimit: 0, net.ipv6.icmp.ratelimit: 0}
nodes:
  alice: {interfaces: [a], gateway: r1}
  r1: {roles: router, interfaces: [a, left2, left3]}
  r2:
    roles: router
    interfaces: [left2, right2]
    routes: [{to: 10.5.0.0/24, via: r4}, {to: "fd00:0:0:5::/64", via: r4},
             {to: 10.0.0.0/24, via: r1}, {to: "fd00::/64", via: r1}]
  r3:
    roles: router
    interfaces: [left3, right3]
    routes: [{to: 10.5.0.0/24, via: r4}, {to: "fd00:0:0:5::/64", via: r4},
             {to: 10.0.0.0/24, via: r1}, {to: "fd00::/64", via: r1}]
  r4:
    roles: router
    interfaces: [right2, right3, b]
    routes: [{to: 10.0.0.0/24, via: r2}, {to: "fd00::/64", via: r2},
             {to: 10.1.0.0/24, via: r2}, {to: 10.2.0.0/24, via: r3}]
  bob: {interfaces: [b], gateway: r4}
"""
TO_BOB = {4: "10.5.0.0/24", 6: "fd00:0:0:5::/64"}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The lab, with two next hops of equal cost at r1, which a description has no words for."""
    with pytest.MonkeyPatch.context() as patch, site(tmp_path_factory.mktemp("path"), patch) as at:
        found = at.up(LAB)
        both_ways(found)
        for node in found:
            node.succeed("true")  # A supervisor starts with the first command, and stays.
        yield found


def both_ways(lab: Lab) -> None:
    address = {
        (n.name, i.segment): i.addresses for n in lab.description.nodes for i in n.interfaces
    }
    for place, family in enumerate((4, 6)):
        hops = [
            address[router, segment][place].partition("/")[0]
            for router, segment in (("r2", "left2"), ("r3", "left3"))
        ]
        lab["r1"].succeed(
            f"ip -{family} route replace {TO_BOB[family]} proto bird metric 50"
            f" nexthop via {hops[0]} nexthop via {hops[1]}"
        )


def ways(lab: Lab, start: str, end: str) -> dict[int, Path]:
    """The path of each family."""
    return {found.family: found for found in lab.paths(start, end)}


def test_a_path_has_a_branch_for_each_next_hop_of_equal_cost(lab: Lab) -> None:
    for found in ways(lab, "alice", "bob").values():
        assert found.reaches
        assert sorted(branches(found.start)) == [
            ["r1", "r2", "r4", "bob"],
            ["r1", "r3", "r4", "bob"],
        ]
        assert_probes_agree(lab, "alice", found)


def test_the_way_back_is_asked_for_by_itself(lab: Lab) -> None:
    for found in ways(lab, "bob", "alice").values():
        assert branches(found.start) == [["r4", "r2", "r1", "alice"]]
        assert_probes_agree(lab, "bob", found)


def test_an_end_is_a_node_an_interface_or_an_address(lab: Lab) -> None:
    r4 = next(node for node in lab.description.nodes if node.name == "r4")
    far = r4.interfaces[2].addresses[0].partition("/")[0]
    for name in ("r4:eth2", far):
        found = ways(lab, "r1:eth1", name)[4]
        assert (found.destination, found.source) == (far, "10.1.0.1")
        assert branches(found.start) == [["r2", "r4"], ["r3", "r4"]]
    assert_probes_agree(lab, "r1", ways(lab, "r1", "r4:eth2")[4])
    itself = ways(lab, "alice", "alice")[4].start
    assert (itself.outcome, itself.ways) == (Outcome.ARRIVED, ())
    machine = ways(lab, "alice", "10.5.0.99")[4]
    assert machine.reaches
    assert list(draw(machine.start))[-1].strip() == f"{MACHINE}: left the lab"
    with pytest.raises(UsageError, match="no node 'carol'"):
        ways(lab, "alice", "carol")
    with pytest.raises(UsageError, match="may be on any link"):
        ways(lab, "alice", "fe80::1")
    with pytest.raises(UsageError, match="no interface 'eth9'"):
        ways(lab, "alice", "bob:eth9")


def test_the_drawing_shows_what_decides(lab: Lab) -> None:
    drawn = "\n".join(draw(ways(lab, "alice", "bob")[4].start))
    assert drawn == (
        "alice -> eth0 via 10.0.0.2  [0.0.0.0/0 static]\n"
        "r1 (eth0): 2 ways  [10.5.0.0/24 bird metric 50]\n"
        "├─ eth1 via 10.1.0.2\n"
        "│  r2 (eth0) -> eth1 via 10.3.0.2  [10.5.0.0/24 static]\n"
        "│  r4 (eth0) -> eth2  [10.5.0.0/24 kernel]\n"
        "│  bob (eth0): arrived\n"
        "└─ eth2 via 10.2.0.2\n"
        "   r3 (eth0) -> eth1 via 10.4.0.2  [10.5.0.0/24 static]\n"
        "   r4 (eth1) -> eth2  [10.5.0.0/24 kernel]\n"
        "   bob (eth0): as above"
    )


@pytest.mark.parametrize(
    ("family", "break_it", "mend_it", "outcome", "node", "end"),
    [
        (4, "r4: ip route add blackhole 10.5.0.2", "r4: ip route del blackhole 10.5.0.2",
         Outcome.BLACKHOLE, "r4", None),
        (6, "r4: ip -6 route add blackhole fd00:0:0:5::2/128",
         "r4: ip -6 route del blackhole fd00:0:0:5::2/128", Outcome.BLACKHOLE, "r4", None),
        (4, "r4: ip route add unreachable 10.5.0.2", "r4: ip route del unreachable 10.5.0.2",
         Outcome.UNREACHABLE, "r4", "3.1"),
        (6, "r4: ip -6 route add unreachable fd00:0:0:5::2/128",
         "r4: ip -6 route del unreachable fd00:0:0:5::2/128", Outcome.UNREACHABLE, "r4", "1.0"),
        (4, "r4: ip route add prohibit 10.5.0.2", "r4: ip route del prohibit 10.5.0.2",
         Outcome.PROHIBIT, "r4", "3.13"),
        (4, "r4: sysctl -qw net.ipv4.ip_forward=0", "r4: sysctl -qw net.ipv4.ip_forward=1",
         Outcome.NOT_FORWARDING, "r4", None),
        (6, "r4: sysctl -qw net.ipv6.conf.all.forwarding=0",
         "r4: sysctl -qw net.ipv6.conf.all.forwarding=1", Outcome.NOT_FORWARDING, "r4", None),
        (4, "r4: ip route add 10.5.0.2 via 10.3.0.1", "r4: ip route del 10.5.0.2",
         Outcome.LOOP, "r4", "too far"),
        (4, "r4: ip route add 10.5.0.2 via 10.3.0.77", "r4: ip route del 10.5.0.2",
         Outcome.NOBODY, "r4", None),
        (4, "r4: sysctl -qw net.ipv4.conf.eth1.rp_filter=1",
         "r4: sysctl -qw net.ipv4.conf.eth1.rp_filter=0", Outcome.REVERSE_PATH, "r4", None),
        (4, "r1: ip route del 10.5.0.0/24", "", Outcome.NO_ROUTE, "r1", "3.0"),
        (6, "r1: ip -6 route del fd00:0:0:5::/64", "", Outcome.NO_ROUTE, "r1", "1.0"),
        (4, "alice: ip route del default", "alice: ip route add default via 10.0.0.2 proto static",
         Outcome.NO_ROUTE, "alice", "refused 101"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_named_with_its_node(
    lab: Lab,
    family: int,
    break_it: str,
    mend_it: str,
    outcome: Outcome,
    node: str,
    end: str | None,
) -> None:
    broken, command = break_it.split(": ", 1)
    lab[broken].succeed(command)
    try:
        found = ways(lab, "alice", "bob")[family]
        assert not found.reaches
        assert [p for p in found.problems if p.startswith(f"{node}: {outcome}")], found.problems
        if end is not None:
            assert probed(lab, "alice", found.destination, None)[1] == end
    finally:
        if mend_it:
            lab[broken].succeed(mend_it.split(": ", 1)[1])
        both_ways(lab)
    assert ways(lab, "alice", "bob")[family].reaches


def test_a_link_that_is_down_is_named(lab: Lab) -> None:
    lab["bob"].succeed("ip link set eth0 down")
    try:
        wait_until(
            lambda: "LOWER_UP" not in lab["bob"].succeed("ip link show eth0"), "the link is down"
        )
        found = ways(lab, "alice", "bob:eth0")[4]
        assert found.problems == (
            "r4: nobody has the next hop (10.5.0.2 on b: bob's eth0 is down)",
        )
    finally:
        lab["bob"].succeed("ip link set eth0 up; ip route replace default via 10.5.0.2")


def test_tables_are_what_ip_says(lab: Lab) -> None:
    found = lab.routes()
    assert list(found) == ["alice", "r1", "r2", "r3", "r4", "bob"]
    for node in lab:
        for family in (4, 6):
            said = {
                (route["dst"], route.get("protocol", "boot"))
                for route in json.loads(node.succeed(f"ip -j -{family} route show table main"))
                if not route["dst"].startswith("fe80")
            }
            ours = {
                ("default" if r.to in ("0.0.0.0/0", "::/0") else r.to, r.protocol)
                for r in found[node.name]
                if (":" in r.to) == (family == 6)
            }
            assert ours == said


def test_who_has_a_route_from_whom(lab: Lab) -> None:
    found = lab.routes(to="10.5.0.2")
    (r1,) = found["r1"]
    assert (r1.to, r1.protocol, r1.metric, r1.kind) == ("10.5.0.0/24", "bird", 50, "unicast")
    assert r1.hops == (NextHop("eth1", "10.1.0.2", "r2"), NextHop("eth2", "10.2.0.2", "r3"))
    assert [route.to for route in found["bob"]] == ["10.5.0.0/24", "0.0.0.0/0"]
    parts = lab.routes(to="10.0.0.0/13")["r4"]
    assert [route.to for route in parts] == [f"10.{n}.0.0/24" for n in (0, 1, 2, 3, 4, 5)]
