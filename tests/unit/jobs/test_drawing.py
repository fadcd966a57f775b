"""Drawings of jobs and events: what they show, and that no name breaks out of them."""

from __future__ import annotations

import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.jobs.drawing import Colours, dot, mermaid
from hostlab.jobs.drawing_svg import svg
from hostlab.jobs.listing import read_listing
from hostlab.jobs.relations import Graph, Kind, Relation, relate

pytestmark = pytest.mark.unit

SVG = "{http://www.w3.org/2000/svg}"
EVIL = "</text><script>\"'&<>\\n`]]>#;{}|\x00\x1b[31m\ud800é"
GRAPH = relate(
    read_listing(
        "a\n  emits x*\nb\n  emits xy\n  start on a\n  stop on started a\n"
        "c\n  start on xy\n  emits a\n",
        file="-",
    )
)


def graph_of(*names: str) -> Graph:
    relations = [
        Relation(job=a, kind=kind, event=b, other=other)
        for a, b in pairwise(names)
        for kind in Kind
        for other in (None, b)
        if other is None or kind is not Kind.EMITS
    ]
    return Graph(jobs=names, events=names, relations=tuple(relations))


def test_dot_has_boxes_diamonds_and_coloured_lines() -> None:
    text = dot(GRAPH, Colours(stop_on="#123456"))
    assert '"job_b" [shape=record, label="<job> b | { <start> start on | <stop> stop on }"' in text
    assert '"event_x*" [shape=diamond, label="x*", style=dotted' in text
    assert '"event_xy" [shape=diamond, label="xy", style=filled' in text
    assert '"job_a":job -> "event_xy" [color="green"];' in text
    assert '"job_b":start -> "event_a" [color="blue"];' in text
    assert '"job_b":stop -> "job_a":job [color="#123456", label="started"];' in text


def test_mermaid_has_the_same() -> None:
    text = mermaid(GRAPH, Colours())
    assert '  j1["b"]:::job\n' in text
    assert '  j1 -->|"stop on started"| j0\n' in text
    assert len(re.findall("-->", text)) == len(GRAPH.relations)
    styled = re.findall(r"linkStyle ([\d,]+) stroke:(\w+)", text)
    numbers = [int(n) for each, _ in styled for n in each.split(",")]
    assert sorted(numbers) == list(range(len(GRAPH.relations)))
    kinds = {n: colour for each, colour in styled for n in map(int, each.split(","))}
    for number, each in enumerate(GRAPH.relations):
        assert kinds[number] == Colours().line(each.kind)


def boxes(root: ET.Element) -> dict[str, float]:
    """Left edges by name: each shape is followed by its text."""
    return {
        text.text or "": float(text.get("x", "0")) for text in root.iter(f"{SVG}text") if text.text
    }


def test_in_svg_causes_stand_left_of_what_they_cause() -> None:
    listing = "z\n  emits one\ny\n  start on one\n  emits two\nx\n  start on two and started y\n"
    root = ET.fromstring(svg(relate(read_listing(listing, file="-")), Colours()))
    at = boxes(root)
    assert at["z"] < at["one"] < at["y"] < at["two"] < at["x"]
    tips = [title.text for title in root.iter(f"{SVG}title")]
    assert "x starts on started y" in tips
    assert "z emits one" in tips


def test_svg_of_a_circle_and_of_nothing() -> None:
    circle = relate(read_listing("a\n  start on started b\nb\n  start on started a\n", file="-"))
    at = boxes(ET.fromstring(svg(circle, Colours())))
    assert at["a"] != at["b"]
    entered = "b\n  start on started a\na\n  start on one or started b\n"
    at = boxes(ET.fromstring(svg(relate(read_listing(entered, file="-")), Colours())))
    assert at["one"] < at["a"] < at["b"]
    ET.fromstring(svg(Graph(jobs=(), events=(), relations=()), Colours()))


def test_a_chain_may_be_long() -> None:
    names = tuple(f"n{number}" for number in range(5000))
    assert svg(graph_of(*names), Colours()).count("<rect") == 5001


def test_names_break_out_of_nothing() -> None:
    found = graph_of(EVIL, "b")
    colours = Colours(bg=EVIL, emits=EVIL)
    root = ET.fromstring(svg(found, Colours()))
    assert not list(root.iter(f"{SVG}script"))
    assert "<script" not in svg(found, colours)
    assert "<script" not in mermaid(found, Colours())
    for line in mermaid(found, Colours()).splitlines():
        assert line.count('"') in (0, 2)


@pytest.mark.skipif(shutil.which("dot") is None, reason="dot is not installed")
def test_graphviz_reads_it() -> None:
    evil = EVIL.replace("\x00", "").replace("\ud800", "")
    for found in (GRAPH, graph_of(evil, "b c", "d\\")):
        done = subprocess.run(
            ["dot", "-Tplain"],
            input=dot(found, Colours()).encode(),
            capture_output=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == b""
        assert done.stdout.count(b"\nedge ") == len(found.relations)


@given(st.lists(st.text(max_size=8), min_size=1, max_size=6, unique=True))
def test_svg_is_always_well_formed(names: list[str]) -> None:
    ET.fromstring(svg(graph_of(*names), Colours()))
