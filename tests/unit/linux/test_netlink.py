"""Netlink's bytes: what is built can be read, what is cut short is a DecodeError."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.errors import DecodeError
from hostlab.linux import rtnetlink
from hostlab.linux.netlink import attribute, attributes, messages

pytestmark = pytest.mark.unit

PAIRS = st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=50)), max_size=6)


@given(PAIRS)
def test_attributes_round_trip(pairs: list[tuple[int, bytes]]) -> None:
    assert list(attributes(b"".join(attribute(*pair) for pair in pairs))) == pairs


@given(PAIRS)
def test_messages_round_trip(pairs: list[tuple[int, bytes]]) -> None:
    data = b""
    for number, (kind, body) in enumerate(pairs):
        length = 16 + len(body)
        data += struct.pack("=IHHII", length, kind, 5, number, 0) + body + bytes(-length & 3)
    told = [(kind, sequence, body) for kind, flags, sequence, body in messages(data) if flags == 5]
    assert told == [(kind, number, body) for number, (kind, body) in enumerate(pairs)]


@given(st.binary(max_size=200))
def test_no_bytes_make_a_traceback(data: bytes) -> None:
    for read in (attributes, messages):
        with contextlib.suppress(DecodeError):
            list(read(data))


KINDS = st.sampled_from([1, 2, 3, 4, 5, 8, 10, 18, 52])


@given(st.lists(st.tuples(KINDS, st.binary(max_size=17))), st.integers(0, 16))
def test_what_the_kernel_would_never_send_is_a_decode_error(
    pairs: list[tuple[int, bytes]], header: int
) -> None:
    body = bytes(header) + b"".join(attribute(*pair) for pair in pairs)
    for read in (rtnetlink.decode_link, rtnetlink._address_of):
        with contextlib.suppress(DecodeError):
            read(body)


@given(PAIRS.filter(bool), st.data())
def test_a_cut_attribute_is_an_error_or_missing(
    pairs: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    whole = b"".join(attribute(*pair) for pair in pairs)
    cut = data.draw(st.integers(0, len(whole) - 1))
    try:
        found = list(attributes(whole[:cut]))
    except DecodeError:
        return
    assert found == pairs[: len(found)]


def test_a_link_local_address_is_made_of_the_mac() -> None:
    assert rtnetlink.link_local("02:c9:cc:a9:9c:14") == "fe80::c9:ccff:fea9:9c14"
    assert rtnetlink.link_local("52:54:00:12:34:56") == "fe80::5054:ff:fe12:3456"
