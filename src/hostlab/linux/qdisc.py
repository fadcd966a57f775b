"""Queueing disciplines at the root of a link: netem and tbf, rtnetlink(7), tc-netem(8), tc-tbf(8).

Structures are those of include/uapi/linux/pkt_sched.h. Times that the kernel wants in ticks are
written in its own: 64 ns (/proc/net/psched, PSCHED_SHIFT), the same on every kernel since 2.6.31.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from hostlab.linux.netlink import (
    NLM_F_CREATE,
    NLM_F_REPLACE,
    Netlink,
    Request,
    attribute,
    attributes,
)
from hostlab.linux.rtnetlink import NLA_F_NESTED
from hostlab.spec.impairments import DEFAULT_QUEUE, Impairment

RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
TC_H_ROOT: Final = 0xFFFF_FFFF
OURS: Final = 0x6C68 << 16
"""The handle of a qdisc that hostlab made, `6c68:`."""
TCA_KIND, TCA_OPTIONS = 1, 2
TCA_NETEM_REORDER, TCA_NETEM_CORRUPT, TCA_NETEM_LOSS, TCA_NETEM_RATE = 3, 4, 5, 6
TCA_NETEM_RATE64: Final = 8
NETEM_LOSS_GE: Final = 2
TCA_TBF_PARMS, TCA_TBF_RATE64, TCA_TBF_BURST = 1, 4, 6
TC_LINKLAYER_ETHERNET: Final = 1
TICK_NS: Final = 64
TBF_BURST_S: Final = 0.004
"""How much of its rate a bucket holds: a timer's tick of 250 Hz."""

_TCMSG: Final = struct.Struct("=BxxxiIII")
_NETEM_QOPT: Final = struct.Struct("=6I")  # latency, limit, loss, gap, duplicate, jitter
_SHARE_CORRELATION: Final = struct.Struct("=II")
_NETEM_RATE: Final = struct.Struct("=IiIi")
_NETEM_GEMODEL: Final = struct.Struct("=4I")  # p, r, h, k1
_TBF_QOPT: Final = struct.Struct("=12s12sIII")  # rate, peakrate, limit, buffer, mtu
_RATESPEC: Final = struct.Struct("=BBHhHI")  # cell_log, linklayer, overhead, cell_align, mpu, rate
_U32: Final = struct.Struct("=I")
_U64: Final = struct.Struct("=Q")
_MAX_U32: Final = 0xFFFF_FFFF


def _share(fraction: float) -> int:
    """A fraction as the kernel has probabilities: of all that 32 bits hold."""
    return round(fraction * _MAX_U32)


def _ticks(seconds: float) -> int:
    return round(seconds * 1_000_000_000 / TICK_NS)


def _root(kind: int, flags: int, index: int, what: str, *, body: bytes = b"") -> Request:
    return Request(kind, flags, _TCMSG.pack(0, index, OURS, TC_H_ROOT, 0) + body, what)


def _replace(index: int, kind: str, options: bytes) -> Request:
    body = attribute(TCA_KIND, kind.encode() + b"\0") + attribute(TCA_OPTIONS, options)
    flags = NLM_F_CREATE | NLM_F_REPLACE
    return _root(RTM_NEWQDISC, flags, index, f"{kind} on link {index}", body=body)


def netem_replace(index: int, one: Impairment) -> Request:
    """The whole of an impairment but its seed, as netem brings it about.

    ENOENT where the kernel has no netem.
    """
    loss = 0 if one.burst is not None else _share(one.loss)
    queue = DEFAULT_QUEUE if one.queue is None else one.queue
    gap = 1 if one.reorder else 0
    delay, jitter = _ticks(one.delay_s), _ticks(one.jitter_s)
    options = _NETEM_QOPT.pack(delay, queue, loss, gap, _share(one.duplicate), jitter)
    if one.reorder:
        options += attribute(TCA_NETEM_REORDER, _SHARE_CORRELATION.pack(_share(one.reorder), 0))
    if one.corrupt:
        options += attribute(TCA_NETEM_CORRUPT, _SHARE_CORRELATION.pack(_share(one.corrupt), 0))
    if one.burst is not None:
        begins = one.loss / (one.burst * (1 - one.loss)) if one.loss < 1 else 1.0
        ends = 1 / one.burst if one.loss < 1 else 0.0
        model = _NETEM_GEMODEL.pack(_share(begins), _share(ends), 0, 0)
        options += attribute(TCA_NETEM_LOSS | NLA_F_NESTED, attribute(NETEM_LOSS_GE, model))
    if one.rate is not None:
        bytes_a_second = one.rate // 8
        if bytes_a_second > _MAX_U32:
            options += attribute(TCA_NETEM_RATE64, _U64.pack(bytes_a_second))
        rate = _NETEM_RATE.pack(min(bytes_a_second, _MAX_U32), 0, 0, 0)
        options += attribute(TCA_NETEM_RATE, rate)
    return _replace(index, "netem", options)


def tbf_replace(index: int, *, rate: int, queue: int, mtu: int) -> Request:
    """A rate in bits a second, and how many of the longest packets may wait for it."""
    bytes_a_second = rate // 8
    longest = mtu + 18
    burst = max(2 * longest, round(bytes_a_second * TBF_BURST_S))
    low = min(bytes_a_second, _MAX_U32)
    spec = _RATESPEC.pack(0, TC_LINKLAYER_ETHERNET, 0, -1, 0, low)
    limit = min(queue * longest, _MAX_U32)
    buffer = min(_ticks(burst / bytes_a_second), _MAX_U32)
    options = attribute(TCA_TBF_PARMS, _TBF_QOPT.pack(spec, bytes(12), limit, buffer, 0))
    options += attribute(TCA_TBF_BURST, _U32.pack(burst))
    if bytes_a_second > _MAX_U32:
        options += attribute(TCA_TBF_RATE64, _U64.pack(bytes_a_second))
    return _replace(index, "tbf", options)


def root_delete(index: int) -> Request:
    """Take the qdisc of ours away; ENOENT where there is none (EINVAL before Linux 5.1)."""
    return _root(RTM_DELQDISC, 0, index, f"delete qdisc of link {index}")


def roots(netlink: Netlink) -> Iterator[tuple[int, str, int]]:
    """(link, kind, handle) of every root qdisc of the namespace."""
    request = Request(RTM_GETQDISC, 0, _TCMSG.pack(0, 0, 0, 0, 0), "list qdiscs")
    for kind, body in netlink.dump(request):
        if kind != RTM_NEWQDISC or len(body) < _TCMSG.size:
            continue
        _, index, handle, parent, _ = _TCMSG.unpack_from(body)
        found = dict(attributes(body[_TCMSG.size :]))
        if parent == TC_H_ROOT:
            yield index, found.get(TCA_KIND, b"").rstrip(b"\0").decode(), handle
