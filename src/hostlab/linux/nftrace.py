"""nf_tables' trace of packets: NFT_MSG_TRACE of nfnetlink, linux/netfilter/nf_tables.h.

Every rule that a traced packet passes, and the policy at a chain's end, is a message to whoever
is in the group in that network namespace. The first message of each base chain that a packet goes
through carries its headers as they are there (net/netfilter/nf_tables_trace.c).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from hostlab.errors import DecodeError

NETLINK_NETFILTER: Final = 12
NFNLGRP_NFTRACE: Final = 9
NFNL_SUBSYS_NFTABLES: Final = 10
NFT_MSG_TRACE: Final = 17
NFT_TRACETYPE_POLICY, NFT_TRACETYPE_RETURN, NFT_TRACETYPE_RULE = 1, 2, 3
NFT_CONTINUE, NFT_JUMP, NFT_GOTO, NFT_RETURN = -1, -3, -4, -5
NF_DROP, NF_ACCEPT, NF_STOLEN, NF_QUEUE = 0, 1, 2, 3
RECEIVE_BYTES: Final = 1 << 13
"""A message is far below this: names of up to 128 bytes and 80 bytes of headers."""
WANTED_BUFFER_BYTES: Final = 8 << 20
_SOL_NETLINK: Final = 270
_NETLINK_ADD_MEMBERSHIP: Final = 1
_SO_RCVBUFFORCE: Final = 33

_MESSAGE: Final = struct.Struct("=IHHIIB")
_HEADER_BYTES: Final = 20
"""struct nlmsghdr and struct nfgenmsg."""
_ATTRIBUTE: Final = struct.Struct("=HH")
_U32: Final = struct.Struct("!I")
_S32: Final = struct.Struct("!i")
_U64: Final = struct.Struct("!Q")
_TYPE: Final = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_TRACE
_TYPE_MASK: Final = 0x3FFF
(_TABLE, _CHAIN, _HANDLE, _KIND, _VERDICT, _ID) = range(1, 7)
(_LL_HEADER, _NETWORK_HEADER, _TRANSPORT_HEADER) = range(7, 10)
(_IIF, _OIF, _MARK, _POLICY) = (10, 12, 14, 16)
_VERDICT_CODE, _VERDICT_CHAIN = 1, 2


class TraceMessage(NamedTuple):
    """One step of one packet."""

    family: int
    """NFPROTO_* of the base chain, which is its table's: 1 inet, 2 ip, 5 netdev, 10 ip6."""
    table: str
    chain: str
    type: int
    """NFT_TRACETYPE_*."""
    id: int
    """The same for each message of a packet, and for many another packet."""
    handle: int
    """The rule's; 0 of a policy and of a chain's end."""
    verdict: int
    """NF_* or NFT_*, of a policy too."""
    jump: str
    """The chain of NFT_JUMP and NFT_GOTO."""
    ll_header: bytes
    network_header: bytes
    transport_header: bytes
    iif: int
    oif: int
    mark: int


def trace_socket() -> socket.socket:
    """A socket that hears the traces of the caller's network namespace. Needs CAP_NET_ADMIN."""
    found = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER
    )
    try:
        found.bind((0, 0))
        found.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTRACE)
    except OSError:
        found.close()
        raise
    return found


def widen(found: socket.socket) -> None:
    """As large a receive buffer as there may be: above net.core.rmem_max only for the real root."""
    try:
        found.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, WANTED_BUFFER_BYTES)
    except PermissionError:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WANTED_BUFFER_BYTES)


def decode(data: bytes) -> Iterator[TraceMessage]:
    """Every trace of a datagram; DecodeError of a broken one."""
    offset, end = 0, len(data)
    while offset + _HEADER_BYTES <= end:
        length, kind, _, _, _, family = _MESSAGE.unpack_from(data, offset)
        if length < _HEADER_BYTES or offset + length > end:
            raise DecodeError("nftrace", f"message of {length} bytes at {offset} of {end}")
        if kind == _TYPE:
            yield _message(family, data, offset + _HEADER_BYTES, offset + length)
        offset += length + (-length & 3)


def _message(family: int, data: bytes, offset: int, end: int) -> TraceMessage:
    # Flat and without a generator: this runs for each rule that each packet passes.
    table = chain = jump = b""
    kind = number = handle = verdict = iif = oif = mark = 0
    link = network = transport = b""
    try:
        while offset + 4 <= end:
            length, name = _ATTRIBUTE.unpack_from(data, offset)
            if length < 4 or offset + length > end:
                raise DecodeError("nftrace", f"attribute of {length} bytes at {offset} of {end}")
            name &= _TYPE_MASK
            start = offset + 4
            if name == _TABLE:
                table = data[start : offset + length - 1]
            elif name == _CHAIN:
                chain = data[start : offset + length - 1]
            elif name == _HANDLE:
                (handle,) = _U64.unpack_from(data, start)
            elif name == _KIND:
                (kind,) = _U32.unpack_from(data, start)
            elif name == _VERDICT:
                verdict, jump = _verdict(data, start, offset + length)
            elif name == _ID:
                (number,) = _U32.unpack_from(data, start)
            elif name == _POLICY:
                (verdict,) = _U32.unpack_from(data, start)
            elif name == _LL_HEADER:
                link = data[start : offset + length]
            elif name == _NETWORK_HEADER:
                network = data[start : offset + length]
            elif name == _TRANSPORT_HEADER:
                transport = data[start : offset + length]
            elif name == _IIF:
                (iif,) = _U32.unpack_from(data, start)
            elif name == _OIF:
                (oif,) = _U32.unpack_from(data, start)
            elif name == _MARK:
                (mark,) = _U32.unpack_from(data, start)
            offset += length + (-length & 3)
        names = table.decode(), chain.decode(), jump.decode()
    except (struct.error, UnicodeDecodeError) as error:
        raise DecodeError("nftrace", f"a trace that means nothing: {error}") from None
    return TraceMessage(
        family, names[0], names[1], kind, number, handle, verdict, names[2], link, network,
        transport, iif, oif, mark,
    )  # fmt: skip


def _verdict(data: bytes, offset: int, end: int) -> tuple[int, bytes]:
    code, chain = NFT_CONTINUE, b""
    while offset + 4 <= end:
        length, name = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4 or offset + length > end:
            raise DecodeError("nftrace", f"verdict of {length} bytes at {offset} of {end}")
        if name & _TYPE_MASK == _VERDICT_CODE:
            (code,) = _S32.unpack_from(data, offset + 4)
        elif name & _TYPE_MASK == _VERDICT_CHAIN:
            chain = data[offset + 4 : offset + length - 1]
        offset += length + (-length & 3)
    return code, chain
