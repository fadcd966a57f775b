"""UDP-Lite between two hosts: what its checksum covers, and what happens to damage; RFC 3828.

A receiver that demands a coverage in one namespace, a sender in another. Four datagrams tell all:
one whole; one damaged behind what the checksum covers, which must arrive, damaged; one damaged
within, which must not; one that covers less than is demanded, which must not either. Damaged ones
are written byte by byte on a raw socket.

Linux has no UDP-Lite any more from 7.1 on. Then both ends do by raw sockets what the kernel did, so
that the question what the network between them does with protocol 136 is answered all the same.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from hostlab import typed
from hostlab.errors import DecodeError
from hostlab.probes.names import addresses
from hostlab.probes.reach import internet_checksum, sockaddr_of
from hostlab.probes.stream import left

IPPROTO_UDPLITE: Final = 136
UDPLITE_SEND_CSCOV: Final = 10
UDPLITE_RECV_CSCOV: Final = 11
HEADER_BYTES: Final = 8
LEAST_COVERAGE: Final = 8
"""The header is always covered; RFC 3828 §3.1."""
PAYLOAD_BYTES: Final = 64
DATAGRAM_BYTES: Final = HEADER_BYTES + PAYLOAD_BYTES
_NONCE_BYTES: Final = 8
_HEADER: Final = struct.Struct("!HHHH")
_SOURCE_PORT: Final = 40136
_TIMES: Final = 3
"""Each datagram is sent so often, for networks lose some."""


class Case(StrEnum):
    """A datagram of the four, and the one that ends them."""

    WHOLE = "whole"
    OUTSIDE = "damaged outside the coverage"
    INSIDE = "damaged inside the coverage"
    SHORT = "covered less than demanded"
    END = "end"


MUST_ARRIVE: Final[Mapping[Case, bool]] = {
    Case.WHOLE: True,
    Case.OUTSIDE: True,
    Case.INSIDE: False,
    Case.SHORT: False,
}
_TAGS: Final = {case: bytes([number]) for number, case in enumerate(Case, 1)}


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What one end is asked; `do` is bind, send or collect."""

    do: str
    host: str = ""
    port: int = 0
    coverage: int = LEAST_COVERAGE
    required: int = 0
    raw: bool = False
    nonce: str = ""
    timeout_s: float = 5.0


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What it answers."""

    arrived: dict[Case, bool] = {}
    """Which came, and of those whether it came damaged."""
    lacks_kernel: bool = False
    """Its kernel has no UDP-Lite."""
    problem: str = ""


class Ends:
    """One end of the wire, inside its node: keeps the receiver's sockets between two requests."""

    def __init__(self) -> None:
        self._receivers: list[socket.socket] = []

    def answer(self, request: bytes) -> bytes:
        """A crew's handler."""
        asked = typed.decode(request, Request)
        try:
            match asked.do:
                case "bind":
                    reply = self._bind(asked)
                case "send":
                    reply = _send(asked)
                case _:
                    reply = self._collect(asked)
        except OSError as error:
            lacks = error.errno in (errno.EPROTONOSUPPORT, errno.ENOPROTOOPT)
            reply = Reply(problem=error.strerror or str(error), lacks_kernel=lacks)
        return msgspec.json.encode(reply)

    def _bind(self, asked: Request) -> Reply:
        for sock in self._receivers:
            sock.close()
        self._receivers = []
        kind, port = (socket.SOCK_RAW, 0) if asked.raw else (socket.SOCK_DGRAM, asked.port)
        v6 = socket.socket(socket.AF_INET6, kind, IPPROTO_UDPLITE)
        self._receivers.append(v6)
        if not asked.raw:  # a raw one takes IPv6 alone, and cannot be told so
            v6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        v4 = socket.socket(socket.AF_INET, kind, IPPROTO_UDPLITE)
        self._receivers.append(v4)
        for sock, any_address in ((v4, "0.0.0.0"), (v6, "::")):
            if not asked.raw and asked.required:
                sock.setsockopt(IPPROTO_UDPLITE, UDPLITE_RECV_CSCOV, asked.required)
            sock.bind((any_address, port))
            sock.settimeout(0)
        return Reply()

    def _collect(self, asked: Request) -> Reply:
        """What has come until the datagram that ends them, or the deadline."""
        until = time.monotonic() + asked.timeout_s
        nonce = bytes.fromhex(asked.nonce)
        arrived: dict[Case, bool] = {}
        poller = select.poll()
        for sock in self._receivers:
            poller.register(sock, select.POLLIN)
        while Case.END not in arrived:
            try:
                poller.poll(left(until) * 1000)
            except TimeoutError:
                break
            for sock in self._receivers:
                if (payload := _received(sock, asked)) is None:
                    continue
                case = _case_of(payload, nonce)
                if case is not None:
                    arrived[case] = payload != _payload(case, nonce)
        arrived.pop(Case.END, None)
        return Reply(arrived=arrived)


def _received(sock: socket.socket, asked: Request) -> bytes | None:
    """The next payload that may be delivered; None: nothing, or it may not."""
    try:
        packet, sender = sock.recvfrom(1 << 16)
    except OSError:
        return None  # nothing there, or a checksum that the kernel found wrong
    if not asked.raw:
        return packet
    if sock.family == socket.AF_INET:
        source, target = packet[12:16], packet[16:20]
        packet = packet[(packet[0] & 0x0F) * 4 :]
    else:
        # The raw socket of IPv6 tells no destination; all of its sum but that is compared.
        return packet[HEADER_BYTES:] if _fits_v6(packet, sender[0], asked) else None
    try:
        decode(packet, source, target, port=asked.port, required=asked.required)
    except DecodeError:
        return None
    return packet[HEADER_BYTES:]


def _fits_v6(packet: bytes, sender: str, asked: Request) -> bool:
    source = socket.inet_pton(socket.AF_INET6, sender.partition("%")[0])
    target = socket.inet_pton(socket.AF_INET6, asked.host.partition("%")[0])
    try:
        decode(packet, source, target, port=asked.port, required=asked.required)
    except DecodeError:
        return False
    return True


def _case_of(payload: bytes, nonce: bytes) -> Case | None:
    if payload[-_NONCE_BYTES:] != nonce:
        return None
    tag = payload[-_NONCE_BYTES - 1 : -_NONCE_BYTES]
    return next((case for case, each in _TAGS.items() if each == tag), None)


def _payload(case: Case, nonce: bytes) -> bytes:
    """Which case it is stands at the end, where the least is covered."""
    return bytes(PAYLOAD_BYTES - _NONCE_BYTES - 1) + _TAGS[case] + nonce


def _send(asked: Request) -> Reply:
    address = addresses(asked.host)[0]
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    nonce = bytes.fromhex(asked.nonce)
    with socket.socket(family, socket.SOCK_RAW, IPPROTO_UDPLITE) as raw:
        raw.connect(sockaddr_of(address, 0))
        source = socket.inet_pton(family, raw.getsockname()[0].partition("%")[0])
        target = socket.inet_pton(family, address.partition("%")[0])

        def built(case: Case, coverage: int) -> bytes:
            ports = (_SOURCE_PORT, asked.port)
            return encode(_payload(case, nonce), source, target, ports=ports, coverage=coverage)

        for _ in range(_TIMES):
            if asked.raw:
                raw.send(built(Case.WHOLE, asked.coverage))
            else:
                _send_by_kernel(address, asked, _payload(Case.WHOLE, nonce))
            if asked.coverage < DATAGRAM_BYTES:
                # The first byte that is not covered.
                raw.send(damaged(built(Case.OUTSIDE, asked.coverage), asked.coverage))
            raw.send(damaged(built(Case.INSIDE, asked.coverage), asked.coverage - 1))
            if asked.required > LEAST_COVERAGE:
                raw.send(built(Case.SHORT, asked.required - 1))
        for _ in range(_TIMES):
            raw.send(built(Case.END, DATAGRAM_BYTES))
    return Reply()


def _send_by_kernel(address: str, asked: Request, payload: bytes) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM, IPPROTO_UDPLITE) as sock:
        sock.setsockopt(IPPROTO_UDPLITE, UDPLITE_SEND_CSCOV, asked.coverage)
        sock.connect(sockaddr_of(address, asked.port))
        sock.send(payload)


def damaged(packet: bytes, at: int) -> bytes:
    """With one bit turned over in the byte at this place."""
    return packet[:at] + bytes([packet[at] ^ 0x10]) + packet[at + 1 :]


def _pseudo_header(source: bytes, target: bytes, length: int) -> bytes:
    """RFC 3828 §3.2: of IPv4 (RFC 768) or IPv6 (RFC 8200 §8.1), with the length of all of it."""
    if len(source) == 4:
        return source + target + struct.pack("!BBH", 0, IPPROTO_UDPLITE, length)
    return source + target + struct.pack("!IHBB", length, 0, 0, IPPROTO_UDPLITE)


def _sum(packet: bytes, source: bytes, target: bytes, coverage: int) -> int:
    covered = packet[:coverage]
    covered += bytes(len(covered) % 2)
    return internet_checksum(_pseudo_header(source, target, len(packet)) + covered)


def encode(
    payload: bytes, source: bytes, target: bytes, *, ports: tuple[int, int], coverage: int
) -> bytes:
    """A datagram with the checksum over its first `coverage` bytes (the header's 8 included)."""
    bare = _HEADER.pack(*ports, coverage, 0) + payload
    checksum = _sum(bare, source, target, coverage) or 0xFFFF
    return _HEADER.pack(*ports, coverage, checksum) + payload


def decode(packet: bytes, source: bytes, target: bytes, *, port: int, required: int) -> bytes:
    """The payload, as a receiver that demands a coverage may have it; DecodeError."""
    if len(packet) < HEADER_BYTES:
        raise DecodeError("udplite", f"{len(packet)} bytes are no datagram")
    _, destination, coverage, checksum = _HEADER.unpack_from(packet)
    covered = coverage or len(packet)
    if destination != port:
        raise DecodeError("udplite", "it is for another port")
    if not LEAST_COVERAGE <= covered <= len(packet):
        raise DecodeError("udplite", f"a coverage of {coverage} bytes cannot be")
    if covered < required:
        raise DecodeError("udplite", f"{covered} bytes are covered, {required} demanded")
    if checksum == 0 or _sum(packet, source, target, covered) not in (0, 0xFFFF):
        raise DecodeError("udplite", "the checksum is wrong")
    return packet[HEADER_BYTES:]


def new_nonce() -> str:
    """What marks the datagrams of one question."""
    return os.urandom(_NONCE_BYTES).hex()
