"""Names, rotation and rates of logs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.init.logs.policy import (
    DAY_S,
    NAME_BYTES,
    Bucket,
    LogPolicy,
    dropped_notice,
    log_name,
    shifts,
)

pytestmark = pytest.mark.unit

SURROGATE = "\udcff"
"""A byte that is not UTF-8, as `os.environ` shows it."""


@pytest.mark.parametrize(
    ("job", "instance", "name"),
    [
        ("cron", "", "cron"),
        ("getty", "tty1", "getty-tty1"),
        ("net/dhcp", "eth0/a", "net_dhcp-eth0_a"),
        ("odd", "a b\n" + SURROGATE, "odd-a b\n?"),
        ("..", "", ".."),
    ],
)
def test_a_log_is_named_after_its_job_and_instance(job: str, instance: str, name: str) -> None:
    assert log_name(job, instance) == name


@given(st.text(min_size=1), st.text())
def test_a_name_is_always_one_that_a_file_may_have(job: str, instance: str) -> None:
    name = log_name(job, instance)
    assert 0 < len(name.encode()) <= NAME_BYTES
    assert not {"/", "\0"} & set(name)


def test_names_that_are_too_long_stay_different() -> None:
    one, other = log_name("a" * 300 + "1"), log_name("a" * 300 + "2")
    assert one != other
    assert one.startswith("aaa")


@given(st.sets(st.integers(1, 6)), st.integers(0, 5))
def test_a_rotation_loses_nothing_but_the_oldest_however_far_it_comes(
    present: set[int], kept: int
) -> None:
    before = {"log": "newest"} | {f"log.{n}": f"content {n}" for n in present if n <= kept}
    moves = shifts("log", present, kept)
    files = dict(before)
    overwritten = []
    for old, new in moves:
        if new in files:
            overwritten.append(new)
        files[new] = files.pop(old)
        assert set(before.values()) - set(files.values()) <= {before.get(f"log.{kept}")}
    full = kept > 0 and present >= set(range(1, kept + 1))
    assert overwritten == ([f"log.{kept}"] if full else [])
    if kept:
        assert "log" not in files
        assert files["log.1"] == "newest"
    ages = sorted(n for n in range(1, kept + 1) if f"log.{n}" in files)
    contents = [files[f"log.{n}"] for n in ages]
    order = ["newest", *(f"content {n}" for n in sorted(present))]
    assert contents == [content for content in order if content in contents]


def test_a_file_is_rotated_by_size_and_by_age_but_never_an_empty_one() -> None:
    policy = LogPolicy(max_bytes=100)
    assert policy.must_rotate(100, 0)
    assert not policy.must_rotate(99, 7 * DAY_S - 1)
    assert policy.must_rotate(1, 7 * DAY_S)
    assert not policy.must_rotate(0, 700 * DAY_S)


@pytest.mark.parametrize("field", ["max_bytes", "rate_bytes", "burst_bytes"])
def test_a_bound_of_nothing_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        LogPolicy(**{field: 0})


PACES = st.lists(st.tuples(st.floats(0, 10), st.integers(0, 5000)), max_size=12)


@given(st.integers(1, 1000), st.integers(1, 5000), PACES)
def test_never_more_passes_than_rate_and_burst_allow(
    rate: int, burst: int, paces: list[tuple[float, int]]
) -> None:
    policy = LogPolicy(rate_bytes=rate, burst_bytes=burst)
    bucket, now, passed = Bucket(policy, 0.0), 0.0, 0
    for pause, wanted in paces:
        now += pause
        count = min(wanted, bucket.room(now))
        bucket.spend(count)
        passed += count
        assert passed <= 2 * burst + rate * now + 1


@given(st.integers(1, 1000), st.integers(1, 5000), PACES)
def test_who_keeps_to_the_rate_loses_nothing(
    rate: int, burst: int, paces: list[tuple[float, int]]
) -> None:
    policy = LogPolicy(rate_bytes=rate, burst_bytes=burst)
    bucket, now = Bucket(policy, 0.0), 0.0
    saved = float(burst)
    for pause, wanted in paces:
        now += pause
        saved = min(burst, saved + pause * rate)
        # The last token is not spent: what has come to nothing by rounding would count as dropping.
        count = min(wanted, int(saved) - 2)
        if count > 0:
            assert bucket.room(now) >= count
            bucket.spend(count)
            saved -= count


@given(st.integers(1, 1000), st.integers(1, 5000), st.integers(0, 9000))
def test_once_lines_are_dropped_they_are_for_the_whole_pause(
    rate: int, burst: int, overdraft: int
) -> None:
    policy = LogPolicy(rate_bytes=rate, burst_bytes=burst)
    bucket = Bucket(policy, 0.0)
    bucket.spend(burst + overdraft)
    assert bucket.room(0.0) == 0
    wait = bucket.wait_s
    assert wait >= min(policy.pause_s, burst / rate)
    assert bucket.room(wait * 0.99) == 0
    assert bucket.room(wait * 1.01) >= min(rate, burst) - 1
    assert not bucket.is_dropping


def test_a_flood_is_cut_and_not_slowed_down() -> None:
    bucket, now, moves = Bucket(LogPolicy(rate_bytes=1 << 20, burst_bytes=1 << 20), 0.0), 0.0, 0
    while room := bucket.room(now):
        bucket.spend(min(room, 1 << 16))
        now += 1e-5
        moves += 1
    assert moves <= 18


def test_a_clock_that_goes_back_earns_nothing() -> None:
    bucket = Bucket(LogPolicy(rate_bytes=10, burst_bytes=200_000), 50.0)
    bucket.spend(100_000)
    assert [bucket.room(now) for now in (40.0, 50.0, 51.0)] == [100_000, 100_000, 100_010]


def test_what_is_missing_is_said_in_one_line() -> None:
    assert dropped_notice(3, 120, "disk full") == (
        b"hostlab: 3 lines (120 bytes) dropped: disk full\n"
    )
