"""The plan of addresses as a zone of the DNS, read by dnspython."""

from __future__ import annotations

import dns.rdatatype
import dns.zone
import pytest

from hostlab.errors import UsageError
from hostlab.spec import Lab, load
from hostlab.topologies.addresses import domain_of, rows, zone

pytestmark = pytest.mark.unit

LAB = """
name: net
segments: [lan, far]
nodes:
  alice: {interfaces: [lan]}
  r1: {interfaces: {in_0: lan, eth1: far}}
  NS: {interfaces: []}
"""


def lab(text: str = LAB) -> Lab:
    return load(text.encode(), file="lab.yaml", directory="/srv")


def answers(text: str, name: str) -> dict[str, set[str]]:
    """What the zone says of a name, by type of record."""
    node = dns.zone.from_text(text, origin="lab.example.").find_node(name)
    return {
        dns.rdatatype.to_text(each.rdtype): {record.to_text() for record in each} for each in node
    }


def test_the_plan_is_in_the_order_of_the_description() -> None:
    found = [(row.node, row.interface, row.segment, row.addresses) for row in rows(lab())]
    assert found == [
        ("alice", "eth0", "lan", ("10.0.0.1/24", "fd00::1/64")),
        ("r1", "in_0", "lan", ("10.0.0.2/24", "fd00::2/64")),
        ("r1", "eth1", "far", ("10.1.0.1/24", "fd00:0:0:1::1/64")),
    ]


def test_a_zone_has_nodes_and_interfaces() -> None:
    text = zone(lab(), domain_of("Lab.Example."))
    assert answers(text, "r1") == {
        "A": {"10.0.0.2", "10.1.0.1"}, "AAAA": {"fd00::2", "fd00:0:0:1::1"}
    }  # fmt: skip
    assert answers(text, "eth1.r1") == {"A": {"10.1.0.1"}, "AAAA": {"fd00:0:0:1::1"}}
    assert answers(text, "ns") == {"A": {"127.0.0.1"}, "AAAA": {"::1"}}
    with pytest.raises(KeyError):
        answers(text, "in_0.r1")


def test_a_node_called_ns_is_the_name_server() -> None:
    text = zone(lab("name: n\nsegments: [lan]\nnodes: [Ns, b]\n"), "lab.example")
    assert answers(text, "ns") == {"A": {"10.0.0.1"}, "AAAA": {"fd00::1"}}


@pytest.mark.parametrize("text", ["", ".", "a..b", "lab_1.example", "x" * 64, "a." * 127 + "b"])
def test_what_is_no_domain_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        domain_of(text)
