"""Segments over segments: what each end is told, which MTU follows, and what cannot be meant."""

from __future__ import annotations

import pytest

from hostlab.errors import SpecErrors
from hostlab.spec import Lab, load
from hostlab.spec.model import Interface, SegmentKind, Tunnel

pytestmark = pytest.mark.unit

THREE = "roles: {vtep: {interfaces: [core, blue]}}\nnodes: {r: {count: 3, role: vtep}}"


def lab_of(text: str) -> Lab:
    return load(text, file="lab.yaml")


def of(lab: Lab, node: str, name: str) -> Interface:
    return next(i for i in lab.node(node).interfaces if i.name == name)


def tunnel(lab: Lab, node: str, name: str) -> Tunnel:
    found = of(lab, node, name).tunnel
    assert found is not None
    return found


def test_a_group_is_joined_over_the_first_interface_that_is_no_tunnel() -> None:
    segments = (
        "segments: {core: 192.0.2.0/24, blue: {vxlan: {vni: 42, group: 239.0.0.42, ttl: 10}}}"
    )
    lab = lab_of(f"{segments}\nnodes: {{a: [blue, core], b: [core, blue]}}")
    assert tunnel(lab, "a", "eth0") == Tunnel(
        kind=SegmentKind.VXLAN,
        over="eth1",
        number=42,
        local="192.0.2.1",
        group="239.0.0.42",
        ttl=10,
    )
    assert tunnel(lab, "b", "eth1").over == "eth0"
    assert lab.segments[1].kind is SegmentKind.VXLAN
    assert of(lab, "a", "eth0").addresses == ("10.1.0.1/24", "fd00:0:0:1::1/64")


def test_without_a_group_each_end_is_told_of_the_others() -> None:
    lab = lab_of(f"segments: {{core: 192.0.2.0/24, blue: {{vxlan: 42}}}}\n{THREE}")
    assert [tunnel(lab, f"r{n}", "eth1").remotes for n in (1, 2, 3)] == [
        ("192.0.2.2", "192.0.2.3"),
        ("192.0.2.1", "192.0.2.3"),
        ("192.0.2.1", "192.0.2.2"),
    ]


def test_remotes_are_nodes_or_addresses() -> None:
    vxlan = "{vni: 42, remotes: [r1, 198.51.100.7]}"
    lab = lab_of(f"segments: {{core: 192.0.2.0/24, blue: {{vxlan: {vxlan}}}}}\n{THREE}")
    assert tunnel(lab, "r1", "eth1").remotes == ("198.51.100.7",)
    assert tunnel(lab, "r3", "eth1").remotes == ("192.0.2.1", "198.51.100.7")


def test_what_is_not_learned_is_entered_with_the_hosts_behind_bridges() -> None:
    lab = lab_of("""
segments: {core: 192.0.2.0/24, blue: {vxlan: {vni: 42, learning: false}}, far: {extends: blue}}
nodes: {r1: [core, blue], r2: [core, blue, far], host: far}
""")
    places = tunnel(lab, "r1", "eth1").places
    host, bridge = of(lab, "host", "eth0").mac, of(lab, "r2", "eth1").mac
    assert places == ((bridge, "192.0.2.2"), (host, "192.0.2.2"))
    assert not tunnel(lab, "r1", "eth1").learning
    assert tunnel(lab, "r2", "eth1").places == ((of(lab, "r1", "eth1").mac, "192.0.2.1"),)


def test_an_extension_shares_addresses_and_is_bridged_where_a_node_is_on_both() -> None:
    lab = lab_of("""
segments: {core: 192.0.2.0/24, blue: {subnets: 10.9.0.0/24, vxlan: 42}, far: {extends: blue}}
nodes:
  r1: [core, blue]
  r2: [core, blue, far]
  host: {interfaces: far, gateway: r2, routes: [10.8.0.0/16 via r1]}
""")
    assert of(lab, "r2", "eth1").bridge == of(lab, "r2", "eth2").bridge == "br42"
    assert of(lab, "r2", "eth1").holder == "br42"
    assert of(lab, "r2", "eth2").holder == "eth2"
    assert of(lab, "r1", "eth1").holder == "eth1"
    assert of(lab, "r2", "eth1").addresses == ("10.9.0.2/24",)
    assert of(lab, "r2", "eth2").addresses == ()
    assert of(lab, "host", "eth0").addresses == ("10.9.0.3/24",)
    assert [route.via for route in lab.node("host").routes] == ["10.9.0.2", "10.9.0.1"]
    assert lab.segments[2].subnets == ("10.9.0.0/24",)


def test_a_route_of_a_bridge_leaves_by_the_bridge() -> None:
    lab = lab_of("""
segments: {core: 192.0.2.0/24, blue: {subnets: 10.9.0.0/24, vxlan: 42}, far: {extends: blue}}
nodes:
  r1: {interfaces: [core, blue, far], gateway: host}
  r2: {interfaces: [core, blue, far], routes: [{to: 10.8.0.0/16, via: 10.9.0.3, interface: eth1}]}
  host: far
""")
    assert [lab.node(name).routes[0].interface for name in ("r1", "r2")] == ["br42", "br42"]


@pytest.mark.parametrize(
    ("core", "blue", "mtu"),
    [
        ("192.0.2.0/24", "vxlan: 42", 1450),
        ("'fd09::/64'", "vxlan: 42", 1430),
        ("[192.0.2.0/24, 'fd09::/64']", "vxlan: {vni: 42, group: 'ff05::42'}", 1430),
        ("{mtu: 9000}", "vxlan: 42", 8950),
        ("{mtu: 9000}", "mtu: 1500, vxlan: 42", 1500),
        ("192.0.2.0/24", "gre: true", 1462),
        ("192.0.2.0/24", "gre: {key: 7}", 1458),
        ("192.0.2.0/24", "ipip: true", 1480),
        ("192.0.2.0/24", "vlan: 10", 1500),
    ],
)
def test_the_mtu_follows(core: str, blue: str, mtu: int) -> None:
    segments = f"segments: {{core: {core}, blue: {{{blue}}}, far: }}"
    lab = lab_of(f"{segments}\nnodes: {{a: [core, blue], b: [core, blue], c: far}}")
    assert [of(lab, node, "eth1").mtu for node in ("a", "b")] == [mtu, mtu]
    assert lab.segments[1].mtu == mtu
    assert of(lab, "c", "eth0").mtu == 1500


def test_the_mtu_follows_the_least_of_the_carriers_and_is_passed_on() -> None:
    lab = lab_of("""
segments: {core: 192.0.2.0/24, blue: {vxlan: 42}, far: {extends: blue}}
nodes:
  a: [core, blue]
  b: {interfaces: {eth0: {segment: core, mtu: 1400}, eth1: blue, eth2: far}}
  c: far
""")
    assert [of(lab, *which).mtu for which in (("a", "eth1"), ("b", "eth2"), ("c", "eth0"))] == [
        1350, 1350, 1350]  # fmt: skip


def test_tunnels_of_two_nodes() -> None:
    lab = lab_of("""
segments: {core: 192.0.2.0/24, gre: {gre: {key: 7}}, ip: {ipip: true}, tag: {vlan: 10}}
nodes: {a: [core, gre, ip, tag], b: [core, gre, ip, tag]}
""")
    assert tunnel(lab, "a", "eth1") == Tunnel(
        kind=SegmentKind.GRE, over="eth0", number=7, local="192.0.2.1", remotes=("192.0.2.2",)
    )
    assert tunnel(lab, "b", "eth2").remotes == ("192.0.2.1",)
    assert tunnel(lab, "a", "eth3") == Tunnel(kind=SegmentKind.VLAN, over="eth0", number=10)


def test_a_device_of_the_machine() -> None:
    lab = lab_of("segments: {out: {macvlan: eno2, subnets: 192.0.2.0/24}}\nnodes: [a]")
    assert of(lab, "a", "eth0").device == "eno2"
    assert of(lab, "a", "eth0").mode == "bridge"
    assert not lab.segments[0].is_switched


CORE = "core: 192.0.2.0/24"


@pytest.mark.parametrize(
    ("segments", "nodes", "code", "message"),
    [
        ("blue: {vxlan: 0}", "a: blue", "value", "0"),
        ("blue: {vxlan: 16777216}", "a: blue", "value", "16777216"),
        ("blue: {vxlan: {vni: 1, group: 10.0.0.1}}", "a: [core, blue]", "value",
         "no multicast address"),
        ("blue: {vxlan: {vni: 1, group: 239.0.0.1, remotes: [a]}}", "a: [core, blue]", "clash",
         "only one of `group`, `remotes`"),
        ("blue: {vxlan: 1, gre: true}", "a: [core, blue]", "clash", "only one of"),
        ("blue: {vxlan: 1}", "a: blue", "missing", "`a` has no interface to carry `blue`"),
        ("blue: {vxlan: 1}", "a: {interfaces: {x: core, y: {segment: blue, over: z}}}",
         "unknown-name", "no interface `z`"),
        ("blue: {vxlan: 1}, red: {vxlan: 1}", "a: [core, blue, red]", "clash",
         "`blue` has VNI 1 in `a` already"),
        ("blue: {vxlan: {vni: 1, group: 239.0.0.1}}, red: {vxlan: {vni: 1, group: 239.0.0.1}}",
         "{a: [core, blue], b: [core, red]}", "clash", "VNI 1 in the group 239.0.0.1 already"),
        ("blue: {vxlan: {vni: 1, remotes: [zz]}}", "a: [core, blue]", "unknown-name",
         "`zz` is no node here"),
        ("blue: {vxlan: {vni: 1, remotes: [b]}}", "{a: [core, blue], b: core}", "unknown-name",
         "`b` is not on `blue`"),
        ("blue: {vxlan: {vni: 1, remotes: ['fd00::1']}}", "a: [core, blue]", "value", "not IPv4"),
        ("blue: {vxlan: {vni: 1, group: 'ff05::1'}}", "a: [core, blue]", "missing",
         "a's eth0 has no IPv6 address to carry `blue`"),
        ("blue: {mtu: 1500, vxlan: 1}", "a: [core, blue]", "value",
         "1500 is too much for `blue`: of the 1500 of a's eth0, vxlan leaves 1450"),
        ("blue: {vxlan: 1}", "a: {interfaces: {x: core, y: {segment: blue, mtu: 1451}}}", "value",
         "1451 is too much"),
        ("blue: {vxlan: 1, machine: 10.0.0.9/24}", "a: [core, blue]", "clash", "is vxlan"),
        ("far: {extends: blue}", "a: [core, far]", "unknown-name", "no VXLAN `blue`"),
        ("far: {extends: core}", "a: [core, far]", "unknown-name", "no VXLAN `core`"),
        ("blue: {vxlan: 1}, far: {extends: blue, subnets: 10.0.0.0/24}", "a: [core, far]", "clash",
         "has the subnets of `blue`"),
        ("blue: {vxlan: 1}, far: {extends: blue}",
         "a: {interfaces: {x: core, y: blue, z: {segment: far, address: 10.1.0.9}}}", "clash",
         "a port of a bridge"),
        ("blue: {vxlan: 1}, far: {extends: blue}",
         "a: {interfaces: {br1: core, y: blue, z: far}}", "clash", "`br1` is the bridge"),
        ("blue: {gre: true}", "{a: [core, blue], b: [core, blue], c: [core, blue]}", "value",
         "between two nodes; `blue` has 3"),
        ("two: 198.51.100.0/24, blue: {vlan: 7}", "{a: [core, blue], b: [two, blue]}", "clash",
         "a VLAN is on one segment"),
        ("two: 192.0.2.128/25", "a: [core, two]", "clash", "which overlap"),
        ("blue: {vxlan: 1, subnets: 192.0.2.0/28}", "{a: core, b: [core, blue]}", "clash",
         "which overlap"),
        ("out: {macvlan: {device: eno2, mode: loud}}", "a: out", "value", "`loud`"),
        ("out: {macvlan: {mode: vepa}}", "a: out", "missing", "`device`"),
        ("x: {lab: nowhere}", "a: x", "value", "LAB/SEGMENT"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant(segments: str, nodes: str, code: str, message: str) -> None:
    inside = nodes if nodes.startswith("{") else f"{{{nodes}}}"
    with pytest.raises(SpecErrors) as caught:
        lab_of(f"segments: {{{CORE}, {segments}}}\nnodes: {inside}")
    (error,) = caught.value.errors
    assert (error.code, message in error.message) == (code, True), error.message


def test_networks_that_never_meet_may_have_the_same_addresses() -> None:
    lab_of("segments: {a: 10.0.0.0/24, b: 10.0.0.0/24}\nnodes: {x: a, y: b}")


LOOPED = """
segments: {a: , b: {mtu: 1400}, blue: {vxlan: {vni: 42, ttl: 10}}}
nodes:
  r1: {loopback: true, interfaces: {eth0: a, eth1: b, blue: {segment: blue, over: lo}}}
  r2: {loopback: true, interfaces: {eth0: a, blue: {segment: blue, over: lo}}}
"""


def test_a_loopback_carries_a_vxlan_with_what_every_interface_has_room_for() -> None:
    lab = lab_of(LOOPED)
    assert tunnel(lab, "r1", "blue") == Tunnel(
        kind=SegmentKind.VXLAN, over="lo", number=42, local="10.255.0.1",
        remotes=("10.255.0.2",), ttl=10,
    )  # fmt: skip
    assert tunnel(lab, "r2", "blue").local == "10.255.0.2"
    assert {of(lab, node, "blue").mtu for node in ("r1", "r2")} == {1350}


@pytest.mark.parametrize(
    ("loopbacks", "locals_", "mtu"),
    [
        ("2001:db8::1 2001:db8::2", "2001:db8::1 2001:db8::2", 1330),
        ("192.0.2.1 [192.0.2.2,'2001:db8::2']", "192.0.2.1 192.0.2.2", 1350),
        ("['2001:db8::1'] true", "2001:db8::1 fd00:0:0:ffff::1", 1330),
    ],
)
def test_a_loopback_carries_by_the_family_that_all_have(
    loopbacks: str, locals_: str, mtu: int
) -> None:
    text = LOOPED
    for node, said in zip(("r1", "r2"), loopbacks.split(), strict=True):
        text = text.replace(f"{node}: {{loopback: true", f"{node}: {{loopback: {said}")
    lab = lab_of(text)
    ends = [tunnel(lab, node, "blue").local for node in ("r1", "r2")]
    assert (ends, of(lab, "r2", "blue").mtu) == (locals_.split(), mtu)


def test_the_mtu_follows_though_the_ends_are_named_alike() -> None:
    lab = lab_of("""
        segments: {a: {mtu: 1400}, b: , blue: {vxlan: 42}}
        nodes:
          r1: {interfaces: {eth0: a, blue: blue}}
          r2: {interfaces: {eth0: b, blue: blue}}
    """)
    assert {of(lab, node, "blue").mtu for node in ("r1", "r2")} == {1350}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{vni: 42, ttl: 10}", "{vni: 42, group: 239.0.0.42}", "a group is joined on an interface"),
        ("vxlan: {vni: 42, ttl: 10}", "gre: true", "a loopback carries VXLANs only"),
        ("r2: {loopback: true,", "r2: {", "`r2` has no loopback address to carry `blue`"),
        ("interfaces: {eth0: a, blue", "interfaces: {blue", "`r2` has no interface by which"),
        ("ttl: 10}", "ttl: 10, evpn: true}", "`r1` has no BGP to be told of `blue` by"),
    ],
)
def test_a_loopback_that_cannot_carry(old: str, new: str, message: str) -> None:
    with pytest.raises(SpecErrors) as caught:
        lab_of(LOOPED.replace(old, new))
    assert message in str(caught.value)


def test_by_evpn_nothing_is_told_or_learned_and_each_end_has_a_bridge() -> None:
    bgp = "routing: {engine: frr, bgp: {as: 65001, evpn: true, peers: [vtep]}}"
    lab = lab_of(
        "segments: {core: , blue: {vxlan: {vni: 42, evpn: true}}}\n"
        f"roles: {{vtep: {{interfaces: [core, blue], {bgp}}}}}\n"
        "nodes: {r: {count: 2, role: vtep}}"
    )
    for node in ("r1", "r2"):
        end = tunnel(lab, node, "eth1")
        assert (end.learning, end.remotes, end.places) == (False, (), ())
        assert of(lab, node, "eth1").bridge == "br42"
