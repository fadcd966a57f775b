"""What files say of links and places: speeds, delays, coordinates, in whatever words they use."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

FIBRE_METRES_PER_S: Final = 200_000_000
"""Of light in glass: two thirds of that in a vacuum."""
EARTH_METRES: Final = 6_371_000
"""Its mean radius (IUGG)."""
MAX_RATE_BPS: Final = 1e15
MAX_DELAY_S: Final = 3600.0

_PREFIXES: Final = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_RATE: Final = re.compile(
    r"(?<![\w.-])(\d+(?:\.\d+)?)\s*([kmgt]?)\s?(?:bps|bits?(?:/s|ps)?|b/s|b)?(?![\w-])",
    re.IGNORECASE,
)
_CIRCUITS: Final[tuple[tuple[re.Pattern[str], Mapping[str, float] | float], ...]] = (
    (re.compile(r"\bOC-?\s?(\d+)", re.IGNORECASE), 51.84e6),
    (re.compile(r"\bSTM-?\s?(\d+)", re.IGNORECASE), 155.52e6),
    (re.compile(r"\b(?:DS|T)-?([13])\b", re.IGNORECASE), {"1": 1.544e6, "3": 44.736e6}),
    (re.compile(r"\bE-?([13])\b", re.IGNORECASE), {"1": 2.048e6, "3": 34.368e6}),
)
"""Telephone circuits by their names: SONET in 51.84 Mbit/s (ANSI T1.105), SDH in 155.52 (G.707),
and the older hierarchies of America and Europe (G.702)."""
_DELAY: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(us|µs|ms|s)", re.IGNORECASE)
_SECONDS: Final = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}


def rate(text: str) -> float | None:
    """Bits a second of `10 Gbps`, `2.5 Gbit/s`, `45 Mbps DS-3`, `OC-192c`; None when it says none.

    A number alone is bits a second.
    """
    text = text[:200]
    for found in _RATE.finditer(text):
        if found[2] or found[0] == text.strip():
            return _sensible(float(found[1]) * _PREFIXES[found[2].lower()], MAX_RATE_BPS)
    for pattern, unit in _CIRCUITS:
        circuit = pattern.search(text)
        if circuit:
            each = unit * int(circuit[1][:9]) if isinstance(unit, float) else unit[circuit[1]]
            return _sensible(each, MAX_RATE_BPS)
    return None


def delay(text: str) -> float | None:
    """Seconds of `20ms`, `1.5 s`; None when it says none, as a number without a unit does."""
    found = _DELAY.fullmatch(text[:40].strip())
    return (
        None if not found else _sensible(float(found[1]) * _SECONDS[found[2].lower()], MAX_DELAY_S)
    )


def _sensible(value: float, most: float) -> float | None:
    return value if 0 < value <= most else None


def degrees(text: str, most: float) -> float | None:
    """A coordinate in degrees, at most `most` from zero; None when it is none."""
    try:
        value = float(text[:40])
    except ValueError:
        return None
    return value if -most <= value <= most else None


def distance_m(here: tuple[float, float], there: tuple[float, float]) -> float:
    """Metres between two places (latitude, longitude) over the ground: the haversine formula."""
    first, second = math.radians(here[0]), math.radians(there[0])
    across = math.radians(there[1] - here[1])
    half = math.sin((second - first) / 2) ** 2
    half += math.cos(first) * math.cos(second) * math.sin(across / 2) ** 2
    return 2 * EARTH_METRES * math.asin(math.sqrt(min(1.0, half)))


def rate_text(bits: float) -> str:
    """A rate as people write it: `9.953 Gbit/s`."""
    for letter, unit in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if bits >= unit:
            return f"{bits / unit:.4g} {letter}bit/s"
    return f"{bits:.4g} bit/s"
