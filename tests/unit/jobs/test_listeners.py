"""The index finds everyone whose operand may match, and forgets who has gone."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostlab.jobs.expression import Tree
from hostlab.jobs.listeners import Index
from hostlab.spec.condition import parse_condition

pytestmark = pytest.mark.unit

FUZZ = int(os.environ.get("HOSTLAB_FUZZ", "60"))
ARGUMENTS = ("", " 1", " 1 2", " [12]", " X=1", " X!=1", " Y=2 X=1", " X=$V", " X=${V:-1}")
CONDITIONS = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from(ARGUMENTS)).map("".join),
    min_size=1,
    max_size=3,
).map(" or ".join)
EVENTS = st.tuples(
    st.sampled_from("abc"),
    st.lists(st.tuples(st.sampled_from("XYZ"), st.sampled_from("123")), max_size=3).map(tuple),
)


@settings(max_examples=FUZZ)
@given(st.lists(CONDITIONS, max_size=6), EVENTS, st.data())
def test_index_misses_nobody_who_would_match(
    conditions: list[str],
    event: tuple[str, tuple[tuple[str, str], ...]],
    data: st.DataObject,
) -> None:
    index = Index[int]()
    trees = [Tree(parse_condition(condition)) for condition in conditions]
    for number, tree in enumerate(trees):
        index.add((number, 0, 0), tree, number)
    gone = data.draw(st.sets(st.sampled_from(range(len(trees))))) if trees else set()
    for number in gone:
        index.remove((number, 0, 0), trees[number])
    name, environment = event
    found = index.find(name, environment)
    assert [each.order for each in found] == sorted(each.order for each in found)
    accepted = [each for each in found if each.leaf.accepts(name, environment, {"V": "1"})]
    assert [(each.owner, each.leaf.index) for each in accepted] == [
        (number, leaf.index)
        for number, tree in enumerate(trees)
        if number not in gone
        for leaf in tree.leaves
        if leaf.accepts(name, environment, {"V": "1"})
    ]


def test_an_index_that_everyone_has_left_is_empty() -> None:
    index = Index[int]()
    tree = Tree(parse_condition("a X=1 or b or a 1 or c [12]"))
    index.add((0, 0, 0), tree, 0)
    index.remove((0, 0, 0), tree)
    assert vars(index)["_named"] == {}
    assert [index.find(name, ()) for name in "abc"] == [[], [], []]


def test_fixed_arguments_are_looked_up_and_not_walked() -> None:
    index = Index[int]()
    for number in range(100):
        index.add((number, 0, 0), Tree(parse_condition(f"started JOB=j{number}")), number)
    found = index.find("started", (("JOB", "j7"), ("INSTANCE", "")))
    assert [each.owner for each in found] == [7]
