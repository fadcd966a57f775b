"""A packet that somebody asks about, as a value and as people write it.

    tcp 198.51.100.7:40000 -> 203.0.113.10:22 in eth0
    udp [2001:db8::7]:5353 → [2001:db8::1]:53 in wan0 established
    icmp 198.51.100.7 -> 203.0.113.10 in eth0 type echo-request
    tcp 10.0.0.1:40000 -> 192.0.2.1:443 out

`in IFACE` is where it arrives, with `out` the host itself sends it. The state is `new` where left
out; `established` and `related` belong to a connection that the kernel is told of first.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Protocol(StrEnum):
    """What is above IP; `icmp` is ICMPv6 where the addresses are."""

    TCP = "tcp"
    UDP = "udp"
    ICMP = "icmp"


class State(StrEnum):
    """What conntrack is to think of the packet."""

    NEW = "new"
    ESTABLISHED = "established"
    RELATED = "related"
    INVALID = "invalid"


class Packet(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One packet. Addresses are canonical; ports are 0 for ICMP."""

    protocol: Protocol
    source: str
    destination: str
    source_port: int = 0
    destination_port: int = 0
    interface: str | None = None
    """Where it arrives; None: the host itself sends it."""
    state: State = State.NEW
    icmp_type: int = 8
    """Of an ICMP packet; 8 stands for an echo request in either family."""
    icmp_code: int = 0
    tcp_flags: str = "S"
    """Letters of FSRPAUEC, as tcpdump writes them."""
    payload_bytes: int = 0
    uid: int | None = None
    """Whose socket sends it, for rules about owners; only without `interface`."""
