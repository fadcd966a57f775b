"""inet_diag_msg, decoded; and which address a socket takes."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.errors import DecodeError
from hostlab.linux.netlink import attribute
from hostlab.linux.sockdiag import INET_DIAG_SKV6ONLY, Listener, decode_listener

pytestmark = pytest.mark.unit


def message(address: str, port: int, *, v6only: bool | None = None) -> bytes:
    packed = ip_address(address).packed
    family = socket.AF_INET6 if len(packed) == 16 else socket.AF_INET
    head = struct.pack("=BBBB", family, 10, 0, 0) + struct.pack("!HH", port, 0)
    rest = packed.ljust(16, b"\0") + bytes(16) + struct.pack("=I", 7) + bytes(8 + 20)
    tail = b"" if v6only is None else attribute(INET_DIAG_SKV6ONLY, bytes([v6only]))
    return head + rest + tail


def test_members() -> None:
    found = decode_listener("tcp", message("fd00::1", 443, v6only=True))
    want = Listener(protocol="tcp", address="fd00::1", port=443, v6only=True, interface=7)
    assert found == want
    assert str(found) == "[fd00::1]:443"
    assert decode_listener("udp", message("10.0.0.1", 53)).address == "10.0.0.1"


@pytest.mark.parametrize(
    ("bound", "v6only", "takes", "not_takes"),
    [
        ("0.0.0.0", False, ["10.0.0.1", "0.0.0.0"], ["::1", "::"]),
        ("10.0.0.1", False, ["10.0.0.1"], ["10.0.0.2", "::1"]),
        ("::", False, ["10.0.0.1", "::1", "::", "0.0.0.0"], []),
        ("::", True, ["::1"], ["10.0.0.1"]),
        ("::ffff:10.0.0.1", False, ["10.0.0.1"], ["10.0.0.2", "::1"]),
        ("fd00::1", False, ["fd00::1"], ["fd00::2", "10.0.0.1"]),
    ],
)
def test_what_a_socket_takes(
    bound: str, v6only: bool, takes: list[str], not_takes: list[str]
) -> None:
    listener = Listener(protocol="tcp", address=bound, port=1, v6only=v6only)
    assert [a for a in takes if not listener.takes(ip_address(a))] == []
    assert [a for a in not_takes if listener.takes(ip_address(a))] == []


@given(st.binary(max_size=120))
def test_any_bytes_decode_or_are_a_decode_error(data: bytes) -> None:
    with suppress(DecodeError):
        decode_listener("tcp", data)
