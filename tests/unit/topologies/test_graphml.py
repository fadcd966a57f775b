"""GraphML becomes a description that loads; what is not in it is told, what is hostile refused."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import networkx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.errors import SpecErrors
from hostlab.spec import Lab, load
from hostlab.spec.importing import Imported, Notes
from hostlab.spec.source import Source
from hostlab.topologies import graphml
from hostlab.topologies.description import Options
from hostlab.topologies.importing import import_network

pytestmark = pytest.mark.unit

SHARED = os.environ.get("HOSTLAB_SHARED", str(Path(__file__).parents[3] / "../shared"))
CORPUS = Path(SHARED, "corpus/topologies").resolve()
SIZES = {
    "Abilene": (11, 14, 1),
    "AttMpls": (25, 57, 1),
    "Belnet2003": (23, 43, 1),
    "Geant2012": (40, 61, 1),
    "TataNld": (145, 194, 1),
    "Uunet": (49, 84, 1),
}
"""Network -> its nodes, edges and parts."""
HEAD = '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">'
KEYS = """
<key id="d0" for="node" attr.name="label" attr.type="string"/>
<key id="d1" for="node" attr.name="Latitude" attr.type="double"/>
<key id="d2" for="node" attr.name="Longitude" attr.type="double"/>
<key id="d3" for="edge" attr.name="LinkSpeedRaw" attr.type="double"><default>1000000</default></key>
<key id="d4" for="node" attr.name="hyperedge" attr.type="int"/>
"""


def document(body: str, *, keys: str = KEYS, edgedefault: str = "undirected") -> str:
    return f'{HEAD}{keys}<graph id="net" edgedefault="{edgedefault}">\n{body}\n</graph></graphml>'


def node(name: str, label: str | None = None, place: tuple[float, float] | None = None) -> str:
    data = "" if label is None else f'<data key="d0">{label}</data>'
    if place is not None:
        data += f'<data key="d1">{place[0]}</data><data key="d2">{place[1]}</data>'
    return f'<node id="{name}">{data}</node>'


def edge(one: str, other: str) -> str:
    return f'<edge source="{one}" target="{other}"/>'


def imported(text: str) -> Imported:
    return import_network(text, file="net.graphml", kind="graphml")


def lab_of(text: str) -> Lab:
    return load(imported(text).text.encode(), file="lab.yaml", directory="/srv")


def links(lab: Lab) -> Counter[tuple[str, ...]]:
    """By its members, in the order of the lab: how many segments they share."""
    on: dict[str, list[str]] = {segment.name: [] for segment in lab.segments}
    for each in lab.nodes:
        for interface in each.interfaces:
            on[interface.segment].append(each.name)
    return Counter(map(tuple, on.values()))


def messages(text: str) -> list[str]:
    return [note.message for note in imported(text).notes]


def corpus(name: str) -> str:
    if not CORPUS.is_dir():
        pytest.skip("the corpus ../shared/corpus/topologies is not here")
    return (CORPUS / f"{name}.graphml").read_text()


@pytest.mark.parametrize("name", SIZES)
def test_a_network_of_the_corpus_is_what_networkx_reads(name: str) -> None:
    text = corpus(name)
    source = Source(text, name)
    ours = graphml.read(source, Notes(source))
    theirs = networkx.parse_graphml(text, force_multigraph=True)
    assert not source.failed
    assert (len(ours.vertices), len(ours.edges)) == SIZES[name][:2]
    assert {v.id: v.label or "None" for v in ours.vertices} == dict(theirs.nodes("label"))
    latitudes = {v.id: v.latitude for v in ours.vertices}
    assert latitudes == dict(theirs.nodes("Latitude"))
    assert Counter(frozenset(e.ends) for e in ours.edges) == Counter(
        frozenset(ends) for ends in theirs.edges()
    )
    assert networkx.number_connected_components(theirs) == SIZES[name][2]


@pytest.mark.parametrize("name", SIZES)
def test_a_network_of_the_corpus_becomes_a_lab(name: str) -> None:
    text = corpus(name)
    lab = lab_of(text)
    theirs = networkx.parse_graphml(text, force_multigraph=True)
    hubs = [n for n, is_hub in theirs.nodes("hyperedge") if is_hub]
    plain = theirs.subgraph(n for n in theirs if n not in hubs)
    assert len(lab.nodes) == len(plain)
    assert sum(len(members) == 2 for members in links(lab).elements()) >= plain.number_of_edges()
    assert len(lab.segments) == plain.number_of_edges() + bool(hubs)
    if hubs:  # TataNld has two that are joined to each other: one segment of three nodes.
        assert links(lab)["mangalore", "bangalore", "hassan"] == 1


def test_abilene_has_its_names_links_speeds_and_delays() -> None:
    text = imported(corpus("Abilene")).text
    for line in (
        "name: Abilene",
        "  seattle_denver:  # OC-192c, 1641 km",
        "    impair: {delay: 8.206ms, rate: 9.95328gbit}",
        "  los-angeles:  # Los Angeles, 34.0522 -118.2437",
        "    interfaces: [sunnyvale_los-angeles, los-angeles_houston]",
    ):
        assert line in text.splitlines()


def test_labels_become_names_of_the_dns() -> None:
    labels = (
        "New York",
        "Zürich",
        "Łódź",
        "Київ",
        "",
        "London",
        "LONDON",
        "Q-&amp;*",
        "7",
        "  x.y ",
    )
    text = document("".join(node(f"i{n}", label) for n, label in enumerate(labels)))
    names = [each.name for each in lab_of(text).nodes]
    assert names == [
        "new-york", "zurich", "lodz", "node-i3", "node-i4", "london", "london-2", "q", "n7", "x-y"
    ]  # fmt: skip
    told = messages(text)
    for part in (
        "the node `Київ` is called `node-i3`",
        "the node `i4` has no label, it is called `node-i4`",
        "the node `LONDON` is called `london-2`",
    ):
        assert part in told
    assert not any("Zürich" in message for message in told)
    assert "  zurich:  # Zürich" in imported(text).text


def test_long_names_stay_apart() -> None:
    label = "x" * 90
    body = node("a", label) + node("b", label + "y") + edge("a", "b") + edge("a", "b")
    lab = lab_of(document(body))
    assert [len(each.name) for each in lab.nodes] == [63, 63]
    assert len({segment.name for segment in lab.segments}) == 2


def test_ids_are_names_where_nothing_has_a_label() -> None:
    lab = lab_of(document(node("Bern") + node("Basel") + edge("Bern", "Basel"), keys=""))
    assert [each.name for each in lab.nodes] == ["bern", "basel"]
    assert [segment.name for segment in lab.segments] == ["bern_basel"]


def test_parallel_edges_are_links_of_their_own_and_loops_none() -> None:
    body = node("a", "A") + node("b", "B") + edge("a", "b") + edge("b", "a") + edge("a", "a")
    assert links(lab_of(document(body))) == {("a", "b"): 2}
    told = messages(document(body))
    assert "2 links join a and b; each is a segment of its own" in told
    assert "a link from a to itself is left out" in told


def test_hyperedges_of_both_kinds_are_shared_segments() -> None:
    names = "".join(node(n, n) for n in "abc")
    element = '<hyperedge><endpoint node="a"/><endpoint node="b"/><endpoint node="c"/></hyperedge>'
    assert links(lab_of(document(names + element))) == {("a", "b", "c"): 1}
    hub = '<node id="h"><data key="d0">IX</data><data key="d4">1</data></node>'
    zoo = document(names + hub + "".join(edge(n, "h") for n in "abc") + edge("a", "h"))
    lab = lab_of(zoo)
    assert links(lab) == {("a", "b", "c"): 1}
    assert [segment.name for segment in lab.segments] == ["ix"]
    assert "a is on ix already, the second link is left out" in messages(zoo)


def test_parts_that_nothing_joins_are_told() -> None:
    body = "".join(node(n, n) for n in "abcd") + edge("a", "b") + edge("b", "c")
    assert "the network has 2 parts that nothing joins: a (3), d (1)" in messages(document(body))
    (alone,) = [each for each in lab_of(document(body)).nodes if each.name == "d"]
    assert alone.interfaces == ()


def test_coordinates_give_delays_and_missing_ones_are_told() -> None:
    body = (
        node("a", "A", (0, 0)) + node("b", "B", (0, 1)) + node("c", "C") + node("d", "D", (99, 0))
    )
    text = document(body + edge("a", "b") + edge("a", "c"))
    interfaces = [each for host in lab_of(text).nodes for each in host.interfaces]
    sending = {each.segment: each.sending for each in interfaces}
    assert sending["a_b"].describe() == "delay=0.556ms rate=1mbit"
    assert sending["a_c"].describe() == "rate=1mbit"
    perfect = import_network(
        text, file="net.graphml", kind="graphml", options=Options(is_impaired=False)
    ).text
    assert "  a_b:  # 1 Mbit/s, 0.556 ms, 111 km\n" in perfect
    assert "impair" not in perfect
    assert "no coordinates, so no delay of their links: c, d" in messages(text)
    assert "`99` is no latitude" in messages(text)


def test_a_speed_that_no_link_can_have_stays_a_comment() -> None:
    keys = KEYS.replace("1000000<", "1000000000000<")
    text = document(node("a", "A") + node("b", "B") + edge("a", "b"), keys=keys)
    assert "  a_b:  # 1000 Gbit/s\n" in imported(text).text
    assert "impair" not in imported(text).text


def test_there_and_back_of_a_directed_graph_are_one_link() -> None:
    body = node("a", "A") + node("b", "B") + edge("a", "b") + edge("b", "a") + edge("a", "b")
    text = document(body, edgedefault="directed")
    assert links(lab_of(text)) == {("a", "b"): 2}
    assert "links have no direction; 1 are the way back of others" in messages(text)


def test_what_is_left_out_is_named_once() -> None:
    keys = KEYS + '<key id="k" for="node" attr.name="Colour" attr.type="string"/>'
    data = '<data key="k">red</data><port name="p"/><graph edgedefault="directed"/>'
    body = f'<node id="a">{data}</node><node id="b">{data}</node>'
    told = messages(document(body, keys=keys))
    assert "left out of nodes: `port`, `Colour`" in told
    assert "the graph in node `a` is left out" in told


def test_a_node_that_yed_drew_has_its_label() -> None:
    keys = '<key id="g" for="node" yfiles.type="nodegraphics"/>'
    drawn = (
        '<data key="g"><y:ShapeNode xmlns:y="http://www.yworks.com/xml/graphml">'
        "<y:NodeLabel>Core 1</y:NodeLabel></y:ShapeNode></data>"
    )
    lab = lab_of(document(f'<node id="n0">{drawn}</node>', keys=keys))
    assert [each.name for each in lab.nodes] == ["core-1"]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("<graphml>\n<graph>\n</nodes>", 3, "this is not XML: mismatched tag"),
        ("", 1, "this is not XML: no element found"),
        ("<svg/>", 1, "there is no `graph` in a `graphml` here"),
        ("<graphml/>", 1, "there is no `graph` in a `graphml` here"),
        (document(""), 1, "there is no node in it"),
        (document(node("a") + "\n" + edge("a", "z"), keys=""), 3, "there is no node `z`"),
        (
            document(node("a") + "\n" + node("a"), keys=""),
            3,
            "two nodes have the id `a`, the first at line 2",
        ),
        ("<graphml>" + "<graph>" * 200, 1, "elements are more than 100 deep in each other"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(SpecErrors) as caught:
        imported(text)
    found = [(error.where.line, error.message) for error in caught.value.errors if error.where]
    assert (line, message) in found


def test_entities_that_expand_without_end_are_refused_before_anything_expands() -> None:
    powers = "".join(
        f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' if n else '<!ENTITY e0 "ha">' for n in range(30)
    )
    outside = '<!DOCTYPE g [<!ENTITY x SYSTEM "file:///etc/passwd">]><graphml>&x;</graphml>'
    # 2 × 10²⁹ characters would take longer than this test may.
    for text in (f"<!DOCTYPE g [{powers}]><graphml>&e29;</graphml>", outside):
        with pytest.raises(SpecErrors, match="a document type is refused"):
            imported(text)


PIECES = st.sampled_from(
    [
        node("a", "A"), node("b", "Ü"), node("c"), node("d", "A", (1, 2)), edge("a", "b"),
        edge("b", "a"), edge("a", "a"), edge("a", "c"), edge("x", "a"), "<port/>", "text", "<", "&",
        '<node id="h"><data key="d4">1</data></node>', edge("a", "h"), edge("h", "b"),
        edge("h", "h"),
        '<hyperedge><endpoint node="a"/><endpoint node="b"/><endpoint node="h"/></hyperedge>',
        "<hyperedge/>", '<data key="zz">1</data>', "<node/>", "<edge/>", "<!-- x -->", "\n",
    ]
)  # fmt: skip


@given(st.lists(PIECES, max_size=9), st.sampled_from(["directed", "undirected", ""]))
def test_whatever_a_file_says_it_is_a_lab_or_errors_with_places(
    pieces: list[str], way: str
) -> None:
    text = document("".join(pieces), edgedefault=way)
    if isinstance(found := outcome(text), SpecErrors):
        assert all(error.where for error in found.errors)
    else:
        assert load(found.text.encode(), file="lab.yaml", directory="/srv").nodes


def outcome(text: str) -> Imported | SpecErrors:
    try:
        return imported(text)
    except SpecErrors as errors:
        return errors
