"""The keys of `impair:`, how their values are written, and what an interface's come to.

A number without a unit is refused: a delay of 20 could be seconds or milliseconds, a loss of 1 a
packet in a hundred or every one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from hostlab.spec import units
from hostlab.spec.impairments import (
    DEFAULT_QUEUE,
    DIRECTIONS,
    NONE,
    Impairment,
    contradiction,
    made,
)
from hostlab.spec.shapes import Fields, Key, Said, Table, Text
from hostlab.spec.source import Source, Wrong, quoted

MAX_DELAY_S: Final = 60.0
MAX_RATE: Final = 100_000_000_000
MIN_RATE: Final = 1000
MAX_QUEUE: Final = 100_000

DELAY_PATTERN: Final = r"^(0|[0-9]{1,9}(\.[0-9]{1,9})?(us|ms|s))$"
SHARE_PATTERN: Final = r"^[0-9]{1,3}(\.[0-9]{1,9})?%$"
RATE_PATTERN: Final = r"^([0-9]{1,12}(\.[0-9]{1,9})?[KkMmGg]?[Bb]it(/s)?|none)$"
NUMBER_PATTERN: Final = r"^([0-9]{1,10}(\.[0-9]{1,6})?|none)$"

_DELAY = re.compile(r"(-?)([0-9]{1,9}(?:\.[0-9]{1,9})?)([a-zµ]*)")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_SHARE = re.compile(r"(-?)([0-9]{1,12}(?:\.[0-9]{1,12})?)(%?)")
_RATE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)([kmg]?)bit(?:/s)?")
_POWERS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_BURST = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")


def delay(word: str) -> float:
    """Seconds, from `20ms`, `1.5s`, `300us`; a number without a unit could be any of them."""
    found = _DELAY.fullmatch(word)
    if found and not found[3] and float(found[2]) == 0:
        return 0.0
    if not found or found[3] not in _SECONDS:
        hint = f"did you mean `{word}ms`?" if found and not found[3] else "write `20ms` or `1.5s`"
        message = f"{quoted(word)} is not a delay"
        raise Wrong(f"{message}: it has no unit" if found and not found[3] else message, hint)
    seconds = float(found[2]) * _SECONDS[found[3]]
    if found[1] and seconds:
        raise Wrong(f"{quoted(word)} is below zero: no packet arrives before it was sent")
    if seconds > MAX_DELAY_S:
        raise Wrong(f"{quoted(word)} is more than {MAX_DELAY_S:g} s")
    return seconds


def share(word: str) -> float:
    """A fraction of 1, from `1%`; a number without `%` could be either."""
    found = _SHARE.fullmatch(word)
    if not found:
        raise Wrong(f"{quoted(word)} is not a share", "write `1%` or `0.5%`")
    if not found[3] and float(found[2]):
        raise Wrong(f"{quoted(word)} is not a share: it has no `%`", f"did you mean `{word}%`?")
    if found[1] and float(found[2]):
        raise Wrong(f"{quoted(word)} is below zero")
    if float(found[2]) > 100:
        raise Wrong(f"{quoted(word)} is more than all: at most 100%")
    return float(found[2]) / 100


def rate(word: str) -> int:
    """Bits a second, from `10mbit`, `64kbit`, `1gbit/s`; powers of 1000."""
    found = _RATE.fullmatch(word.lower())
    if not found:
        hint = "write `10mbit`, `64kbit` or `1gbit`"
        if word.lower().endswith("bps"):
            hint += "; `bps` are bits to some and bytes to tc(8)"
        raise Wrong(f"{quoted(word)} is not a rate", hint)
    bits = int(float(found[1]) * _POWERS[found[2]])
    if not MIN_RATE <= bits <= MAX_RATE:
        raise Wrong(f"{quoted(word)} is not between 1kbit and 100gbit")
    return bits


def burst(word: str) -> float:
    """A mean number of packets, at least one."""
    if not _BURST.fullmatch(word) or float(word) < 1:
        raise Wrong(f"{quoted(word)} is not a number of packets, 1 or more")
    return float(word)


def _or_none(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Also `none`, which takes back what somebody else has said."""
    return lambda word: None if word == "none" else parse(word)


_DELAY_TEXT = Text("a time with its unit, as `20ms`", delay,
                   {"type": ["string", "integer"], "pattern": DELAY_PATTERN})  # fmt: skip
_SHARE_TEXT = Text("a share, as `1%`", share, {"type": "string", "pattern": SHARE_PATTERN})
_RATE_TEXT = Text("a rate, as `10mbit`", _or_none(rate),
                  {"type": "string", "pattern": RATE_PATTERN})  # fmt: skip
_BURST_TEXT = Text("a number of packets", _or_none(burst),
                   {"type": ["number", "string"], "pattern": NUMBER_PATTERN})  # fmt: skip
_QUEUE_TEXT = Text("a number of packets", _or_none(partial(units.between, 1, MAX_QUEUE)),
                   {"type": ["integer", "string"], "pattern": NUMBER_PATTERN})  # fmt: skip
_SEED_TEXT = Text("a number", _or_none(partial(units.between, 0, 2**32 - 1)),
                  {"type": ["integer", "string"], "pattern": NUMBER_PATTERN})  # fmt: skip

KEYS: Final = (
    Key("delay", _DELAY_TEXT, "How much later each packet arrives.", "20ms", "none"),
    Key("jitter", _DELAY_TEXT, "By how much the delay varies, evenly to both sides; packets can "
        "overtake one another.", "2ms", "none"),
    Key("loss", _SHARE_TEXT, "The share that does not arrive.", "1%", "none"),
    Key("burst", _BURST_TEXT, "How many packets in a row a loss takes, on average (Gilbert and "
        "Elliott's model); the share stays the same.", "5", "each packet by itself"),
    Key("duplicate", _SHARE_TEXT, "The share that arrives twice.", "0.1%", "none"),
    Key("reorder", _SHARE_TEXT, "The share that is not delayed, and so overtakes.", "5%", "none"),
    Key("corrupt", _SHARE_TEXT, "The share in which one bit is turned.", "0.1%", "none"),
    Key("rate", _RATE_TEXT, "How fast it carries, in bits a second.", "10mbit", "unbounded"),
    Key("queue", _QUEUE_TEXT, "How many packets may be under way at once; more are dropped.",
        "100", str(DEFAULT_QUEUE)),
    Key("seed", _SEED_TEXT, "Where chance begins: with one, the same packets meet the same fate "
        "each time.", "7", "chance need not be repeatable"),
)  # fmt: skip
PARSERS: Final = {key.name: key.shape.parse for key in KEYS if isinstance(key.shape, Text)}
"""By key, what reads a word; it raises `Wrong`."""

IMPAIRMENT = Table("impairment", "What happens to packets on their way.", KEYS)
IMPAIRMENTS = Table(
    "impairments",
    "What happens to packets on an interface's cable, both ways.",
    (
        *KEYS,
        Key("out", IMPAIRMENT, "Only to what the node sends.", "{loss: 1%}", "as both ways"),
        Key("in", IMPAIRMENT, "Only to what it receives.", "{rate: 10mbit}", "as both ways"),
    ),
)


def resolved(source: Source, segment: Fields, interface: Fields) -> tuple[Impairment, Impairment]:
    """(what the node sends, what it receives), of both `impair`; contradictions are reported."""
    if not interface:
        return _of(segment), NONE
    own = {key: said for key, said in interface.items() if key not in DIRECTIONS}
    sending = {**segment, **own, **interface.value("out", Fields())}
    receiving = {**own, **interface.value("in", Fields())}
    return checked(source, sending), checked(source, receiving)


def checked(source: Source, said: Mapping[str, Said]) -> Impairment:
    """The impairment of these keys; what cannot be so is reported."""
    found = _of(said)
    wrong = contradiction(found)
    if wrong is not None:
        key, message, hint = wrong
        source.report("value", message, said[key].key, hint)
    return found


def _of(said: Mapping[str, Said]) -> Impairment:
    return made({key: one.value for key, one in said.items()})
