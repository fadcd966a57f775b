"""What happens to a frame on an impaired cable: a machine without clock, chance from a seed.

It is told that a frame of so many bytes has arrived at a time, and gives the times at which that
frame leaves: none when it is lost, two when it is doubled. In this order, as in netem (Linux,
net/sched/sch_netem.c): loss, doubling, the queue's bound, the rate, the delay. A frame waits for
the rate behind those before it; the delay comes after, so that it costs no rate.

Loss in bursts is Gilbert's: a bad state that loses every frame, which a frame leaves with the
chance 1 / burst. Entered with the chance loss / (burst × (1 - loss)), it holds for the share `loss`
of all frames (E. N. Gilbert, Capacity of a Burst-Noise Channel, 1960).

Times are nanoseconds of any clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final, NamedTuple

from hostlab.spec.impairments import DEFAULT_QUEUE, Impairment

_SECOND: Final = 1_000_000_000


class Passage(NamedTuple):
    """One frame that gets through."""

    due_ns: int
    flip: int | None
    """The bit that is turned on the way, counted from the frame's first."""


class Fate:
    """One direction of one cable."""

    __slots__ = (
        "_bad",
        "_burst_begins",
        "_burst_ends",
        "_chance",
        "_corrupt",
        "_delay_ns",
        "_duplicate",
        "_free_ns",
        "_jitter_ns",
        "_loss",
        "_ns_a_byte",
        "_queue",
        "_reorder",
        "corrupted",
        "doubled",
        "full",
        "held",
        "lost",
        "overtaking",
    )

    def __init__(self, impairment: Impairment, seed: str) -> None:
        """Frames of the same lengths at the same times meet the same fate under the same seed."""
        self.reseed(seed)
        self._bad = False
        self._free_ns = 0
        self.held = 0
        """Frames that are under way."""
        self.lost = self.doubled = self.full = self.overtaking = self.corrupted = 0
        self.change(impairment)

    def reseed(self, seed: str) -> None:
        """Chance begins anew."""
        self._chance = Random(seed)

    def change(self, one: Impairment) -> None:
        """Another impairment from now on; what is under way keeps its time."""
        self._loss = one.loss
        self._burst_ends = 0.0
        self._burst_begins = 0.0
        if one.burst is not None:
            self._burst_ends = 1 / one.burst if one.loss < 1 else 0.0
            self._burst_begins = one.loss / (one.burst * (1 - one.loss)) if one.loss < 1 else 1.0
        else:
            self._bad = False
        self._duplicate = one.duplicate
        self._reorder = one.reorder
        self._corrupt = one.corrupt
        self._delay_ns = round(one.delay_s * _SECOND)
        self._jitter_ns = round(one.jitter_s * _SECOND)
        self._ns_a_byte = 0.0 if one.rate is None else 8 * _SECOND / one.rate
        if one.rate is None:
            self._free_ns = 0
        self._queue = DEFAULT_QUEUE if one.queue is None else one.queue

    def arrive(self, now_ns: int, length: int) -> Sequence[Passage]:
        """A frame has come; when it leaves, once, twice, or not at all."""
        chance = self._chance
        if self._loss and self._is_lost():
            self.lost += 1
            return ()
        if self._duplicate and chance.random() < self._duplicate:
            self.doubled += 1
            return [*self._pass(now_ns, length), *self._pass(now_ns, length)]
        return self._pass(now_ns, length)

    def leave(self) -> None:
        """A frame that was under way is no more."""
        self.held -= 1

    def _is_lost(self) -> bool:
        draw = self._chance.random()
        if not self._burst_begins:
            return draw < self._loss
        if self._bad:
            self._bad = draw >= self._burst_ends
        else:
            self._bad = draw < self._burst_begins
        return self._bad

    def _pass(self, now_ns: int, length: int) -> Sequence[Passage]:
        if self.held >= self._queue:
            self.full += 1
            return ()
        self.held += 1
        at = now_ns
        if self._ns_a_byte:
            at = self._free_ns = max(at, self._free_ns) + int(length * self._ns_a_byte)
        if self._delay_ns:
            at += self._delayed()
        flip = None
        if self._corrupt and self._chance.random() < self._corrupt:
            self.corrupted += 1
            flip = self._chance.randrange(length * 8)
        return (Passage(at, flip),)

    def _delayed(self) -> int:
        if self._reorder and self._chance.random() < self._reorder:
            self.overtaking += 1
            return 0
        if self._jitter_ns:
            return self._delay_ns + int((2 * self._chance.random() - 1) * self._jitter_ns)
        return self._delay_ns
