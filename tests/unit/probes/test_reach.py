"""What probes send and take for an answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.probes.reach import DATAGRAMS, echo_request, internet_checksum, is_reply

pytestmark = pytest.mark.unit


def test_the_checksum_of_rfc_1071() -> None:
    """Its own example, section 3."""
    assert internet_checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF - 0xDDF2


@given(st.binary(max_size=200).filter(lambda data: len(data) % 2 == 0))
def test_data_with_its_checksum_sums_to_nothing(data: bytes) -> None:
    assert internet_checksum(data + internet_checksum(data).to_bytes(2, "big")) == 0


@pytest.mark.parametrize("address", ["10.0.0.1", "fd00::1"])
def test_only_the_reply_to_this_request_answers_it(address: str) -> None:
    v6 = ":" in address
    request, other = echo_request(address), echo_request(address)
    header = b"" if v6 else bytes([0x45]) + bytes(19)
    reply = header + bytes([129 if v6 else 0]) + request[1:]
    assert is_reply(reply, request, v6=v6)
    assert not is_reply(reply, other, v6=v6)
    assert not is_reply(header + request, request, v6=v6)


@given(st.binary(max_size=80), st.booleans())
def test_no_packet_confuses_it(packet: bytes, v6: bool) -> None:
    assert not is_reply(packet, echo_request("::1" if v6 else "127.0.0.1"), v6=v6)


def test_questions_have_the_length_of_their_protocols() -> None:
    assert len(DATAGRAMS[53]) == 12 + 5
    assert len(DATAGRAMS[123]) == 48
