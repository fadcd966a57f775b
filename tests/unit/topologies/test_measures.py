"""Speeds, delays and places in the words that files have for them."""

from __future__ import annotations

import pytest

from hostlab.topologies.measures import degrees, delay, distance_m, rate, rate_text

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("10 Gbps", 10e9), ("2.5 Gbit/s", 2.5e9), ("45 Mbps DS-3", 45e6), ("155Mb/s", 155e6),
        ("10G", 10e9), ("< 2.5 Gbps", 2.5e9), ("64k", 64e3), ("2500000000.0", 2.5e9),
        ("OC-192c", 192 * 51.84e6), ("STM-4", 4 * 155.52e6), ("T3", 44.736e6), ("E1", 2.048e6),
        ("Completion 2007-2008", None), ("", None), ("fast", None), ("0", None), ("-5", None),
        ("NY54", None), ("10 gates", None), ("1e400", None),
    ],
)  # fmt: skip
def test_a_speed(text: str, bits: float | None) -> None:
    assert rate(text) == bits


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20ms", 0.02), ("1.5 s", 1.5), ("7us", 7e-6), ("20", None), ("-1ms", None), ("9999s", None)],
)
def test_a_delay(text: str, seconds: float | None) -> None:
    assert delay(text) == seconds


def test_a_distance_over_the_ground() -> None:
    assert distance_m((0, 0), (0, 180)) == pytest.approx(20_015_087, abs=1)
    assert distance_m((51.5, 0), (51.5, 0)) == 0
    new_york, los_angeles = (40.71427, -74.00597), (34.05223, -118.24368)
    assert distance_m(new_york, los_angeles) == pytest.approx(3_936_000, rel=0.005)
    assert (degrees("51.5", 90), degrees("91", 90), degrees("nan", 90)) == (51.5, None, None)


def test_a_rate_as_people_write_it() -> None:
    assert [rate_text(bits) for bits in (9.953e9, 45e6, 64e3, 300)] == [
        "9.953 Gbit/s", "45 Mbit/s", "64 kbit/s", "300 bit/s"
    ]  # fmt: skip
