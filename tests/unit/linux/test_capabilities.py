"""Names, bits and texts of capabilities."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.errors import DecodeError, UsageError
from hostlab.linux.capabilities import (
    NAMES,
    CapabilitySets,
    bit_of,
    decode_status,
    exact_sets,
    mask_of,
    name_of,
    names_of,
)

pytestmark = pytest.mark.unit


def test_the_table_is_the_kernels() -> None:
    header_says = {"CHOWN": 0, "NET_ADMIN": 12, "SYS_ADMIN": 21, "SETFCAP": 31, "BPF": 39}
    assert {name: bit_of(name) for name in header_says} == header_says
    assert len(NAMES) == 41
    assert name_of(40) == "CHECKPOINT_RESTORE"


@pytest.mark.parametrize("text", ["NET_RAW", "net_raw", "CAP_NET_RAW", "cap_net_raw", "13"])
def test_a_name_in_any_usual_way(text: str) -> None:
    assert bit_of(text) == 13


def test_a_bit_newer_than_the_table_has_a_name_that_is_read_back() -> None:
    assert name_of(42) == "CAP_42"
    assert bit_of("CAP_42") == 42


@pytest.mark.parametrize("text", ["NET_RAV", "", "CAP_", "64", "-1", "²"])
def test_an_unknown_name_is_the_callers_error(text: str) -> None:
    with pytest.raises(UsageError):
        bit_of(text)


def test_a_near_miss_gets_a_suggestion() -> None:
    with pytest.raises(UsageError) as caught:
        bit_of("NET_RAV")
    assert caught.value.hint == "did you mean NET_RAW?"


@given(st.integers(0, 2**64 - 1))
def test_names_of_a_mask_give_the_mask_back(mask: int) -> None:
    assert mask_of(names_of(mask)) == mask


def test_inheritable_stays_empty_without_ambient() -> None:
    mask = mask_of(("NET_RAW",))
    assert exact_sets(mask) == CapabilitySets(bounding=mask, permitted=mask, effective=mask)
    assert exact_sets(mask, ambient=True).ambient == mask
    assert exact_sets(mask, ambient=True).inheritable == mask


def test_decode_status() -> None:
    text = (
        "Name:\tx\nCapInh:\t0000000000000001\nCapPrm:\t0000000000000002\n"
        "CapEff:\t0000000000000004\nCapBnd:\t000001fffeffffff\nCapAmb:\t0000000000000008\n"
    )
    assert decode_status(text) == CapabilitySets(
        inheritable=1, permitted=2, effective=4, bounding=0x1FFFEFFFFFF, ambient=8
    )


@pytest.mark.parametrize("text", ["", "CapInh:\tzz\n", "CapInh:\t1\nCapPrm:\t1\n"])
def test_decode_status_of_something_else(text: str) -> None:
    with pytest.raises(DecodeError):
        decode_status(text)
