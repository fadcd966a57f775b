"""Which routes lead to an address or a prefix, and who has a next hop's address."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.observe.routing import Owners, TableRoute, leads_to
from hostlab.spec import load

pytestmark = pytest.mark.unit

NETWORKS = st.one_of(
    st.builds(lambda n, length: ip_network((n << 24, length), strict=False),
              st.integers(0, 255), st.integers(0, 32)),
    st.builds(lambda n, length: ip_network((n << 120, length), strict=False),
              st.integers(0, 255), st.integers(0, 128)),
)  # fmt: skip


def route(to: str) -> TableRoute:
    return TableRoute("r1", to, (), "static", 0, 254, "unicast")


@given(NETWORKS, NETWORKS)
def test_what_leads_there_is_what_ipaddress_says(to: object, wanted: object) -> None:
    ours, asked = ip_network(str(to)), ip_network(str(wanted))
    is_part = ours.version == asked.version and ours.subnet_of(asked)  # type: ignore[arg-type]  # same version
    assert leads_to(route(str(ours)), str(asked)) == is_part
    address = ip_address(asked.network_address)
    is_in = ours.version == address.version and address in ours
    assert leads_to(route(str(ours)), str(address)) == is_in


def test_segments_that_nodes_bridge_are_one_network() -> None:
    """The bridge of r1 has the address of its tunnel's end, and is on the tunnel's segment."""
    lab = load(
        """
name: l
segments:
  core: 192.168.0.0/24
  blue: {subnets: 10.1.0.0/24, vxlan: {vni: 42}}
  blue1: {extends: blue}
  blue2: {extends: blue}
nodes:
  r1: {interfaces: {eth0: core, blue: blue, eth1: blue1}}
  r2: {interfaces: {eth0: core, blue: {segment: blue, addresses: []}, eth1: blue2}}
  a: {interfaces: {eth0: {segment: blue1, address: 10.1.0.11}}}
  b: {interfaces: {eth0: {segment: blue2, address: 10.1.0.12}}}
""",
        file="l.yaml",
    )
    owners = Owners(lab)
    (of_r1,) = (a for i in lab.node("r1").interfaces for a in i.addresses if a.startswith("10.1."))
    for node, interface in (("a", "eth0"), ("b", "eth0"), ("r1", "br42"), ("r2", "br42")):
        assert owners.at(node, interface, "10.1.0.11") == "a"
        assert owners.at(node, interface, "10.1.0.12") == "b"
        assert owners.at(node, interface, of_r1.partition("/")[0]) == "r1"
    assert owners.at("r1", "eth0", "10.1.0.11") is None
    assert [owners.segment(n, i) for n, i in (("b", "eth0"), ("r1", "br42"))] == ["blue2", "blue"]
