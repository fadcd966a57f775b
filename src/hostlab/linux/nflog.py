"""Packets that the packet filter logs to userspace: nfnetlink_log, linux/netfilter/nfnetlink_log.h.

The trace of legacy iptables comes this way where the namespace's logger of a family is
`nfnetlink_log`: a prefix `TRACE: TABLE:CHAIN:rule:NUMBER ` for each rule that a traced packet
passes, to group 0 (net/ipv4/netfilter/ip_tables.c, net/netfilter/nf_log.c).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from hostlab.errors import DecodeError
from hostlab.linux.netlink import Netlink, Request, attribute, attributes, messages

NETLINK_NETFILTER: Final = 12
NFNL_SUBSYS_ULOG: Final = 4
NFULNL_MSG_PACKET, NFULNL_MSG_CONFIG = 0, 1
NFULA_PACKET_HDR, NFULA_PREFIX, NFULA_HWHEADER = 1, 10, 16
NFULA_CFG_CMD, NFULA_CFG_MODE, NFULA_CFG_QTHRESH = 1, 2, 5
NFULNL_CFG_CMD_BIND: Final = 1
NFULNL_COPY_META: Final = 1
LOGGER: Final = "nfnetlink_log"
"""A value of net.netfilter.nf_log.FAMILY."""
_KIND: Final = NFNL_SUBSYS_ULOG << 8


class Logged(NamedTuple):
    """One packet that was logged."""

    family: int
    hook: int
    """NF_INET_*: 0 prerouting, 1 input, 2 forward, 3 output, 4 postrouting."""
    prefix: str


def listen(group: int = 0) -> Netlink:
    """A socket that hears a group of the caller's network namespace. Needs CAP_NET_ADMIN.

    Each packet is told of at once, without what is in it.
    """
    found = Netlink(NETLINK_NETFILTER)
    header = struct.pack("!BBH", socket.AF_UNSPEC, 0, group)
    bind = attribute(NFULA_CFG_CMD, bytes([NFULNL_CFG_CMD_BIND]))
    mode = attribute(NFULA_CFG_MODE, struct.pack("!IBx", 0, NFULNL_COPY_META))
    mode += attribute(NFULA_CFG_QTHRESH, struct.pack("!I", 1))
    kind = _KIND | NFULNL_MSG_CONFIG
    try:
        found.request([Request(kind, 0, header + bind, f"hear group {group} of NFLOG")])
        found.request([Request(kind, 0, header + mode, f"set group {group} of NFLOG")])
    except OSError:
        found.close()
        raise
    return found


def decode(data: bytes) -> Iterator[Logged]:
    """Every logged packet of a datagram; DecodeError of a broken one."""
    for kind, _, _, body in messages(data):
        if kind != _KIND | NFULNL_MSG_PACKET:
            continue
        if len(body) < 4:
            raise DecodeError("nflog", f"a message of {len(body)} bytes")
        found = dict(attributes(body[4:]))
        header = found.get(NFULA_PACKET_HDR, b"")
        if len(header) < 4:
            raise DecodeError("nflog", "a packet without its hook")
        prefix = found.get(NFULA_PREFIX, b"").rstrip(b"\0").decode(errors="replace")
        yield Logged(body[0], header[2], prefix)
