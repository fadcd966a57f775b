"""Packets as bytes and back: Ethernet, IPv4 and IPv6, TCP, UDP, ICMP and ICMPv6; pure.

Checksums are right but where a packet is asked for that conntrack finds invalid.
"""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address
from typing import Final

from hostlab.firewall.packet import FLAGS, Packet, Protocol, State

ETH_P_IP: Final = 0x0800
ETH_P_IPV6: Final = 0x86DD
IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMPV6 = 1, 6, 17, 58
ICMP_ECHO, ICMPV6_ECHO_REQUEST = 8, 128
ICMP_ERRORS: Final = frozenset({3, 4, 5, 11, 12})
ICMPV6_ERRORS: Final = frozenset({1, 2, 3, 4})
ECHO_ID: Final = 0x686C
TTL: Final = 64
_EMBEDDED_PORTS: Final = (40000, 443)
"""Of the connection that an ICMP error is about: ours, theirs."""

_IPV4: Final = struct.Struct("!BBHHHBBH4s4s")
_IPV6: Final = struct.Struct("!IHBB16s16s")
_TCP: Final = struct.Struct("!HHIIBBHHH")
_UDP: Final = struct.Struct("!HHHH")
_ICMP: Final = struct.Struct("!BBHHH")


def checksum(data: bytes) -> int:
    """The Internet checksum, RFC 1071."""
    if len(data) & 1:
        data += b"\0"
    # The sum of the 16-bit words modulo 0xffff is what folding the carries gives.
    total = int.from_bytes(data) % 0xFFFF
    return ~total & 0xFFFF if total or not any(data) else 0


def packed(address: str) -> bytes:
    """An address as it is on the wire."""
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def icmp_type(packet: Packet) -> int:
    """The number on the wire: 8 stands for an echo request in either family."""
    if packet.icmp_type == ICMP_ECHO and ":" in packet.source:
        return ICMPV6_ECHO_REQUEST
    return packet.icmp_type


def is_icmp_error(packet: Packet) -> bool:
    """Whether it is about another packet, which it has a part of."""
    errors = ICMPV6_ERRORS if ":" in packet.source else ICMP_ERRORS
    return packet.protocol is Protocol.ICMP and icmp_type(packet) in errors


def embedded(packet: Packet) -> Packet:
    """The packet that an ICMP error is about: UDP from where the error goes to where it is from."""
    return Packet(
        protocol=Protocol.UDP,
        source=packet.destination,
        destination=packet.source,
        source_port=_EMBEDDED_PORTS[0],
        destination_port=_EMBEDDED_PORTS[1],
    )


def frame(packet: Packet, *, source_mac: bytes, destination_mac: bytes) -> bytes:
    """The packet in an Ethernet frame."""
    kind = ETH_P_IPV6 if ":" in packet.source else ETH_P_IP
    return destination_mac + source_mac + kind.to_bytes(2) + datagram(packet)


def datagram(packet: Packet) -> bytes:
    """The IP packet."""
    source, destination = packed(packet.source), packed(packet.destination)
    is_v6 = len(source) == 16
    number = protocol_number(packet.protocol, is_v6=is_v6)
    ends = source + destination
    if is_v6:
        length = _transport_length(packet)
        ends += struct.pack("!II", length, number)
    else:
        ends += struct.pack("!BBH", 0, number, _transport_length(packet))
    body = _transport(packet, b"" if number == IPPROTO_ICMP else ends)
    if is_v6:
        return _IPV6.pack(6 << 28, len(body), number, TTL, source, destination) + body
    header = _IPV4.pack(
        0x45, 0, 20 + len(body), ECHO_ID, 0, TTL, number, 0, source, destination
    )  # fmt: skip
    return header[:10] + checksum(header).to_bytes(2) + header[12:] + body


def protocol_number(protocol: Protocol, *, is_v6: bool) -> int:
    """The protocol's number in an IP header."""
    match protocol:
        case Protocol.TCP:
            return IPPROTO_TCP
        case Protocol.UDP:
            return IPPROTO_UDP
        case Protocol.ICMP:
            return IPPROTO_ICMPV6 if is_v6 else IPPROTO_ICMP


def _transport_length(packet: Packet) -> int:
    if is_icmp_error(packet):
        return 8 + len(datagram(embedded(packet)))
    return packet.payload_bytes + (20 if packet.protocol is Protocol.TCP else 8)


def _transport(packet: Packet, pseudo: bytes) -> bytes:
    """The segment; conntrack is to find it invalid where that was asked for.

    It looks at the checksum of what arrives only, and at the lengths in the header of what is sent.
    """
    payload = bytes(packet.payload_bytes)
    is_broken = packet.state is State.INVALID
    is_short = is_broken and packet.interface is None
    ports = packet.source_port, packet.destination_port
    match packet.protocol:
        case Protocol.TCP:
            bits = tcp_bits(packet.tcp_flags)
            acknowledged = 1 if "A" in packet.tcp_flags else 0
            words = 4 if is_short else 5
            raw = _TCP.pack(*ports, 1, acknowledged, words << 4, bits, 65535, 0, 0) + payload
            at = 16
        case Protocol.UDP:
            length = 7 if is_short else 8 + len(payload)
            raw = _UDP.pack(*ports, length, 0) + payload
            at = 6
        case Protocol.ICMP:
            kind, rest = icmp_type(packet), (ECHO_ID, 1)
            if is_icmp_error(packet):
                payload, rest = datagram(embedded(packet)), (0, 0)
            raw = _ICMP.pack(kind, packet.icmp_code, 0, *rest) + payload
            at = 2
    found = checksum(pseudo + raw)
    if packet.protocol is Protocol.UDP:
        found = found or 0xFFFF
    if is_broken:
        found ^= 0x5555
    return raw[:at] + found.to_bytes(2) + raw[at + 2 :]


def tcp_bits(flags: str) -> int:
    """Letters of FSRPAUEC, from the lowest bit, as the byte of the header."""
    return sum(1 << FLAGS.index(letter) for letter in flags)


def rewritten(packet: Packet, network: bytes, transport: bytes) -> Packet:
    """The packet with the addresses and ports of these headers, as NAT left them."""
    is_v6 = network[:1] and network[0] >> 4 == 6
    at, size = (8, 16) if is_v6 else (12, 4)
    if len(network) < at + 2 * size:
        return packet
    source = str(ip_address(network[at : at + size]))
    destination = str(ip_address(network[at + size : at + 2 * size]))
    ports = packet.source_port, packet.destination_port
    if packet.protocol is not Protocol.ICMP and len(transport) >= 4:
        ports = struct.unpack_from("!HH", transport)
    if (source, destination, *ports) == (
        packet.source, packet.destination, packet.source_port, packet.destination_port,
    ):  # fmt: skip
        return packet
    return Packet(
        protocol=packet.protocol,
        source=source,
        destination=destination,
        source_port=ports[0],
        destination_port=ports[1],
        interface=packet.interface,
        state=packet.state,
        icmp_type=packet.icmp_type,
        icmp_code=packet.icmp_code,
        tcp_flags=packet.tcp_flags,
        payload_bytes=packet.payload_bytes,
        uid=packet.uid,
    )
