"""Device events as bytes: what is written is read again, and what means nothing is told."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.errors import DecodeError
from hostlab.linux.uevents import (
    KERNEL,
    MAX_BYTES,
    MAX_PROPERTIES,
    UDEV,
    Group,
    Uevent,
    bloom64,
    decode,
    encode_kernel,
    encode_udev,
    hash32,
    of_device,
)

pytestmark = pytest.mark.unit

STICK = (
    b"add@/devices/pci0000:00/usb2/2-3/block/sdb\0ACTION=add\0"
    b"DEVPATH=/devices/pci0000:00/usb2/2-3/block/sdb\0SUBSYSTEM=block\0MAJOR=8\0MINOR=16\0"
    b"DEVNAME=sdb\0DEVTYPE=disk\0SEQNUM=4223\0"
)
KEYS = st.from_regex(r"[A-Z][A-Z_0-9]{0,12}", fullmatch=True)
VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)


def test_the_kernels() -> None:
    event = decode(STICK, KERNEL)
    assert (event.action, event.subsystem, event.kernel, event.seqnum) == (
        "add", "block", "sdb", 4223
    )  # fmt: skip
    assert event.devname == "/dev/sdb"
    assert event.devpath == "/devices/pci0000:00/usb2/2-3/block/sdb"
    assert encode_kernel(event) == STICK


def test_udevs() -> None:
    event = of_device(
        "change", {"DEVPATH": "/devices/x", "SUBSYSTEM": "block", "TAGS": ":a:b:"}, UDEV
    )
    data = encode_udev(event)
    assert data[:12] == b"libudev\0\xfe\xed\xca\xfe"
    high, low = struct.unpack_from("!II", data, 32)
    assert (high << 32 | low) == bloom64("a") | bloom64("b")
    assert struct.unpack_from("!I", data, 24)[0] == hash32("block")
    assert decode(data, UDEV) == event


def test_hashes_are_murmurs() -> None:
    """That they are libudev's: its own filter judges in tests/netns/linux."""
    assert hash32("") == 0
    assert len({hash32(text) for text in ("b", "bl", "blo", "bloc", "block", "blocks")}) == 6
    assert bin(bloom64("systemd")).count("1") <= 4


@pytest.mark.parametrize(
    ("group", "data", "said"),
    [
        (KERNEL, b"", "does not begin with ACTION@"),
        (KERNEL, b"add@/devices/x", "does not begin with ACTION@"),
        (KERNEL, b"add@devices\0", "does not begin with ACTION@"),
        (KERNEL, b"add@/x\0ACTION=remove\0", "says ACTION='remove'"),
        (KERNEL, b"add@/x\0DEVPATH=/y\0", "says DEVPATH='/y'"),
        (KERNEL, b"add@/x\0A=1\0NOTHING\0", "at 11: no KEY=VALUE: b'NOTHING'"),
        (KERNEL, b"add@/x\0=1\0", "at 7: no KEY=VALUE"),
        (KERNEL, b"add@/x\0" + b"A=1\0" * (MAX_PROPERTIES + 1), "more than 512 properties"),
        (KERNEL, b"add@/x\0" + b"A" * MAX_BYTES, "bytes; at most 8192"),
        (UDEV, b"libudev\0", "header has 40 bytes"),
        (UDEV, STICK, "libudev's prefix"),
        (UDEV, b"libudev\0" + bytes(40), "0x0 instead of"),
        (UDEV, b"libudev\0\xfe\xed\xca\xfe" + struct.pack("=III", 40, 40, 9) + bytes(16),
         "at 16: 9 bytes at 40 of 40"),
        (UDEV, b"libudev\0\xfe\xed\xca\xfe" + struct.pack("=III", 40, 8, 9) + bytes(16), "at 16"),
        (UDEV, b"libudev\0\xfe\xed\xca\xfe" + struct.pack("=III", 40, 40, 0) + bytes(16),
         "no ACTION"),
        (UDEV, b"libudev\0\xfe\xed\xca\xfe" + struct.pack("=III", 40, 40, 25) + bytes(16)
         + b"ACTION=add\0DEVPATH=./a/b\0", "DEVPATH is no path"),
    ],
)  # fmt: skip
def test_what_means_nothing_is_told(group: Group, data: bytes, said: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(data, group)
    assert said in str(caught.value)


@given(
    action=st.sampled_from(["add", "remove", "change", "bind"]),
    path=st.from_regex(r"(/[a-z0-9:.-]{1,8}){1,6}", fullmatch=True),
    more=st.dictionaries(KEYS, VALUES, max_size=20),
)
def test_what_is_written_is_read_again(action: str, path: str, more: dict[str, str]) -> None:
    both: tuple[tuple[Group, Callable[[Uevent], bytes]], ...] = (
        (KERNEL, encode_kernel),
        (UDEV, encode_udev),
    )
    for group, encode in both:
        event = of_device(action, {**more, "DEVPATH": path}, group)
        if len(data := encode(event)) <= MAX_BYTES:
            assert decode(data, group) == event


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=60).map(lambda b: STICK[:70] + b)))
def test_any_bytes_are_an_event_or_a_decode_error(data: bytes) -> None:
    groups: tuple[Group, ...] = (KERNEL, UDEV)
    for group in groups:
        for each in (data, b"libudev\0\xfe\xed\xca\xfe" + data):
            with contextlib.suppress(DecodeError):
                assert decode(each, group).devpath
