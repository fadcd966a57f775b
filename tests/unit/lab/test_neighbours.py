"""Who knows whom from the start: everyone on a small segment, both ways on a large one."""

from __future__ import annotations

import pytest

from hostlab.lab import wiring
from hostlab.lab.wiring import ALL_PAIRS, FIRST, NEAR, Directory
from hostlab.linux import rtnetlink
from hostlab.linux.netlink import messages, pack
from hostlab.spec.model import Interface, Lab, Node, Segment

pytestmark = pytest.mark.unit


def lab_of(count: int, prefix: int = 16) -> Lab:
    """Nodes on one segment, each with an address of either family."""
    nodes = tuple(
        Node(
            name=f"n{number}",
            hostname=f"n{number}",
            interfaces=(
                Interface(
                    name="eth0",
                    segment="lan",
                    addresses=(
                        f"10.0.{number // 250}.{number % 250 + 1}/{prefix}",
                        f"fd00::{number + 1:x}/64",
                    ),
                    mac=f"02:00:00:00:{number // 256:02x}:{number % 256:02x}",
                ),
            ),
        )
        for number in range(count)
    )
    return Lab(name="lab", segments=(Segment(name="lan", subnets=()),), nodes=nodes)


def known(lab: Lab) -> dict[str, set[str]]:
    """Node -> the nodes whose MACs it knows."""
    directory = Directory(lab)
    by_mac = {rtnetlink.mac_bytes(node.interfaces[0].mac): node.name for node in lab.nodes}
    return {
        node.name: {by_mac[mac] for mac in directory.neighbours(node).values()}
        for node in lab.nodes
    }


def test_everyone_knows_everyone_else_on_a_small_segment() -> None:
    lab = lab_of(ALL_PAIRS)
    names = {node.name for node in lab.nodes}
    assert all(others == names - {name} for name, others in known(lab).items())


def test_on_a_large_segment_who_is_known_knows_back() -> None:
    lab = lab_of(ALL_PAIRS + 100)
    found = known(lab)
    assert all(name in found[other] for name, others in found.items() for other in others)
    assert len(found["n0"]) == len(lab.nodes) - 1
    middle = ALL_PAIRS // 2 + FIRST
    assert len(found[f"n{middle}"]) == FIRST + 2 * NEAR


def test_an_address_of_another_network_is_no_neighbour() -> None:
    lab = lab_of(300, prefix=24)
    directory = Directory(lab)
    v4 = {address for _, address in directory.neighbours(lab.nodes[0]) if len(address) == 4}
    assert v4 == {bytes((10, 0, 0, host)) for host in range(2, 251)}


def test_packed_requests_say_the_same() -> None:
    lab = lab_of(5)
    directory = Directory(lab)
    node = lab.nodes[2]
    index = wiring.indexes(node.interfaces)
    separately = pack(
        rtnetlink.neighbour_add(index[name], address, mac)
        for (name, address), mac in directory.neighbours(node).items()
    )
    packed = directory.packed(node, index)
    assert packed == separately
    assert len(list(messages(packed))) == 2 * (len(lab.nodes) - 1)
