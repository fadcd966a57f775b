"""The control protocol's framing."""

from __future__ import annotations

import contextlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.errors import DecodeError
from hostlab.init import protocol
from hostlab.init.protocol import Receiver, decode, encode

pytestmark = pytest.mark.unit

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
MESSAGES = st.lists(st.dictionaries(st.text(), VALUES), max_size=5)


@given(MESSAGES, st.lists(st.integers(1, 40), max_size=30))
def test_any_split_of_the_bytes_gives_the_same_messages(
    messages: list[dict[str, object]], sizes: list[int]
) -> None:
    stream = b"".join(map(encode, messages))
    receiver, found = Receiver(), []
    for size in (*sizes, len(stream)):
        found += receiver.feed(stream[:size])
        stream = stream[size:]
    assert found == messages


@given(st.binary())
def test_anything_else_is_a_decode_error(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        assert isinstance(decode(data), dict)


@pytest.mark.parametrize("line", [b"", b"[]", b"[" * 200_000, b'{"a":' * 100_000, b"\xff", b"{"])
def test_garbage_is_a_decode_error(line: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(line)


def test_a_line_without_end_and_descriptors_without_a_message_are_bounded() -> None:
    receiver = Receiver(max_line_bytes=100)
    receiver.feed(bytes(100))
    with pytest.raises(DecodeError):
        receiver.feed(b"x")
    receiver = Receiver()
    fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(protocol.MAX_UNTAKEN + 1)]
    with pytest.raises(DecodeError):
        receiver.feed(b"x", fds)
    receiver.close()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fds[0])


def test_descriptors_are_taken_in_order() -> None:
    receiver = Receiver()
    receiver.feed(b"", [101, 102, 103])
    assert receiver.take(2) == [101, 102]
    with pytest.raises(DecodeError):
        receiver.take(2)
    assert receiver.take(1) == [103]
