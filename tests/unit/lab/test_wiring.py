"""Who knows whom from the start, and by which name."""

from __future__ import annotations

import pytest

from hostlab.lab import hosts, wiring
from hostlab.linux.rtnetlink import mac_bytes
from hostlab.spec.model import Interface, Lab, Link, Node, Segment

pytestmark = pytest.mark.unit


def lab_of(count: int) -> Lab:
    nodes = tuple(
        Node(
            name=f"n{i}",
            hostname=f"n{i}",
            interfaces=(
                Interface(
                    name="eth0",
                    segment="lan",
                    addresses=(f"10.0.{i >> 8}.{i & 255}/16", f"fd00::{i:x}/64"),
                    mac=f"02:00:00:00:{i >> 8:02x}:{i & 255:02x}",
                ),
            ),
        )
        for i in range(1, count + 1)
    )
    return Lab(name="l", segments=(Segment(name="lan", subnets=("10.0.0.0/16",)),), nodes=nodes)


def test_on_a_small_segment_everybody_knows_everybody_else() -> None:
    lab = lab_of(5)
    directory = wiring.Directory(lab)
    for node in lab.nodes:
        known = directory.neighbours(node)
        assert len(known) == 2 * 4
        own = mac_bytes(node.interfaces[0].mac)
        assert own not in known.values()


def test_on_a_large_segment_who_is_known_knows_back() -> None:
    lab = lab_of(wiring.ALL_PAIRS + 40)
    directory = wiring.Directory(lab)
    macs = {mac_bytes(n.interfaces[0].mac): n.name for n in lab.nodes}
    knows = {n.name: {macs[mac] for mac in directory.neighbours(n).values()} for n in lab.nodes}
    assert all(name in knows[other] for name, others in knows.items() for other in others)
    assert len(knows["n1"]) == len(lab.nodes) - 1
    middle = wiring.ALL_PAIRS
    assert len(knows[f"n{middle}"]) == wiring.FIRST + 2 * wiring.NEAR
    assert {f"n{middle - 1}", f"n{middle + 1}"} < knows[f"n{middle}"]


def test_an_address_of_another_subnet_is_no_neighbour() -> None:
    first, second = lab_of(2).nodes
    moved = Interface(
        name="eth0", segment="lan", addresses=("192.168.0.1/24",), mac="02:" * 5 + "09"
    )
    other = Node(name=second.name, hostname="x", interfaces=(moved,))
    lab = Lab(name="l", segments=lab_of(0).segments, nodes=(first, other))
    assert wiring.Directory(lab).neighbours(first) == {}


@pytest.mark.parametrize(
    ("key", "any_interface"),
    [
        ("net.ipv4.conf.eth0.rp_filter", "net.ipv4.conf.default.rp_filter"),
        ("net.ipv6.neigh.eth0/5.gc_stale_time", "net.ipv6.neigh.default.gc_stale_time"),
        ("net.ipv6.conf.all.forwarding", "net.ipv6.conf.all.forwarding"),
        ("net.ipv4.ip_forward", "net.ipv4.ip_forward"),
    ],
)
def test_an_interface_s_setting_is_that_of_any_new_one(key: str, any_interface: str) -> None:
    assert wiring.of_any_interface(key) == any_interface


def test_the_table_has_every_address_by_name_and_aliases_first() -> None:
    lab = lab_of(2)
    table = hosts.table(lab)
    assert "10.0.0.1\tn1\n" in table
    assert "fd00::2\tn2\n" in table
    node = Node(name="n9", hostname="n9", links=(Link(node="n1", alias="db"),))
    assert hosts.with_links(lab, node, table).startswith("10.0.0.1\tdb\nfd00::1\tdb\n")
