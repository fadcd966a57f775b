"""Which routes lead to an address or a prefix, and in which order they stand."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.observe.routing import TableRoute, leads_to

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
