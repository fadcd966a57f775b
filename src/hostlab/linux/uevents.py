"""Device events as they travel: the kernel's datagrams, udev's, and what both say.

NETLINK_KOBJECT_UEVENT has two groups. The kernel sends to group 1 `ACTION@DEVPATH`, then
`KEY=VALUE` pieces, each ended by a zero byte (lib/kobject_uevent.c). udevd applies its rules and
sends to group 2 what programs should see: a header that socket filters can read, then the same
kind of pieces (libudev, `struct monitor_netlink_header`). The header's numbers are big-endian where
a filter reads them (magic, hashes, bloom), and the machine's own elsewhere.
"""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from hostlab.errors import DecodeError

KERNEL: Final = 1
"""The multicast group of the kernel."""
UDEV: Final = 2
"""That of udevd."""
Group = Literal[1, 2]

MAX_BYTES: Final = 8192
"""Of a datagram; the kernel's own are at most 2,048, libudev reads 8,192."""
UEVENT_BUFFER_BYTES: Final = 2048
"""UEVENT_BUFFER_SIZE: the kernel makes no longer ones, injected ones included."""
MAX_PROPERTIES: Final = 512
"""The kernel makes at most 64 (UEVENT_NUM_ENVP); udev's rules add to them."""
SEQNUM_BYTES: Final = len("SEQNUM=18446744073709551615\0")
"""What the kernel appends to an injected event."""

_PREFIX: Final = b"libudev\0"
_MAGIC: Final = 0xFEEDCAFE
_OFFSETS: Final = struct.Struct("=III")  # header_size, properties_off, properties_len
_FILTERS: Final = struct.Struct("!IIII")  # subsystem hash, devtype hash, bloom high, bloom low
_HEADER_BYTES: Final = 40
_MASK: Final = 0xFFFFFFFF
_MURMUR: Final = 0x5BD1E995
_KEY: Final = re.compile(rb"[!-<>-~]+")


@dataclass(frozen=True, slots=True)
class Uevent:
    """One event of one device."""

    action: str
    devpath: str
    """Below /sys."""
    properties: tuple[tuple[str, str], ...]
    """Everything that was said, in its order; ACTION and DEVPATH among it."""
    group: Group = KERNEL

    @property
    def subsystem(self) -> str:
        """Of the device; empty where it has none (a module, a bare kobject)."""
        return self.get("SUBSYSTEM")

    @property
    def seqnum(self) -> int | None:
        """The kernel's number for the event; one counter for all namespaces of a machine."""
        text = self.get("SEQNUM")
        return int(text) if text.isdecimal() else None

    @property
    def kernel(self) -> str:
        """The device's name in the kernel; `!` stands for a slash in sysfs (KOBJECT_NAME)."""
        return self.devpath.rpartition("/")[2].replace("!", "/")

    @property
    def devname(self) -> str:
        """The path of its device file; empty where it has none."""
        name = self.get("DEVNAME")
        return f"/dev/{name}" if name and not name.startswith("/") else name

    def get(self, key: str) -> str:
        """A property, or nothing."""
        return next((value for name, value in self.properties if name == key), "")


def of_device(action: str, properties: Mapping[str, str], group: Group = KERNEL) -> Uevent:
    """An event that says these properties, of which DEVPATH is one; ACTION is put first."""
    whole = {"ACTION": action, **{k: v for k, v in properties.items() if k != "ACTION"}}
    return Uevent(action, whole["DEVPATH"], tuple(whole.items()), group)


# Reading.


def decode(data: bytes, group: Group) -> Uevent:
    """The event in a datagram of a group; DecodeError says what is wrong with it, and where."""
    if len(data) > MAX_BYTES:
        raise DecodeError("uevent", f"{len(data)} bytes; at most {MAX_BYTES} are one")
    return _decode_udev(data) if group == UDEV else _decode_kernel(data)


def _decode_kernel(data: bytes) -> Uevent:
    head, zero, rest = data.partition(b"\0")
    action, at, devpath = head.partition(b"@")
    if not (zero and at and action and devpath.startswith(b"/")):
        raise DecodeError("uevent", f"it does not begin with ACTION@/DEVPATH: {head[:60]!r}")
    properties = _properties(rest, len(head) + 1)
    _same(properties, "ACTION", _text(action))
    _same(properties, "DEVPATH", _text(devpath))
    return Uevent(_text(action), _text(devpath), properties, KERNEL)


def _decode_udev(data: bytes) -> Uevent:
    if len(data) < _HEADER_BYTES:
        raise DecodeError("uevent", f"udev's header has {_HEADER_BYTES} bytes, not {len(data)}")
    if not data.startswith(_PREFIX):
        raise DecodeError("uevent", f"it does not begin with libudev's prefix: {data[:8]!r}")
    (magic,) = struct.unpack_from("!I", data, 8)
    if magic != _MAGIC:
        raise DecodeError("uevent", f"at 8: {magic:#x} instead of libudev's {_MAGIC:#x}")
    _, offset, length = _OFFSETS.unpack_from(data, 12)
    if offset < _HEADER_BYTES or offset + length > len(data):
        raise DecodeError("uevent", f"at 16: {length} bytes at {offset} of {len(data)}")
    properties = _properties(data[offset : offset + length], offset)
    found = dict(properties)
    for key in ("ACTION", "DEVPATH"):
        if not found.get(key):
            raise DecodeError("uevent", f"it has no {key}")
    if not found["DEVPATH"].startswith("/"):
        raise DecodeError("uevent", f"DEVPATH is no path: {found['DEVPATH'][:60]!r}")
    return Uevent(found["ACTION"], found["DEVPATH"], properties, UDEV)


def _properties(data: bytes, start: int) -> tuple[tuple[str, str], ...]:
    """`KEY=VALUE` pieces; `start` is where they are in the datagram, for the error."""
    found: list[tuple[str, str]] = []
    place = start
    for piece in data.split(b"\0"):
        if piece:
            key, equals, value = piece.partition(b"=")
            if not (equals and _KEY.fullmatch(key)):
                raise DecodeError("uevent", f"at {place}: no KEY=VALUE: {piece[:60]!r}")
            if len(found) == MAX_PROPERTIES:
                raise DecodeError("uevent", f"at {place}: more than {MAX_PROPERTIES} properties")
            found.append((key.decode("ascii"), _text(value)))
        place += len(piece) + 1
    return tuple(found)


def _same(properties: tuple[tuple[str, str], ...], key: str, head: str) -> None:
    said = dict(properties).get(key, head)
    if said != head:
        raise DecodeError("uevent", f"it begins with {head!r} and says {key}={said!r}")


def _text(value: bytes) -> str:
    """As text. No one says what encoding it is: what is none stays, and is given back."""
    return value.decode(errors="surrogateescape")


# Writing.


def encode_kernel(event: Uevent) -> bytes:
    """A datagram as the kernel makes it."""
    head = f"{event.action}@{event.devpath}\0".encode(errors="surrogateescape")
    return head + _pieces(event.properties)


def encode_udev(event: Uevent) -> bytes:
    """A datagram as udevd makes it, with what listeners' socket filters look at."""
    body = _pieces(event.properties)
    tags = [tag for tag in event.get("TAGS").split(":") if tag]
    bloom = 0
    for tag in tags:
        bloom |= bloom64(tag)
    subsystem, devtype = event.subsystem, event.get("DEVTYPE")
    return (
        _PREFIX
        + struct.pack("!I", _MAGIC)
        + _OFFSETS.pack(_HEADER_BYTES, _HEADER_BYTES, len(body))
        + _FILTERS.pack(
            hash32(subsystem) if subsystem else 0,
            hash32(devtype) if devtype else 0,
            bloom >> 32,
            bloom & _MASK,
        )
        + body
    )


def _pieces(properties: Iterable[tuple[str, str]]) -> bytes:
    return "".join(f"{key}={value}\0" for key, value in properties).encode(errors="surrogateescape")


def hash32(text: str) -> int:
    """MurmurHash2 with seed 0, by which a socket filter knows a subsystem (libudev)."""
    data = text.encode(errors="surrogateescape")
    found = len(data)
    whole = len(data) & ~3
    for offset in range(0, whole, 4):
        word = int.from_bytes(data[offset : offset + 4], sys.byteorder)
        word = word * _MURMUR & _MASK
        word = (word ^ word >> 24) * _MURMUR & _MASK
        found = (found * _MURMUR & _MASK) ^ word
    if rest := data[whole:]:
        found = (found ^ int.from_bytes(rest, "little")) * _MURMUR & _MASK
    found = (found ^ found >> 13) * _MURMUR & _MASK
    return found ^ found >> 15


def bloom64(tag: str) -> int:
    """A tag's four bits in the filter of tags (libudev)."""
    number = hash32(tag)
    return (
        1 << (number & 63)
        | 1 << (number >> 6 & 63)
        | 1 << (number >> 12 & 63)
        | 1 << (number >> 18 & 63)
    )
