"""What rtnetlink tells, decoded; damaged messages are errors of their own, and nothing else."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.errors import DecodeError
from hostlab.linux import rtmonitor, rtnetlink
from hostlab.linux.inotify import Event, events
from hostlab.linux.netlink import attribute

pytestmark = pytest.mark.unit

KINDS = (16, 17, 20, 21, 24, 25, 28, 29, 80)


@given(st.sampled_from(KINDS), st.integers(0, 0xFFFF), st.binary(max_size=80))
def test_damaged_messages(kind: int, flags: int, body: bytes) -> None:
    with contextlib.suppress(DecodeError):
        rtmonitor.decode(kind, flags, body)


@given(st.data())
def test_damaged_routes(data: st.DataObject) -> None:
    """Near to what is right: a route with several next hops, some bytes of which are others."""
    hops = b"".join(
        struct.pack("=HBBi", 16, 0, 0, number) + attribute(5, bytes([10, 0, 0, number]))
        for number in (1, 2)
    )
    body = bytearray(
        struct.pack("=BBBBBBBBI", 2, 24, 0, 0, 254, 4, 0, 1, 0)
        + attribute(1, bytes([10, 1, 0, 0])) + attribute(9, hops)
    )  # fmt: skip
    for _ in range(data.draw(st.integers(0, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        told = rtmonitor.decode(24, 0, bytes(body))
    except DecodeError:
        return
    assert told is None or isinstance(told, rtmonitor.RouteTold)


def test_a_route_with_several_hops() -> None:
    hops = struct.pack("=HBBi", 16, 0, 0, 3) + attribute(5, bytes([10, 0, 0, 9]))
    hops += struct.pack("=HBBi", 8, 0, 0, 4)
    body = struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 12, 0, 1, 0) + attribute(9, hops)
    told = rtmonitor.decode(rtnetlink.RTM_NEWROUTE, 0x100, body)
    assert isinstance(told, rtmonitor.RouteTold)
    assert (told.to, told.hops, told.protocol, told.replaces) == (
        "default", (("10.0.0.9", 3), ("", 4)), 12, True,
    )  # fmt: skip


def test_multicast_that_is_routed_on_a_link() -> None:
    body = bytes([2, 0, 0, 0]) + attribute(1, struct.pack("=i", 7))
    body += attribute(4, struct.pack("=i", 1))
    told = rtmonitor.decode(rtmonitor.RTM_NEWNETCONF, 0, body)
    assert told == rtmonitor.ForwardingTold(7, True)
    assert rtmonitor.decode(rtmonitor.RTM_NEWNETCONF, 0, bytes([10]) + body[1:]) is None


@given(st.binary(max_size=100))
def test_damaged_events_of_inotify(data: bytes) -> None:
    assert len(list(events(data))) <= len(data) // 16


def test_events_of_inotify() -> None:
    data = struct.pack("=iIII", 1, 0x100, 0, 16) + b"a name".ljust(16, b"\0")
    data += struct.pack("=iIII", -1, 0x4000, 0, 0)
    assert list(events(data)) == [Event(1, 0x100, "a name"), Event(-1, 0x4000, "")]
