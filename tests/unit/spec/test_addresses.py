"""Addresses that are left out: the same every time, and never moved by what comes after."""

from __future__ import annotations

import ipaddress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.spec import Lab, load

pytestmark = pytest.mark.unit


def lab_of(text: str) -> Lab:
    return load(text, file="lab.yaml")


def addresses(lab: Lab) -> dict[str, tuple[str, ...]]:
    return {f"{n.name} {i.name}": i.addresses for n in lab.nodes for i in n.interfaces}


def macs(lab: Lab) -> list[str]:
    return [i.mac for n in lab.nodes for i in n.interfaces]


def test_the_lowest_addresses_in_the_order_of_the_file() -> None:
    lab = lab_of("segments: [lan, dmz]\nnodes: {b: lan, a: [dmz, lan]}")
    assert addresses(lab) == {
        "b eth0": ("10.0.0.1/24", "fd00::1/64"),
        "a eth0": ("10.1.0.1/24", "fd00:0:0:1::1/64"),
        "a eth1": ("10.0.0.2/24", "fd00::2/64"),
    }


def test_declared_addresses_are_kept_and_walked_round() -> None:
    lab = lab_of("""
segments: {lan: {machine: 10.0.0.1/24}}
nodes:
  a:
  b: {interfaces: {eth0: {segment: lan, address: 10.0.0.2}}}
  c: {interfaces: {eth0: {segment: lan, addresses: ['fd00::1', 192.0.2.1/24]}}}
  d: {interfaces: {eth0: {segment: lan, addresses: []}}}
  e:
""")
    assert addresses(lab) == {
        "a eth0": ("10.0.0.3/24", "fd00::2/64"),
        "b eth0": ("10.0.0.2/24", "fd00::3/64"),
        "c eth0": ("192.0.2.1/24", "fd00::1/64"),
        "d eth0": (),
        "e eth0": ("10.0.0.4/24", "fd00::4/64"),
    }
    assert lab.segments[0].machine == ("10.0.0.1/24",)


def test_a_declared_address_with_its_prefix_is_the_segments_subnet() -> None:
    lab = lab_of("""
segments: [lan]
nodes:
  a:
  b: {interfaces: {eth0: {segment: lan, address: 192.0.2.1/28}}}
""")
    assert lab.segments[0].subnets == ("192.0.2.0/28", "fd00::/64")
    assert addresses(lab)["a eth0"] == ("192.0.2.2/28", "fd00::1/64")


def test_a_subnet_grows_with_its_interfaces_and_stays_where_it_is() -> None:
    lab = lab_of("segments: [lan, dmz]\nnodes: {a: {count: 300, interfaces: lan}, b: dmz}")
    assert lab.segments[0].subnets[0] == "10.0.0.0/23"
    assert lab.segments[1].subnets[0] == "10.1.0.0/24"
    assert lab.node("a300").interfaces[0].addresses[0] == "10.0.1.44/23"


def test_the_most_interfaces_a_segment_can_have() -> None:
    lab = lab_of("segments: [lan]\nnodes: {a: {count: 1023}}")
    assert len({i for n in lab.nodes for i in n.interfaces[0].addresses}) == 2 * 1023
    assert len(set(macs(lab))) == 1023


def test_assigned_subnets_walk_round_declared_ones() -> None:
    lab = lab_of("segments: {a: , b: 10.0.0.0/15, c: 'fd00::/60', d: }")
    assert [s.subnets for s in lab.segments] == [
        ("10.2.0.0/24", "fd00:0:0:10::/64"),
        ("10.0.0.0/15",),
        ("fd00::/60",),
        ("10.3.0.0/24", "fd00:0:0:11::/64"),
    ]


def test_thousands_of_segments_do_not_overlap() -> None:
    lab = lab_of("segments: [" + ", ".join(f"s{n}" for n in range(2000)) + "]")
    for family in (0, 1):
        nets = [ipaddress.ip_network(s.subnets[family]) for s in lab.segments]
        ranges = sorted((int(net[0]), int(net[-1])) for net in nets)
        assert all(a[1] < b[0] for a, b in pairwise(ranges))


def test_macs_are_local_unicast_and_unique() -> None:
    lab = lab_of("segments: [lan]\nnodes: {a: {count: 200, interfaces: [lan, lan]}}")
    found = macs(lab)
    assert len(set(found)) == 400
    assert {mac[:3] for mac in found} == {"02:"}


def test_a_mac_that_is_declared_elsewhere_is_not_assigned() -> None:
    (mac,) = macs(lab_of("segments: [lan]\nnodes: [a]"))
    taken = f"{{interfaces: {{eth0: {{segment: lan, mac: '{mac}'}}}}}}"
    both = macs(lab_of(f"segments: [lan]\nnodes: {{a: , b: {taken}}}"))
    assert both[1] == mac
    assert both[0] not in (mac, "")


def test_a_small_mtu_has_no_ipv6() -> None:
    lab = lab_of("segments: {lan: {mtu: 576}}\nnodes: [a]")
    assert addresses(lab)["a eth0"] == ("10.0.0.1/24",)


_SEGMENTS = st.lists(st.sampled_from(["s1", "s2", "s3"]), max_size=3)


@given(st.lists(_SEGMENTS, min_size=1, max_size=6), _SEGMENTS)
def test_what_is_added_at_the_end_moves_nothing(nodes: list[list[str]], more: list[str]) -> None:
    def text(listed: list[list[str]], segments: str) -> str:
        lines = [f"  n{number}: {said}" for number, said in enumerate(listed)]
        return f"name: x\nsegments: [{segments}]\nnodes:\n" + "\n".join(lines)

    before = lab_of(text(nodes, "s1, s2, s3"))
    after = lab_of(text([*nodes, more], "s1, s2, s3, s4"))
    assert after.nodes[:-1] == before.nodes
    assert after.segments[:-1] == before.segments
