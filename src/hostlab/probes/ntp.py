"""What time a server of NTP says it is, and how far it trusts itself; RFC 5905 §7.3."""

from __future__ import annotations

import os
import struct
import time
from typing import Final

import msgspec

from hostlab.errors import DecodeError
from hostlab.probes.reach import Answer, exchange

PORT: Final = 123
UNSYNCHRONIZED: Final = 3
"""The leap indicator of a server that has no time."""
MOST_STRATUM: Final = 15
_HEADER: Final = struct.Struct("!BBbbIII8s8s8s8s")
_EPOCH_S: Final = 2208988800
"""From 1900 to 1970."""
_CLIENT: Final = 0x23
"""Version 4, mode client."""
_SERVER_MODE: Final = 4


class Time(msgspec.Struct, frozen=True, kw_only=True):
    """A server's answer."""

    stratum: int
    leap: int
    reference: str
    """Whom it follows: an address, or of stratum 1 the clock's name; a kiss code of stratum 0."""
    offset_s: float
    """Its clock less ours."""
    delay_s: float
    """There and back."""
    root_delay_s: float
    root_dispersion_s: float

    @property
    def problem(self) -> str:
        """Why its time is none; empty when it is one."""
        if self.stratum == 0 and self.reference.isalpha():
            return f"it sends a kiss code: {self.reference}"
        if self.leap == UNSYNCHRONIZED or not 0 < self.stratum <= MOST_STRATUM:
            return "it is not synchronised"
        return ""


def ask(address: str, port: int, *, timeout_s: float) -> tuple[Answer, Time | None]:
    """One question; DecodeError for an answer that is none of NTP."""
    # What we send as our time is a nonce: nobody else can know it, and nobody learns our clock.
    nonce = os.urandom(8)
    request = bytes([_CLIENT]) + bytes(39) + nonce
    sent = time.time()
    answer, reply = exchange(
        address, port, request, timeout_s=timeout_s, accept=lambda data: data[24:32] == nonce
    )
    if not reply:
        return answer, None
    return answer, decode(reply, sent=sent, received=sent + answer.took_s)


def decode(reply: bytes, *, sent: float, received: float) -> Time:
    """A packet; `sent` and `received` are the client's times in seconds since the epoch."""
    if len(reply) < _HEADER.size:
        raise DecodeError("ntp", f"an answer of {len(reply)} bytes is none of NTP")
    first, stratum, _, _, root_delay, dispersion, reference, _, _, arrived, left = (
        _HEADER.unpack_from(reply)
    )
    if first & 7 != _SERVER_MODE:
        raise DecodeError("ntp", f"it answers in mode {first & 7}, which is not a server's")
    t2, t3 = _seconds(arrived), _seconds(left)
    raw = reference.to_bytes(4, "big")
    is_name = stratum < 2
    return Time(
        stratum=stratum,
        leap=first >> 6,
        reference=raw.rstrip(b"\0").decode("ascii", errors="replace")
        if is_name
        else ".".join(map(str, raw)),
        offset_s=((t2 - sent) + (t3 - received)) / 2,
        delay_s=max(0.0, (received - sent) - (t3 - t2)),
        root_delay_s=root_delay / (1 << 16),
        root_dispersion_s=dispersion / (1 << 16),
    )


def _seconds(stamp: bytes) -> float:
    return int.from_bytes(stamp, "big") / (1 << 32) - _EPOCH_S
