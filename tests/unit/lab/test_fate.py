"""What happens to a frame: shares within their binomial bounds, order, rate, queue, repetition."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.lab.links.fate import Fate
from hostlab.spec.impairments import Impairment

pytestmark = pytest.mark.unit

FRAMES = 800
STEP_NS = 200_000
"""Between two frames: 5,000 a second."""
BYTES = 100
SIGMAS = 8
"""Of a share's spread; a campaign of a million examples meets nothing beyond."""

shares = st.floats(0.01, 0.99)
seeds = st.integers(0, 2**32 - 1).map(str)


def fates(fate: Fate, count: int = FRAMES) -> list[list[int]]:
    """When each of some frames leaves, if at all; each has left before the next one comes."""
    found = []
    for number in range(count):
        passages = fate.arrive(number * STEP_NS, BYTES)
        found.append([passage.due_ns for passage in passages])
        for _ in passages:
            fate.leave()
    return found


def assert_share(found: int, share: float, *, spread: float = 1.0) -> None:
    deviation = math.sqrt(FRAMES * share * (1 - share) * spread)
    assert abs(found - FRAMES * share) < SIGMAS * (deviation + 1)


@given(shares, seeds)
def test_losses_are_within_their_binomial_bounds(loss: float, seed: str) -> None:
    fate = Fate(Impairment(loss=loss), seed)
    lost = sum(not dues for dues in fates(fate))
    assert_share(lost, loss)
    assert fate.lost == lost


@given(shares, seeds)
def test_doubles_are_within_their_binomial_bounds(share: float, seed: str) -> None:
    found = fates(Fate(Impairment(duplicate=share), seed))
    assert {len(dues) for dues in found} == {1, 2}
    assert_share(sum(len(dues) == 2 for dues in found), share)


@given(shares, seeds)
def test_corrupted_frames_have_one_bit_of_theirs_turned(share: float, seed: str) -> None:
    fate = Fate(Impairment(corrupt=share), seed)
    flips = []
    for number in range(FRAMES):
        (passage,) = fate.arrive(number * STEP_NS, BYTES)
        flips.append(passage.flip)
        fate.leave()
    turned = [bit for bit in flips if bit is not None]
    assert_share(len(turned), share)
    assert set(turned) <= set(range(BYTES * 8))
    assert len(set(turned)) > len(turned) ** 0.5 / 4


@given(st.floats(0.05, 0.5), st.floats(1.5, 20), seeds)
def test_bursts_keep_the_share_and_have_their_length(loss: float, burst: float, seed: str) -> None:
    lost = [not dues for dues in fates(Fate(Impairment(loss=loss, burst=burst), seed))]
    # Frames of a burst share their fate, so the spread is that of as many fewer draws.
    assert_share(sum(lost), loss, spread=2 * burst)
    begun = lost[0] + sum(now and not before for before, now in pairwise(lost))
    length = sum(lost) / max(1, begun)
    assert abs(length - burst) < SIGMAS * burst / math.sqrt(max(1, begun)) + 0.5


@given(st.floats(1, 50), seeds)
def test_a_loss_of_all_is_of_all(burst: float, seed: str) -> None:
    assert not any(fates(Fate(Impairment(loss=1.0), seed), 100))
    assert not any(fates(Fate(Impairment(loss=1.0, burst=burst), seed), 100))


@given(st.floats(0.001, 1), st.floats(0, 1), seeds)
def test_the_delay_is_even_round_what_is_asked(delay: float, part: float, seed: str) -> None:
    one = Impairment(delay_s=delay, jitter_s=delay * part)
    late = [dues[0] - number * STEP_NS for number, dues in enumerate(fates(Fate(one, seed)))]
    delay_ns, jitter_ns = delay * 1e9, delay * part * 1e9
    assert delay_ns - jitter_ns - 2 <= min(late)
    assert max(late) <= delay_ns + jitter_ns + 2
    mean = sum(late) / FRAMES
    assert abs(mean - delay_ns) < SIGMAS * (jitter_ns / math.sqrt(3 * FRAMES) + 1)


@given(st.floats(0, 1), st.one_of(st.none(), st.integers(10_000, 10**9)), shares, seeds)
def test_without_jitter_and_reordering_nothing_is_overtaken(
    delay: float, rate: int | None, loss: float, seed: str
) -> None:
    one = Impairment(delay_s=delay, rate=rate, loss=loss, duplicate=loss)
    dues = [due for some in fates(Fate(one, seed), 500) for due in some]
    assert dues == sorted(dues)


@given(shares, seeds)
def test_what_is_reordered_is_not_delayed(share: float, seed: str) -> None:
    fate = Fate(Impairment(delay_s=0.02, reorder=share), seed)
    late = [dues[0] - number * STEP_NS for number, dues in enumerate(fates(fate))]
    assert set(late) == {0, 20_000_000}
    assert_share(late.count(0), share)
    assert fate.overtaking == late.count(0)


@given(
    st.lists(st.tuples(st.integers(0, 10**7), st.integers(60, 1514)), min_size=1, max_size=100),
    st.integers(10_000, 10**9),
)
def test_no_more_than_the_rate_gets_through(frames: list[tuple[int, int]], rate: int) -> None:
    fate = Fate(Impairment(rate=rate, queue=1000), "0")
    now = before = 0
    for gap, length in frames:
        now += gap
        (passage,) = fate.arrive(now, length)
        begun = max(now, before)
        assert 0 <= begun + length * 8 * 10**9 / rate - passage.due_ns <= 1
        before = passage.due_ns


@given(st.integers(1, 50), st.lists(st.booleans(), min_size=1, max_size=300))
def test_the_queue_holds_what_it_holds(queue: int, comings: list[bool]) -> None:
    fate = Fate(Impairment(delay_s=1.0, queue=queue), "0")
    held = dropped = 0
    for comes in comings:
        if comes:
            passages = fate.arrive(0, BYTES)
            assert len(passages) == (held < queue)
            dropped += not passages
            held += len(passages)
        elif held:
            fate.leave()
            held -= 1
        assert fate.held == held
    assert fate.full == dropped


@given(seeds)
def test_a_seed_repeats_a_run_and_another_does_not(seed: str) -> None:
    one = Impairment(delay_s=0.02, jitter_s=0.01, loss=0.1, burst=3, duplicate=0.1, reorder=0.1)
    found = fates(Fate(one, seed), 300)
    assert fates(Fate(one, seed), 300) == found
    assert fates(Fate(one, seed + "x"), 300) != found
    again = Fate(one, "another")
    again.reseed(seed)
    assert fates(again, 300) == found


def test_a_change_is_for_what_comes_next() -> None:
    fate = Fate(Impairment(loss=1.0), "0")
    assert not fate.arrive(0, BYTES)
    fate.change(Impairment(delay_s=0.001))
    assert fate.arrive(5, BYTES) == ((1_000_005, None),)
    fate.change(Impairment())
    assert fate.arrive(6, BYTES) == ((6, None),)
    assert (fate.held, fate.lost) == (2, 1)
