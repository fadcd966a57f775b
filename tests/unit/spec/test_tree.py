"""The tree of a YAML file: places, doubles, aliases, and what is bounded."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hostlab.errors import SpecErrors
from hostlab.spec.source import Source, Spot
from hostlab.spec.tree import Mapping, Scalar, Sequence, Tree
from hostlab.spec.yaml_text import compose

pytestmark = pytest.mark.unit


def plain(tree: Tree | None) -> object:
    match tree:
        case Scalar():
            return None if tree.null else tree.value
        case Sequence():
            return [plain(item) for item in tree.items]
        case Mapping():
            return {key.value: plain(value) for key, value in tree.pairs}
    return None


def tree_of(text: str) -> object:
    source = Source(text, "x.yaml")
    tree = compose(source)
    source.raise_errors()
    return plain(tree)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a: ~\nb: null\nc:\nd: '~'\ne: !!str null\nf: ''",
         {"a": None, "b": None, "c": None, "d": "~", "e": "null", "f": ""}),
        ("[no, 0644, 1:30, 2020-01-01]", ["no", "0644", "1:30", "2020-01-01"]),
        ("a: &x {k: 1}\nb: *x", {"a": {"k": "1"}, "b": {"k": "1"}}),
        ("a: &x {k: 1, l: 2}\nb: {l: 3, <<: *x}", {"a": {"k": "1", "l": "2"},
                                                   "b": {"l": "3", "k": "1"}}),
        ("a: &x {k: 1}\nb: &y {k: 2, l: 2}\nc: {<<: [*x, *y]}",
         {"a": {"k": "1"}, "b": {"k": "2", "l": "2"}, "c": {"k": "1", "l": "2"}}),
        ("&k a: *k", {"a": "a"}),
        ("a: |\n  x\n  y\n", {"a": "x\ny\n"}),
    ],
)  # fmt: skip
def test_trees(text: str, tree: object) -> None:
    assert tree_of(text) == tree


def test_merging_something_else_is_an_error() -> None:
    with pytest.raises(SpecErrors, match="merges mappings, not `x`"):
        tree_of("{<<: x}")


def test_places_count_from_one_and_by_characters() -> None:
    source = Source("é: ü\n\U0001f600: {ä: 1}\n", "x.yaml")
    tree = compose(source)
    assert isinstance(tree, Mapping)
    inner = tree.pairs[1][1]
    assert isinstance(inner, Mapping)
    place = source.place(inner.pairs[0][0].at)
    assert (place.line, place.column, place.text) == (2, 5, "\U0001f600: {ä: 1}")


def test_every_line_end_of_yaml_counts() -> None:
    source = Source("a: 1\r\nb: 2\rc: 3\x85d: 4\u2028e: 5", "x.yaml")
    tree = compose(source)
    assert isinstance(tree, Mapping)
    assert [source.place(key.at).line for key, _ in tree.pairs] == [1, 2, 3, 4, 5]
    assert source.place(tree.pairs[4][0].at).text == "e: 5"


def test_a_place_behind_the_end_is_the_end() -> None:
    place = Source("a: [\n\n\n", "x.yaml").place(Spot(3, 0))
    assert (place.line, place.column, place.text) == (1, 5, "a: [")


def test_a_quoted_line_cannot_move_the_terminals_cursor() -> None:
    assert Source("a\x1b[2J\tb", "x.yaml").place(Spot(0, 0)).text == "a\ufffd[2J b"


_VALUES = st.recursive(
    st.none() | st.text() | st.integers() | st.booleans(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(_VALUES)
def test_what_pyyaml_writes_is_read_as_it_was(value: object) -> None:
    def texts(found: object) -> object:
        match found:
            case list():
                return [texts(item) for item in found]
            case dict():
                return {key: texts(item) for key, item in found.items()}
            case bool():
                return str(found).lower()
            case int():
                return str(found)
        return found

    text = yaml.safe_dump(value, allow_unicode=False, sort_keys=False)
    assert tree_of(text) == texts(value)
