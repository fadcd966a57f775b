"""What a cable does to packets, each direction apart: delay, loss, rate and the like.

An interface's `impair` is about both ways of its cable, `out` and `in` about one. A segment's is
met once by every packet that crosses it: it is that of the `out` of each interface there, and what
an interface says itself stands before it, key by key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

DEFAULT_QUEUE: Final = 1000
"""Packets, as netem has it."""
DIRECTIONS: Final = ("out", "in")
"""What the node sends, and what it receives."""


class Impairment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What happens to packets that go one way; without anything said, nothing does.

    Shares are fractions of 1.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    """Each packet's delay is drawn evenly from `delay_s` less this to `delay_s` and this."""
    loss: float = 0.0
    burst: float | None = None
    """Losses come so many packets in a row, on average; None: each packet by itself."""
    duplicate: float = 0.0
    reorder: float = 0.0
    """This share is not delayed, and so overtakes what is."""
    corrupt: float = 0.0
    """This share has one bit turned."""
    rate: int | None = None
    """Bits a second."""
    queue: int | None = None
    """Packets under way at once; None: `DEFAULT_QUEUE`."""
    seed: int | None = None
    """Chance begins here; None: at the same place each time."""

    def __bool__(self) -> bool:
        return self != NONE

    def describe(self) -> str:
        """In the words of the command line; `none` when nothing happens."""
        return " ".join(f"{key}={word}" for key, word in self.words()) or "none"

    def words(self) -> Iterator[tuple[str, str]]:
        """Each key that says something, as it can be written."""
        for key, seconds in (("delay", self.delay_s), ("jitter", self.jitter_s)):
            if seconds:
                yield key, f"{seconds * 1000:.10g}ms"
        for key in ("loss", "duplicate", "reorder", "corrupt"):
            if share := getattr(self, key):
                yield key, f"{share * 100:.10g}%"
        if self.burst is not None:
            yield "burst", f"{self.burst:g}"
        if self.rate is not None:
            yield "rate", _rate_words(self.rate)
        for key, number in (("queue", self.queue), ("seed", self.seed)):
            if number is not None:
                yield key, str(number)


NONE: Final = Impairment()


def _rate_words(rate: int) -> str:
    for letter, factor in (("g", 10**9), ("m", 10**6), ("k", 10**3)):
        if rate >= factor:
            return f"{rate / factor:.12g}{letter}bit"
    return f"{rate}bit"


_ATTRIBUTES: Final = {"delay": "delay_s", "jitter": "jitter_s"}


def made(values: Mapping[str, Any], base: Impairment = NONE) -> Impairment:
    """An impairment of values by their key's name; what is not named stays as in `base`."""
    named = {_ATTRIBUTES.get(key, key): value for key, value in values.items()}
    found = msgspec.structs.asdict(base) | named
    # By name only what says something: msgspec leaves out a default where it is the very object.
    told = {field: value for field, value in found.items() if value != getattr(NONE, field)}
    return Impairment(**told) if told else NONE


def contradiction(one: Impairment) -> tuple[str, str, str] | None:
    """The first thing that cannot be so: the key it is about, what is wrong, what to do."""
    if one.jitter_s > one.delay_s:
        message = "jitter is more than the delay: no packet arrives before it was sent"
        return "jitter", message, "give it a `delay` of at least that"
    if one.reorder and not one.delay_s:
        return "reorder", "nothing is overtaken where nothing is delayed", "give it a `delay`"
    if one.burst is not None and not one.loss:
        return "burst", "there is no loss to come in bursts", "give it a `loss`"
    if one.burst is not None and one.loss < 1 and one.burst < one.loss / (1 - one.loss):
        least = one.loss / (1 - one.loss)
        message = f"so much loss comes in bursts of {least:.3g} or more"
        return "burst", message, f"write {least:.3g} or more"
    return None
