"""Names: those that were left out, and those that cannot be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.spec import load, names
from hostlab.spec.source import Wrong

pytestmark = pytest.mark.unit


def test_the_lists_are_sorted_without_doubles() -> None:
    for words in (names.ADJECTIVES, names.SURNAMES):
        assert list(words) == sorted(set(words))
    assert len(names.ADJECTIVES) >= 80
    assert len(names.SURNAMES) >= 120


def test_every_pair_is_a_host_name() -> None:
    for adjective in names.ADJECTIVES:
        for surname in names.SURNAMES:
            names.label(f"{adjective}-{surname}")


@given(st.text(), st.integers(min_value=0))
def test_nobody_calls_wozniak_boring(seed: str, number: int) -> None:
    assert names.generated(seed, number, ()) != "boring-wozniak"


def test_wozniak_was_drawn_and_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "ADJECTIVES", ("boring", "brave"))
    monkeypatch.setattr(names, "SURNAMES", ("wozniak",))
    drawn = {names.generated("seed", number, ()) for number in range(50)}
    assert drawn == {"brave-wozniak"}


def test_more_names_than_there_are_pairs() -> None:
    taken: set[str] = set()
    pairs = len(names.ADJECTIVES) * len(names.SURNAMES)
    for number in range(pairs + 10):
        taken.add(names.generated("seed", number, taken))
    assert len(taken) == pairs + 10


def test_unnamed_labs_and_nodes() -> None:
    text = "segments: [lan]\nnodes: [~, ~, web]\n"
    lab = load(text, file="a.yaml")
    assert lab == load(text, file="a.yaml")
    assert len({node.name for node in lab.nodes}) == 3
    assert lab.name.count("_") == 1
    assert all(node.name.count("-") == 1 for node in lab.nodes[:2])
    assert load(text + "\n# more", file="a.yaml").name != lab.name


def test_a_seed_keeps_the_names_when_the_file_changes() -> None:
    one = load("nodes: [~]", file="a.yaml", seed="/labs/a.yaml")
    two = load("nodes: [~, ~]", file="a.yaml", seed="/labs/a.yaml")
    assert one.name == two.name
    assert one.nodes[0] == two.nodes[0]


def test_unnamed_nodes_of_a_named_lab_keep_theirs() -> None:
    one = load("{name: lab, nodes: [~]}", file="a.yaml")
    two = load("{name: lab, nodes: [~, ~, web]}", file="a.yaml")
    assert one.nodes[0] == two.nodes[0]


@pytest.mark.parametrize("word", ["a", "web1", "WEB-1", "1", "a" * 63])
def test_good_labels(word: str) -> None:
    assert names.label(word) == word


@pytest.mark.parametrize("word", ["", "-a", "a-", "a_b", "a.b", "é", "a" * 64, "localhost", "a\n"])
def test_bad_labels(word: str) -> None:
    with pytest.raises(Wrong):
        names.label(word)


@pytest.mark.parametrize(
    "word", ["", "lo", "a/b", "a b", ".", "..", "a" * 16, "a:0", "all", "é" * 8]
)
def test_bad_interface_names(word: str) -> None:
    with pytest.raises(Wrong):
        names.interface(word)


@pytest.mark.parametrize("word", ["eth0", "wan.7", "a" * 15, "up-link"])
def test_good_interface_names(word: str) -> None:
    assert names.interface(word) == word


@pytest.mark.parametrize("word", ["", ".", "..", "a/b", "a b", "-a", "a" * 64, "a\0"])
def test_names_that_are_no_path(word: str) -> None:
    with pytest.raises(Wrong):
        names.name(word)
