"""Pictures of a lab: what they say, that they are well formed, and that nothing breaks out."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
import xml.etree.ElementTree as ET
from itertools import combinations
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hostlab import spec
from hostlab.observe import graph
from hostlab.observe.graph import State
from hostlab.spec.model import Interface, Lab, Node, Publish, Segment
from hostlab.topologies.description import Options
from hostlab.topologies.importing import import_network

pytestmark = pytest.mark.unit
ROOT = Path(__file__).parents[3]

SVG = "{http://www.w3.org/2000/svg}"
EVIL = "</text><script>\"'&<>\\n`]]>#;{}|\x00\x1b[31m\ud800é"


def interface(segment: str, number: int = 0, *addresses: str) -> Interface:
    return Interface(
        name=f"eth{number}", segment=segment, addresses=addresses, mac="02:00:00:00:00:01"
    )


def node(name: str, *segments: str, publish: tuple[Publish, ...] = ()) -> Node:
    interfaces = tuple(
        interface(segment, number, f"10.{number}.0.1/24") for number, segment in enumerate(segments)
    )
    return Node(name=name, hostname=name, interfaces=interfaces, publish=publish)


def lab(segments: str, *nodes: Node, name: str = "shop") -> Lab:
    made = tuple(Segment(name=word, subnets=("10.0.0.0/24",)) for word in segments.split())
    return Lab(name=name, segments=made, nodes=nodes)


SHOP = Lab(
    name="shop",
    segments=(
        Segment(name="front", subnets=("10.1.0.0/24",), mtu=1450, machine=("10.1.0.254/24",)),
        Segment(name="back", subnets=("10.2.0.0/24", "fd02::/64")),
    ),
    nodes=(
        node("proxy", "front", "back", publish=(Publish(port=8080, inner=80),)),
        Node(
            name="db",
            hostname="db",
            interfaces=(interface("back", 0, "10.2.0.5/24", "fd02::5/64"),),
            publish=(Publish(port=53, inner=5353, protocol="udp", address="::1"),),
        ),
        Node(name="side", hostname="side", namespaces=(("net", "db"),)),
    ),
)
STATES = {"proxy": State.RUNNING, "db": State.FAILED}


def test_ascii() -> None:
    bar = "==[ front ]== 10.1.0.0/24  mtu 1450 "
    back = "==[ back ]== 10.2.0.0/24  fd02::/64 "
    assert graph.ascii_art(SHOP, STATES) == "\n".join(
        [
            "lab shop: 3 nodes, 2 segments",
            "",
            bar + "=" * (78 - len(bar)),
            "  |",
            "  +-- (machine)  10.1.0.254/24",
            "  +-- proxy  eth0  10.0.0.1/24  [running]  (*:8080 -> 80; also on back)",
            "",
            back + "=" * (78 - len(back)),
            "  |",
            "  +-- proxy  eth1  10.1.0.1/24  [running]  (also on front)",
            "  +-- db     eth0  10.2.0.5/24  fd02::5/64  [failed]  ([::1]:53 -> 5353/udp)",
            "",
            "on no segment",
            "  |",
            "  +-- side   (shares net of db)",
            "",
        ]
    )


def test_dot() -> None:
    text = graph.dot(SHOP, STATES)
    assert '  s0 [label="front\\n10.1.0.0/24\\nmtu 1450\\nmachine 10.1.0.254/24",' in text
    assert '  n0 [label="proxy\\n*:8080 -> 80", color="#1a7f37", penwidth=2];' in text
    assert '  n2 [label="side\\nshares net of db"];' in text
    assert '  s1 -- n1 [label="eth0\\n10.2.0.5/24\\nfd02::5/64"];' in text
    assert text.count(" -- n") == 3


def test_mermaid() -> None:
    text = graph.mermaid(SHOP, STATES)
    _, matter, body = text.split("---\n", 2)
    assert yaml.safe_load(matter) == {"title": "shop"}
    assert body.splitlines()[0] == "flowchart TB"
    assert '  s1[["back<br/>10.2.0.0/24<br/>fd02::/64"]]:::segment' in body
    assert '  n0("proxy<br/>*:8080 -#62; 80"):::running' in body
    assert '  s1 ---|"eth0<br/>10.2.0.5/24<br/>fd02::5/64"| n1' in body
    assert "  classDef failed stroke:#cf222e" in body


def texts(svg: str) -> list[str]:
    return ["".join(each.itertext()) for each in ET.fromstring(svg).iter(f"{SVG}text")]


def cards(svg: str) -> list[tuple[float, float, float, float]]:
    found = []
    for rect in ET.fromstring(svg).iter(f"{SVG}rect"):
        if rect.get("class") == "card":
            x, y, width, height = (float(rect.attrib[k]) for k in ("x", "y", "width", "height"))
            found.append((x, y, x + width, y + height))
    return found


def test_svg_says_everything() -> None:
    svg = graph.svg(SHOP, STATES)
    said = texts(svg)
    assert said[0] == "shop"
    assert "front10.1.0.0/24  mtu 1450  machine 10.1.0.254/24" in said
    assert {"proxy", "db", "side", "eth0 10.2.0.5/24", "     fd02::5/64"} <= set(said)
    assert {"*:8080 → 80", "[::1]:53 → 5353/udp", "shares net of db"} <= set(said)
    assert svg.count('class="wire"') == 3
    assert svg.count("#1a7f37") == 2
    assert "db (failed)" in svg


def test_a_card_does_not_grow_without_end() -> None:
    ports = tuple(Publish(port=port, inner=port) for port in range(1, 30))
    said = texts(graph.svg(lab("s", node("a", "s", publish=ports))))
    assert "*:7 → 7" in said
    assert "*:8 → 8" not in said
    assert "… 22 more" in said


def test_svg_needs_nothing_from_elsewhere() -> None:
    svg = graph.svg(SHOP)
    assert re.findall(r'https?://[^"]*', svg) == ["http://www.w3.org/2000/svg"]
    assert "script" not in svg
    assert "@import" not in svg


@pytest.mark.parametrize("picture", graph.FORMATS.values(), ids=graph.FORMATS)
def test_the_same_lab_is_the_same_picture(picture: graph.Picture) -> None:
    assert picture(SHOP, STATES) == picture(SHOP, dict(reversed(STATES.items())))


@pytest.mark.parametrize("picture", graph.FORMATS.values(), ids=graph.FORMATS)
def test_an_empty_lab_is_a_picture(picture: graph.Picture) -> None:
    assert "shop" in picture(lab(""), None)


def evil_lab() -> Lab:
    made = Node(
        name=EVIL,
        hostname=EVIL,
        interfaces=(
            Interface(name=EVIL, segment=EVIL, addresses=(EVIL,), mac=EVIL),
            Interface(name="x", segment="nowhere", addresses=(), mac=""),
        ),
        publish=(Publish(port=1, inner=1, protocol=EVIL, address=EVIL),),
        namespaces=((EVIL, EVIL),),
    )
    segment = Segment(name=EVIL, subnets=(EVIL,), machine=(EVIL,))
    return Lab(name=EVIL, segments=(segment,), nodes=(made,))


def test_no_name_breaks_out_of_its_label() -> None:
    made = evil_lab()
    svg = graph.svg(made)
    assert any("</text><script>" in text for text in texts(svg))
    assert "<script>" not in svg
    mermaid = graph.mermaid(made)
    assert "<script>" not in mermaid.split("---\n", 2)[2]
    assert isinstance(yaml.safe_load(mermaid.split("---\n")[1])["title"], str)
    for picture in graph.FORMATS.values():
        text = picture(made, {EVIL: State.FAILED})
        text.encode()
        assert "\x1b" not in text
        assert "\x00" not in text
    assert graph.ascii_art(made).isascii()


@pytest.mark.skipif(not shutil.which("dot"), reason="Graphviz (dot) is not installed")
@pytest.mark.parametrize("made", [SHOP, evil_lab(), lab("")], ids=["shop", "evil", "empty"])
def test_graphviz_reads_the_dot(made: Lab) -> None:
    done = subprocess.run(
        ["dot", "-Tsvg"],
        input=graph.dot(made, STATES).encode(),
        capture_output=True,
        check=True,
        timeout=100,
    )
    assert done.stderr == b""
    drawn = ET.fromstring(done.stdout)
    kinds = [each.get("class") for each in drawn.iter(f"{SVG}g")]
    assert kinds.count("node") == len(made.segments) + len(made.nodes)


def overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@st.composite
def labs(draw: st.DrawFn) -> Lab:
    names = [f"s{number}" for number in range(draw(st.integers(0, 6)))]
    some = st.lists(st.sampled_from(names), max_size=4) if names else st.just([])
    nodes = [node(f"n{i}", *draw(some)) for i in range(draw(st.integers(0, 14)))]
    return lab(" ".join(names), *nodes)


@given(labs())
def test_no_card_lies_on_another_or_outside(made: Lab) -> None:
    svg = graph.svg(made)
    places = cards(svg)
    assert len(places) == len(made.nodes)
    assert not any(overlap(a, b) for a, b in combinations(places, 2))
    root = ET.fromstring(svg)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert all(x >= 0 and y >= 0 and x2 <= width and y2 <= height for x, y, x2, y2 in places)
    assert svg.count('class="wire"') == sum(len(each.interfaces) for each in made.nodes)


@given(labs())
def test_every_attachment_is_in_every_text_picture(made: Lab) -> None:
    count = sum(len(each.interfaces) for each in made.nodes)
    alone = sum(not each.interfaces for each in made.nodes)
    assert graph.dot(made).count(" -- n") == count
    assert graph.mermaid(made).count(" ---|") == count
    assert graph.ascii_art(made).count("  +-- n") == count + alone


BIG = {
    "one segment": lab("s", *(node(f"n{i}", "s") for i in range(1000))),
    "a hundred": lab(
        " ".join(f"s{i}" for i in range(100)), *(node(f"n{i}", f"s{i // 10}") for i in range(1000))
    ),
    "a chain": lab(
        " ".join(f"s{i}" for i in range(1001)),
        *(node(f"n{i}", f"s{i}", f"s{i + 1}") for i in range(1000)),
    ),
}


@pytest.mark.parametrize("picture", graph.FORMATS.values(), ids=graph.FORMATS)
@pytest.mark.parametrize("name", BIG)
def test_a_thousand_nodes_are_quick(name: str, picture: graph.Picture) -> None:
    began = time.process_time()
    text = picture(BIG[name], None)
    assert time.process_time() - began < 1.0
    assert "n999" in text


@pytest.mark.parametrize("name", ["one segment", "a hundred"])
def test_a_thousand_nodes_are_a_block(name: str) -> None:
    svg = graph.svg(BIG[name])
    root = ET.fromstring(svg)
    assert 0.5 < float(root.attrib["width"]) / float(root.attrib["height"]) < 4
    assert len(cards(svg)) == 1000


def test_the_tutorials_picture_is_of_its_network() -> None:
    text = (ROOT / "examples/provider/alpenet.graphml").read_text()
    found = import_network(
        text, file="a.graphml", kind="graphml", options=Options(is_impaired=False)
    )
    assert found.notes == ()
    lab = spec.load(found.text.encode(), file="alpenet.yaml", directory="/")
    assert (ROOT / "docs/provider.svg").read_text() == graph.svg(lab)
