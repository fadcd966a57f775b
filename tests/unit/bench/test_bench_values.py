"""Generated descriptions and rtnetlink's bytes."""

from __future__ import annotations

import ipaddress
import struct

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bench import generate, rtnl

pytestmark = pytest.mark.unit


@given(st.integers(1, 60), st.integers(1, 20))
def test_a_description_holds_what_is_expected_of_it(nodes: int, segments: int) -> None:
    text = generate.description("x", nodes, segments, job="sleep infinity")
    document = yaml.load(text, Loader=yaml.CSafeLoader)
    expected = generate.expected(nodes, segments)
    assert len(document["nodes"]) == len({node.address for node in expected}) == nodes
    for node in expected:
        interface = document["nodes"][node.name]["interfaces"]["eth0"]
        assert interface["segment"] == node.segment
        address = ipaddress.ip_interface(interface["addresses"][0])
        assert str(address.ip) == node.address
        assert [str(address.network)] == document["segments"][node.segment]["subnets"]


@given(st.integers(0, 255), st.binary(max_size=40))
def test_an_attribute_is_padded_but_tells_its_own_length(kind: int, value: bytes) -> None:
    packed = rtnl.attribute(kind, value)
    length, found = struct.unpack_from("=HH", packed)
    assert (length, found, len(packed) % 4) == (4 + len(value), kind, 0)
    assert packed[4:length] == value


@given(st.binary(max_size=200))
def test_whatever_the_kernel_says_ends(datagram: bytes) -> None:
    assert len(rtnl.messages(datagram)) <= len(datagram) // 16


def test_every_message_of_a_datagram_is_seen() -> None:
    one = struct.pack("=IHHII", 20, rtnl.RTM_DELLINK, 0, 0, 0) + b"\x07\0\0\0"
    assert rtnl.messages(one + one) == [(rtnl.RTM_DELLINK, 7)] * 2
