"""One question to a host, asked from the current network namespace and answered before a deadline.

Every probe ends in an `Answer`; only what the machine itself lacks is an exception. The difference
between *refused* and *silent* is kept, since it tells a missing server from a firewall.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final

import msgspec

IP_RECVERR: Final = 11
IPV6_RECVERR: Final = 25
"""Both from linux/in.h: ICMP errors reach a datagram or raw socket as errno."""
ICMP_ECHO: Final = 8
ICMP_ECHOREPLY: Final = 0
ICMP_UNREACHABLE: Final = 3
ICMPV6_ECHO: Final = 128
ICMPV6_UNREACHABLE: Final = 1
_V6_BYTES: Final = 40
ICMPV6_ECHOREPLY: Final = 129
_ECHO: Final = struct.Struct("!BBHHH")
_DATAGRAM_BYTES: Final = 1 << 16

_DNS_QUESTION: Final = bytes.fromhex("686c 0100 0001 0000 0000 0000 00 0002 0001".replace(" ", ""))
"""Who serves the root? (RFC 1035 §4.1: id, RD, one question, NS, IN)"""
_NTP_QUESTION: Final = bytes([0x23]) + bytes(47)
"""Version 4, mode client (RFC 5905 §7.3)."""
DATAGRAMS: Final = {53: _DNS_QUESTION, 123: _NTP_QUESTION}
"""What is sent to a port whose server answers nothing else."""
PLAIN_DATAGRAM: Final = b"hostlab\n"
UNUSED_PORTS: Final = (33437, 61997)
"""Where hardly anything listens: traceroute's, and one near the end of the dynamic ports."""

Accept = Callable[[bytes], bool]


class Reach(StrEnum):
    """How a host answered."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """The host answered that nothing takes this."""
    UNREACHABLE = "unreachable"
    """A router, or this host's own routing, says there is no way, or it is prohibited."""
    SILENT = "silent"
    """Nothing came back in time: filtered, lost, or a server that says nothing."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What one address answered."""

    reach: Reach
    address: str
    text: str = ""
    took_s: float = 0.0

    def __str__(self) -> str:
        return f"{self.address}: {self.reach}" + (f" ({self.text})" if self.text else "")


_REFUSED: Final = {errno.ECONNREFUSED, errno.ECONNRESET}
_UNREACHABLE: Final = {
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.ENETDOWN,
    errno.EHOSTDOWN,
    errno.EADDRNOTAVAIL,
    errno.EACCES,
    errno.EPERM,
    errno.ENOPROTOOPT,
    errno.EPROTO,
    errno.EINVAL,
}
"""EINVAL is a `blackhole` route's (net/ipv4/fib_semantics.c, fib_props), EACCES a
`prohibit` route's, EPERM the node's own firewall's. connect(2), icmp(7)."""


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def sockaddr_of(address: str, port: int) -> tuple[Any, ...]:
    """The address as the kernel wants it; a zone (`fe80::1%eth0`) becomes its index."""
    host, _, zone = address.partition("%")
    if ":" in host:
        return (host, port, 0, socket.if_nametoindex(zone) if zone else 0)
    return (host, port)


def _wait(sock: socket.socket, events: int, until: float) -> bool:
    """Wait for an event of the socket; False at the deadline."""
    poller = select.poll()
    poller.register(sock, events)
    return bool(poller.poll(max(0.0, until - time.monotonic()) * 1000))


def reach_of(number: int) -> Reach:
    """What an errno says about the host asked; OSError when it says nothing about it."""
    if number in _REFUSED:
        return Reach.REFUSED
    if number in _UNREACHABLE:
        return Reach.UNREACHABLE
    if number == errno.ETIMEDOUT:
        return Reach.SILENT
    raise OSError(number, os.strerror(number))


def _failure(address: str, error: OSError, started: float) -> Answer:
    """An errno as an answer; raises what says nothing about the host asked."""
    number = error.errno or 0
    try:
        reach = reach_of(number)
    except OSError:
        raise error from None
    text = os.strerror(number)
    return Answer(reach=reach, address=address, text=text, took_s=time.monotonic() - started)


def _silent(address: str, started: float) -> Answer:
    took_s = time.monotonic() - started
    return Answer(reach=Reach.SILENT, address=address, text="filtered or silent", took_s=took_s)


def tcp(address: str, port: int, *, timeout_s: float) -> Answer:
    """Connect, and hang up at once. ANSWERED means that the handshake was completed."""
    started = time.monotonic()
    with socket.socket(_family(address), socket.SOCK_STREAM) as sock:
        sock.settimeout(0)
        try:
            number = sock.connect_ex(sockaddr_of(address, port))
            if number == errno.EINPROGRESS:
                if not _wait(sock, select.POLLOUT, started + timeout_s):
                    return _silent(address, started)
                number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number:
                raise OSError(number, f"connect: {os.strerror(number)}", address)
            # A port of the ephemeral range on this very host can be met by our own source port:
            # TCP's simultaneous open, RFC 9293 §3.5. Nobody listens there.
            if sock.getsockname() == sock.getpeername():
                raise OSError(errno.ECONNREFUSED, "connected to itself", address)
        except OSError as error:
            return _failure(address, error, started)
    return Answer(reach=Reach.ANSWERED, address=address, took_s=time.monotonic() - started)


def udp(address: str, port: int, *, timeout_s: float) -> Answer:
    """Send one datagram and wait for one. A server that answers nothing is SILENT."""
    return exchange(address, port, DATAGRAMS.get(port, PLAIN_DATAGRAM), timeout_s=timeout_s)[0]


def exchange(
    address: str,
    port: int,
    datagram: bytes,
    *,
    timeout_s: float,
    accept: Accept | None = None,
) -> tuple[Answer, bytes]:
    """Send a datagram and wait for one that answers it: with it, ANSWERED; else empty bytes.

    `accept` tells which datagrams do; None: any. Others are passed over.
    """
    accept = accept or (lambda _: True)
    sockaddr = sockaddr_of(address, port)
    return _datagram(socket.SOCK_DGRAM, 0, sockaddr, address, datagram, timeout_s, accept)


def why_silent(address: str, port: int, *, timeout_s: float) -> str:
    """What the silence of a UDP port means, as far as the host tells: in words.

    A host that says of a port that nobody uses that nothing takes this (RFC 1122 §4.1.3.1), and
    says nothing of this one, has somebody there, or filters this port alone.
    """
    until = time.monotonic() + timeout_s
    for other in UNUSED_PORTS:
        if other == port:
            continue
        share_s = max(0.0, until - time.monotonic()) / 3
        answer, _ = exchange(address, other, PLAIN_DATAGRAM, timeout_s=share_s)
        if answer.reach is Reach.REFUSED:
            return (
                f"silent: the host refuses port {other}, so either somebody takes what comes to"
                f" port {port} and says nothing, or this port alone is filtered"
            )
    echo = icmp(address, timeout_s=max(0.0, until - time.monotonic()))
    if echo.reach is Reach.ANSWERED:
        return "filtered: the host answers echoes, and of its unused ports it says nothing either"
    return "filtered or silent: the host says nothing, to an echo neither"


def icmp(address: str, *, timeout_s: float) -> Answer:
    """An echo request by a raw socket; CAP_NET_RAW, for ping_group_range is empty by default."""
    v6 = ":" in address
    protocol = socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP
    request = echo_request(address)

    def accept(reply: bytes) -> bool:
        return is_reply(reply, request, v6=v6)

    sockaddr = sockaddr_of(address, 0)
    return _datagram(socket.SOCK_RAW, protocol, sockaddr, address, request, timeout_s, accept)[0]


def _datagram(
    kind: int,
    protocol: int,
    sockaddr: tuple[object, ...],
    address: str,
    sent: bytes,
    timeout_s: float,
    accept: Accept,
) -> tuple[Answer, bytes]:
    """Send once, and wait until the peer, or an ICMP error about it, answers."""
    started = time.monotonic()
    until = started + timeout_s
    v6 = ":" in address
    with socket.socket(_family(address), kind, protocol) as sock:
        sock.settimeout(0)
        level, option = (
            (socket.IPPROTO_IPV6, IPV6_RECVERR) if v6 else (socket.IPPROTO_IP, IP_RECVERR)
        )
        sock.setsockopt(level, option, 1)
        try:
            sock.connect(sockaddr)
            sock.send(sent)
            while _wait(sock, select.POLLIN, until):
                try:
                    reply = sock.recv(_DATAGRAM_BYTES)
                except BlockingIOError:
                    continue  # another reader's, or a checksum that was wrong: recv(2), BUGS
                if accept(reply):
                    took_s = time.monotonic() - started
                    return Answer(reach=Reach.ANSWERED, address=address, took_s=took_s), reply
        except OSError as error:
            return _failure(address, error, started), b""
    return _silent(address, started), b""


def echo_request(address: str, nonce: bytes | None = None, number: int = 1) -> bytes:
    """An echo request with a sequence number and data of even length; RFC 792, RFC 4443 §4.1.

    By its data, which is random where none is given, no other can be taken for it.
    """
    v6 = ":" in address
    kind, identifier = ICMPV6_ECHO if v6 else ICMP_ECHO, os.getpid() & 0xFFFF
    bare = _ECHO.pack(kind, 0, 0, identifier, number) + (nonce or os.urandom(16))
    # The kernel fills in the checksum of ICMPv6 (RFC 3542 §3.1), not that of ICMP.
    checksum = 0 if v6 else internet_checksum(bare)
    return _ECHO.pack(kind, 0, checksum, identifier, number) + bare[_ECHO.size :]


def echo_reply(packet: bytes, nonce: bytes, *, v6: bool) -> int | None:
    """The sequence number of a raw socket's packet, if it answers a request with that data."""
    message = _icmp(packet, v6=v6)
    if message[:1] != _REPLY[v6] or message[_ECHO.size :] != nonce:
        return None
    return int(_ECHO.unpack_from(message)[4])


_REPLY: Final = {False: bytes([ICMP_ECHOREPLY]), True: bytes([ICMPV6_ECHOREPLY])}


def is_reply(reply: bytes, request: bytes, *, v6: bool) -> bool:
    """Whether a raw socket's packet answers `request`."""
    message = _icmp(reply, v6=v6)
    return message[:1] == _REPLY[v6] and message[4:] == request[4:]


def _icmp(packet: bytes, *, v6: bool) -> bytes:
    """The ICMP message of a raw socket's packet; an IPv4 one comes with its IP header."""
    return packet if v6 else packet[_header_bytes(packet) :]


def reply_identity(packet: bytes, *, v6: bool) -> tuple[bytes, Reach]:
    """Which echo a raw socket's packet is about (from its identifier on), and what it says.

    A host's own answer, or a router's that it cannot be delivered, which quotes the echo (RFC 792,
    RFC 4443 §3.1). Empty for anything else.
    """
    message = _icmp(packet, v6=v6)
    if message[:1] == _REPLY[v6]:
        return message[4:], Reach.ANSWERED
    if message[:1] == bytes([ICMPV6_UNREACHABLE if v6 else ICMP_UNREACHABLE]):
        quoted = message[8:]
        return quoted[_V6_BYTES if v6 else _header_bytes(quoted) :][4:], Reach.UNREACHABLE
    return b"", Reach.SILENT


def _header_bytes(packet: bytes) -> int:
    return (packet[0] & 0x0F) * 4 if packet else 0


def internet_checksum(data: bytes) -> int:
    """The one's complement sum of RFC 1071, for data of even length."""
    total = int(sum(struct.unpack(f"!{len(data) // 2}H", data)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
