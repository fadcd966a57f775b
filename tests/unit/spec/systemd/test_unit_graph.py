"""Pulls, and circles in the order: named, and broken at the weakest edge."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.spec.systemd.graph import Edge, Strength, break_cycles, find_cycle, pull

pytestmark = pytest.mark.unit
DEFAULT, PLAIN, WANTED, REQUIRED = Strength


def test_a_pull_is_everything_that_is_needed_in_turn() -> None:
    pulls = {"a": ["b"], "b": ["c", "a"], "c": [], "d": ["a"]}
    assert pull("a", pulls) == {"b", "c"}
    assert pull("c", pulls) == frozenset()


@pytest.mark.parametrize("weakest", list(Strength)[:-1])
def test_the_weakest_edge_of_a_circle_goes(weakest: Strength) -> None:
    edges = [Edge("a", "b", REQUIRED), Edge("b", "c", weakest), Edge("c", "a", REQUIRED)]
    kept, cycles = break_cycles([*edges, Edge("c", "d", DEFAULT)])
    assert kept == {edges[0], edges[2], Edge("c", "d", DEFAULT)}
    assert str(cycles[0]) == "ordering cycle: a after b after c after a; `b after c` is ignored"


def test_an_edge_counts_as_its_strongest_reason() -> None:
    twice = [Edge("a", "b", DEFAULT), Edge("a", "b", REQUIRED), Edge("b", "a", PLAIN)]
    kept, _ = break_cycles(twice)
    assert kept == {Edge("a", "b", REQUIRED)}


def test_a_unit_behind_itself_is_a_circle_too() -> None:
    kept, cycles = break_cycles([Edge("a", "a")])
    assert (kept, cycles[0].units) == (frozenset(), ("a",))


def test_a_long_chain_needs_no_recursion() -> None:
    edges = [Edge(f"u{n}", f"u{n + 1}") for n in range(5000)]
    assert break_cycles(edges) == (frozenset(edges), ())


@given(
    st.lists(
        st.builds(
            Edge, st.sampled_from("abcdef"), st.sampled_from("abcdef"), st.sampled_from(Strength)
        )
    )
)
def test_what_is_left_has_no_circle_and_only_circles_cost_edges(edges: list[Edge]) -> None:
    kept, cycles = break_cycles(edges)
    after: dict[str, list[str]] = {}
    for edge in kept:
        after.setdefault(edge.later, []).append(edge.earlier)
    assert find_cycle(after) is None
    pairs = {(edge.later, edge.earlier) for edge in edges}
    assert len(pairs) == len(kept) + len(cycles)
    for cycle in cycles:
        closed = (*cycle.units, cycle.units[0])
        circle = set(itertools.pairwise(closed))
        assert circle <= pairs
        assert (cycle.dropped.later, cycle.dropped.earlier) in circle
