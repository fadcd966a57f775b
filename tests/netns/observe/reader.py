"""A pcapng reader of our own, to judge the writer by: strict about every length."""

from __future__ import annotations

import struct
from typing import NamedTuple


class Block(NamedTuple):
    kind: int
    body: bytes
    options: dict[int, bytes]


_FIXED = {0x0A0D0D0A: 16, 1: 8, 5: 12}


def read_blocks(data: bytes) -> list[Block]:
    blocks = []
    offset = 0
    while offset < len(data):
        kind, length = struct.unpack_from("=II", data, offset)
        assert length % 4 == 0
        assert length >= 12
        assert offset + length <= len(data), "a block is cut short"
        assert struct.unpack_from("=I", data, offset + length - 4) == (length,)
        body = data[offset + 8 : offset + length - 4]
        fixed = _FIXED.get(kind, 0)
        if kind == 6:
            captured = struct.unpack_from("=I", body, 12)[0]
            fixed = 20 + captured + -captured % 4
        blocks.append(Block(kind, body[:fixed], _options(body[fixed:])))
        offset += length
    return blocks


def _options(data: bytes) -> dict[int, bytes]:
    found = {}
    while data:
        code, length = struct.unpack_from("=HH", data)
        if code == 0:
            assert data == b"\0\0\0\0"
            break
        found[code] = data[4 : 4 + length]
        assert len(found[code]) == length
        data = data[4 + length + -length % 4 :]
    return found


class Seen(NamedTuple):
    time_ns: int
    data: bytes
    length: int
    outbound: bool


def packets(blocks: list[Block]) -> list[Seen]:
    found = []
    for block in blocks:
        if block.kind == 6:
            interface, high, low, captured, length = struct.unpack_from("=5I", block.body)
            assert interface == 0
            (flags,) = struct.unpack("=I", block.options[2])
            data = block.body[20 : 20 + captured]
            found.append(Seen(high << 32 | low, data, length, flags & 3 == 2))
    return found
