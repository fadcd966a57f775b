"""How an SSH server introduces itself: its banner and what it offers; RFC 4253 §4.2, §7.1."""

from __future__ import annotations

import time
from typing import Final

import msgspec

from hostlab.errors import DecodeError
from hostlab.probes.stream import Stream, connect

PORT: Final = 22
_OURS: Final = b"SSH-2.0-hostlab\r\n"
_LINES_BEFORE: Final = 100
_KEXINIT: Final = 20
_PACKET_BYTES: Final = 35000
"""RFC 4253 §6.1."""
_LISTS: Final = ("kex", "host_keys", "ciphers", "", "macs", "", "compression", "", "", "")
"""What is told of the ten lists: of both directions, the client's."""


class Introduction(msgspec.Struct, frozen=True, kw_only=True):
    """A server's first words."""

    banner: str
    """As `SSH-2.0-OpenSSH_9.2p1 Debian-2`."""
    address: str
    before: tuple[str, ...] = ()
    """Lines before the banner."""
    offers: dict[str, tuple[str, ...]] = {}
    """Algorithms: `kex`, `host_keys`, `ciphers`, `macs`, `compression`."""


def ask(host: str, port: int, *, timeout_s: float) -> Introduction:
    """OSError, UnknownName, and DecodeError for a server of something else."""
    until = time.monotonic() + timeout_s
    sock, address = connect(host, port, until)
    stream = Stream(sock, until)
    try:
        before: list[str] = []
        while not (line := stream.line()).startswith(b"SSH-"):
            before.append(line.decode(errors="replace"))
            if len(before) > _LINES_BEFORE:
                raise DecodeError("ssh", "no banner of SSH in its first 100 lines")
        banner = line.decode(errors="replace")
        # The server waits for our version before it offers anything.
        stream.send(_OURS)
        size = int.from_bytes(stream.exactly(4), "big")
        if not 2 < size <= _PACKET_BYTES:
            raise DecodeError("ssh", f"a first packet of {size} bytes is none of SSH")
        offers = decode_offers(stream.exactly(size))
    except ValueError as error:
        raise DecodeError("ssh", f"this is not SSH: {error}") from error
    finally:
        stream.close()
    return Introduction(banner=banner, address=address, before=tuple(before), offers=offers)


def decode_offers(packet: bytes) -> dict[str, tuple[str, ...]]:
    """The lists of a KEXINIT; DecodeError for anything else."""
    if len(packet) < 18 or packet[1] != _KEXINIT:
        raise DecodeError("ssh", "its first packet offers no algorithms")
    at, offers = 18, {}
    for name in _LISTS:
        length = int.from_bytes(packet[at : at + 4], "big")
        value = packet[at + 4 : at + 4 + length]
        if len(packet) < at + 4 or len(value) != length:
            raise DecodeError("ssh", "its offer is cut off")
        at += 4 + length
        if name:
            offers[name] = tuple(value.decode("ascii", errors="replace").split(","))
    return offers
