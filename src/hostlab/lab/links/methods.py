"""Which part of the kernel brings an impairment about, and how good it is at that.

netem does all of it where the kernel has it, but repeats no chance. Elsewhere a rate alone is tbf's
and a loss alone nft's; everything else, and whatever has a seed, is carried by the wire, a process.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from msgspec.structs import replace

from hostlab.linux import qdisc
from hostlab.linux.netlink import Netlink
from hostlab.spec.impairments import NONE, Impairment
from hostlab.spec.model import Interface

LOOPBACK: Final = 1


class Method(StrEnum):
    """How an interface's impairments are brought about."""

    NETEM = "netem"
    KERNEL = "tbf and nft"
    WIRE = "user-space wire"

    @property
    def limits(self) -> str:
        """How good it is, measured on two cores (docs/impairments.md)."""
        return _LIMITS[self]


_LIMITS: Final = {
    Method.NETEM: "the kernel's timers; what it receives can be several segments of TCP at once, "
    "and share their fate; chance is not repeatable",
    Method.KERNEL: "a packet of TCP that waits for its segmentation is shaped as its segments; "
    "chance is not repeatable",
    Method.WIRE: "a process: at 5,000 frames a second 95% are within 0.5 ms on a machine that has "
    "a processor for it, later where it has none; TCP gets 300 Mbit/s, and no more",
}


@dataclass(frozen=True, slots=True)
class Kernel:
    """What this kernel has."""

    netem: bool
    tbf: bool
    nft: bool


def probe(netlink: Netlink, *, nft: bool) -> Kernel:
    """Try it on the loopback of a network namespace that is nobody's but the lab's."""
    tries = (
        qdisc.netem_replace(LOOPBACK, Impairment(delay_s=0.001)),
        qdisc.tbf_replace(LOOPBACK, rate=1_000_000_000, queue=1000, mtu=1500),
    )
    found = []
    for request in tries:
        try:
            netlink.request([request])
        except OSError:
            found.append(False)
        else:
            netlink.request([qdisc.root_delete(LOOPBACK)])
            found.append(True)
    return Kernel(netem=found[0], tbf=found[1], nft=nft)


def method(interface: Interface, kernel: Kernel) -> Method:
    """The one that does all that is said, both ways: the simplest that can."""
    ways = (interface.sending, interface.receiving)
    if any(way.seed is not None for way in ways):
        return Method.WIRE
    if kernel.netem:
        return Method.NETEM
    can_shape = kernel.tbf or not any(way.rate for way in ways)
    can_drop = kernel.nft or not interface.sending.loss
    # A segment that was left whole to be cut by hardware is one packet to nft on its way in.
    if can_shape and can_drop and not interface.receiving.loss and all(map(_is_simple, ways)):
        return Method.KERNEL
    return Method.WIRE


def _is_simple(way: Impairment) -> bool:
    """Whether there is nothing but each packet's own loss, and a rate with its queue."""
    rest = replace(way, loss=0.0, rate=None, queue=None)
    return rest == NONE and (way.queue is None or way.rate is not None)
