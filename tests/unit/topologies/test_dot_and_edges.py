"""Graphs of Graphviz and lists of edges become descriptions that load."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.errors import SpecErrors
from hostlab.spec import Lab, load
from hostlab.spec.importing import Imported, Notes
from hostlab.spec.source import Source
from hostlab.topologies import dot, edges
from hostlab.topologies.importing import import_network
from hostlab.topologies.network import Network

pytestmark = pytest.mark.unit

GRAPH = r"""
// A comment, and /* another */
strict graph "Two sites" {
# the preprocessor's
  graph [rankdir=LR]; node [shape=box, Colour=red]
  edge [rate="1 Gbps"]
  size = "4,4"
  a [label="New\
 York"]; b [label=<b>]
  subgraph cluster_x { edge [delay="5ms"]; c; d -- e }
  a -- b -- c:port:ne [rate="10Mbps"; cost=7]
  { f g } -- a
  subgraph { c d } -- h
  "quo\"ted" + " name" -- -1.5
  i
}
"""


def read_dot(text: str) -> Network:
    source = Source(text, "net.dot")
    network = dot.read(source, Notes(source))
    source.raise_errors()
    return network


def imported(text: str, kind: str) -> Imported:
    return import_network(text, file=f"net.{kind}", kind=kind)


def lab_of(text: str, kind: str) -> Lab:
    return load(imported(text, kind).text.encode(), file="lab.yaml", directory="/srv")


def messages(text: str, kind: str) -> list[str]:
    return [note.message for note in imported(text, kind).notes]


def test_a_graph_is_what_graphviz_reads() -> None:
    if shutil.which("dot") is None:
        pytest.skip("Graphviz's dot is not here")
    # `strict` merges what is parallel, and there is nothing parallel here.
    done = subprocess.run(
        ["dot", "-Tdot_json"], input=GRAPH, capture_output=True, text=True, check=True
    )
    theirs = json.loads(done.stdout)
    names = {each["_gvid"]: each["name"] for each in theirs["objects"] if "nodes" not in each}
    ours = read_dot(GRAPH)
    assert ours.name == theirs["name"]
    assert {vertex.id for vertex in ours.vertices} == set(names.values())
    assert Counter(frozenset(edge.ends) for edge in ours.edges) == Counter(
        frozenset((names[edge["tail"]], names[edge["head"]])) for edge in theirs["edges"]
    )


def test_attributes_and_their_defaults_are_kept() -> None:
    found = {edge.ends: edge for edge in read_dot(GRAPH).edges}
    assert (found["a", "b"].rate_bps, found["a", "b"].cost) == (10e6, 7)
    assert (found["d", "e"].rate_bps, found["d", "e"].delay_s) == (1e9, 0.005)
    assert (found["c", "h"].rate_bps, found["c", "h"].delay_s) == (1e9, None)
    labels = {vertex.id: vertex.label for vertex in read_dot(GRAPH).vertices}
    assert (labels["a"], labels["b"], labels["c"]) == ("New York", "b", "c")
    assert "left out of nodes: `Colour`" in messages(GRAPH, "dot")


def test_a_digraph_has_links_both_ways() -> None:
    text = 'digraph { a -> b -> c; b -> a [label="45 Mbps DS-3"] }'
    lab = lab_of(text, "dot")
    assert [segment.name for segment in lab.segments] == ["a_b", "b_c"]
    assert "links have no direction; 1 are the way back of others" in messages(text, "dot")


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("", (1, 1), "`graph` or `digraph` belongs here, not the end of the file"),
        ("graph {\n a -- ;\n}", (2, 7), "a name belongs here, not `;`"),
        ("graph {\n a -- b", (2, 8), "a name belongs here, not the end of the file"),
        ("graph { a [x=y }", (1, 16), "a name belongs here, not `}`"),
        ("graph { a <b }", (1, 11), "a `<` is not closed"),
        ("graph { a @ b }", (1, 11), "`@ b }` is not understood"),
        ("graph " + "{" * 60, (1, 58), "more than 50 groups in each other"),
        ("graph { a -- b [rate=10Mbps] }", (1, 22), "`10Mbps` is a number and a name"),
        ("graph {}", (1, 1), "there is no node in it"),
    ],
)
def test_what_is_wrong_in_a_graph_has_its_place(
    text: str, place: tuple[int, int], message: str
) -> None:
    with pytest.raises(SpecErrors) as caught:
        imported(text, "dot")
    (error,) = caught.value.errors
    assert error.where is not None
    assert (error.message, (error.where.line, error.where.column)) == (message, place)


def test_two_large_groups_are_not_joined_without_end() -> None:
    many = " ".join(f"n{n}" for n in range(2000))
    with pytest.raises(SpecErrors, match="more than 100,000 edges"):
        imported(f"graph {{ {{{many}}} -- {{{many}}} }}", "dot")


EDGES = """\
# from to
bern basel rate=10Gbps delay=1ms
'New York'  bern   # far away
basel zürich {'weight': 10, 'capacity': '2.5 Gbit/s'}
alone
zürich bern {}
"""


def test_a_list_of_edges_becomes_a_lab() -> None:
    lab = lab_of(EDGES, "edges")
    assert [node.name for node in lab.nodes] == ["bern", "basel", "new-york", "zurich", "alone"]
    text = imported(EDGES, "edges").text
    assert "  bern_basel:\n    impair: {delay: 1ms, rate: 10gbit}\n" in text
    assert "  basel_zurich:\n    impair: {rate: 2.5gbit}\n" in text
    assert [segment.name for segment in lab.segments][1] == "new-york_bern"
    found = {edge.ends: edge.cost for edge in edges.read(*_source(EDGES)).edges}
    assert found["basel", "zürich"] == 10


def _source(text: str) -> tuple[Source, Notes]:
    source = Source(text, "net.edges")
    return source, Notes(source)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "the file is empty"),
        ("a b\na b c\n", 2, "two names and `key=value` belong in a line; `c` is neither"),
        ("a 'b", 1, "a quotation mark is not closed"),
        ("a b {'x'", 1, "`{'x'` is not a dictionary"),
        ("a b {__import__('os')}", 1, "`{__import__('os')}` is not a dictionary"),
    ],
)
def test_what_is_wrong_in_a_list_has_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(SpecErrors) as caught:
        imported(text, "edges")
    (error,) = caught.value.errors
    assert error.where is not None
    assert (error.where.line, error.message) == (line, message)


def test_what_is_no_speed_delay_or_cost_is_told() -> None:
    text = "a b rate=fast delay=20 cost=0 colour=red\n"
    assert messages(text, "edges") == [
        "`0` is no cost: a whole number from 1 to 65535 is",
        "`20` is no delay that is understood, as `20ms` is",
        "`fast` is no speed that is understood, as `10 Gbps` is",
        "left out of links: `colour`",
    ]


WORDS = (
    'graph digraph strict subgraph node edge { } [ ] -- -> ; , = : + a b c "q" <h> -1 #x // \n'
    " /* */ label rate 1Gbps"
)


@given(st.lists(st.sampled_from(WORDS.split(" ")), max_size=25))
def test_whatever_a_graph_says_it_is_a_lab_or_errors(words: list[str]) -> None:
    _must_hold("graph { a -- b " + " ".join(words) + " }", "dot")


@given(st.text("ab'{}#= \n,:1\u00fc", max_size=40))
def test_whatever_a_list_says_it_is_a_lab_or_errors(text: str) -> None:
    _must_hold(text, "edges")


def _must_hold(text: str, kind: str) -> None:
    try:
        lab = lab_of(text, kind)
    except SpecErrors as errors:
        if not all(error.where and error.where.file == f"net.{kind}" for error in errors.errors):
            raise
    else:
        assert lab.nodes
