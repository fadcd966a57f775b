"""Tables of nf_tables: nfnetlink, include/uapi/linux/netfilter/nf_tables.h.

`nft list tables` fetches every rule first (nft 1.0.6); the kernel does not ask for that.
"""

from __future__ import annotations

import struct
from typing import Final

from hostlab.errors import DecodeError
from hostlab.linux.netlink import Netlink, Request, attributes

NETLINK_NETFILTER: Final = 12
NFNL_SUBSYS_NFTABLES: Final = 10
NFT_MSG_NEWTABLE, NFT_MSG_GETTABLE = 0, 1
NFT_MSG_GETGEN: Final = 16
NFTA_GEN_ID: Final = 1
NFTA_TABLE_NAME: Final = 1
NFPROTO: Final = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
"""A family's number -> nft's word."""
_NFGENMSG: Final = struct.Struct("=BBH")
_KIND: Final = NFNL_SUBSYS_NFTABLES << 8


def tables() -> tuple[tuple[str, str], ...]:
    """(family, name) of every table of this network namespace.

    Needs CAP_NET_ADMIN in it; OSError without it, or where the kernel has no nf_tables.
    """
    body = _NFGENMSG.pack(0, 0, 0)
    request = Request(_KIND | NFT_MSG_GETTABLE, 0, body, "list tables")
    with Netlink(NETLINK_NETFILTER) as netlink:
        return tuple(
            _decoded(body)
            for kind, body in netlink.dump(request)
            if kind == _KIND | NFT_MSG_NEWTABLE
        )


def generation(netlink: Netlink) -> int:
    """How often the ruleset of the namespace has been changed; `netlink` is NETLINK_NETFILTER's.

    Of nf_tables, which iptables-nft speaks too. OSError as `tables`.
    """
    body = _NFGENMSG.pack(0, 0, 0)
    request = Request(NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN, 0, body, "ask the generation")
    for answer in netlink.ask(request):
        found = dict(attributes(answer[_NFGENMSG.size :])).get(NFTA_GEN_ID, b"")
        if len(found) == 4:
            return int.from_bytes(found)
    raise DecodeError("nftables", "no generation in the answer")


def _decoded(body: bytes) -> tuple[str, str]:
    if len(body) < _NFGENMSG.size:
        raise DecodeError("nftables", f"a table's message of {len(body)} bytes")
    family = body[0]
    name = dict(attributes(body[_NFGENMSG.size :])).get(NFTA_TABLE_NAME, b"")
    return NFPROTO.get(family, str(family)), name.rstrip(b"\0").decode(errors="replace")
