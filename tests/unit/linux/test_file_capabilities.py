"""A file's capabilities: setcap's text and the attribute's bytes."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.errors import DecodeError, UsageError
from hostlab.linux.capabilities import mask_of
from hostlab.linux.file_capabilities import decode_file_capabilities, encode_file_capabilities

pytestmark = pytest.mark.unit

NET_RAW_EP = bytes.fromhex("0100000200200000000000000000000000000000")
"""What `setcap cap_net_raw+ep` of libcap 2.66 writes."""


@pytest.mark.parametrize(
    "text", ["cap_net_raw+ep", "cap_net_raw=ep", "CAP_NET_RAW=p cap_net_raw+e", "13=pe"]
)
def test_setcaps_bytes(text: str) -> None:
    assert encode_file_capabilities(text) == NET_RAW_EP


def test_revision_3_carries_the_user() -> None:
    value = encode_file_capabilities("cap_net_raw=ep", rootid=100_000)
    assert value == b"\x01\0\0\x03" + NET_RAW_EP[4:] + (100_000).to_bytes(4, "little")
    assert str(decode_file_capabilities(value)) == "cap_net_raw=ep [rootid=100000]"
    assert encode_file_capabilities("cap_net_raw=ep [rootid=100000]") == value


def test_clauses_change_what_came_before() -> None:
    read = decode_file_capabilities(encode_file_capabilities("all=p cap_chown,cap_kill-p"))
    assert read.permitted == mask_of(()) | (1 << 41) - 1 & ~mask_of(("CHOWN", "KILL"))
    assert not read.effective


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cap_net_raw",
        "cap_net_rav+ep",
        "cap_net_raw+x",
        "+ep",
        "cap_net_raw=ep cap_chown=p",
        "cap_net_raw=e",
        "[rootid=3]",
        "cap_chown=p [rootid=4294967296]",
    ],
)
def test_a_text_that_means_nothing(text: str) -> None:
    with pytest.raises(UsageError):
        encode_file_capabilities(text)


@given(
    permitted=st.integers(0, 2**64 - 1),
    inheritable=st.integers(0, 2**64 - 1),
    effective=st.booleans(),
    rootid=st.none() | st.integers(0, 2**32 - 1),
)
def test_text_and_bytes_round_trip(
    permitted: int, inheritable: int, effective: bool, rootid: int | None
) -> None:
    names = []
    for bit in range(64):
        flags = "p" * (permitted >> bit & 1) + "i" * (inheritable >> bit & 1)
        if flags:
            names.append(f"{bit}={flags}{'e' if effective else ''}")
    value = encode_file_capabilities(" ".join(names) or "=", rootid=rootid)
    read = decode_file_capabilities(value)
    assert (read.permitted, read.inheritable, read.rootid) == (permitted, inheritable, rootid)
    assert encode_file_capabilities(str(read)) == value


@given(st.binary(max_size=30))
def test_foreign_bytes_are_a_decode_error_or_read(value: bytes) -> None:
    with contextlib.suppress(DecodeError):
        str(decode_file_capabilities(value))
