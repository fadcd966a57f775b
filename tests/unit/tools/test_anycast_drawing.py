"""The drawing of the anycast lab: the page's is its tool's, and what is so is in it."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from tools.anycast_drawing import ADDRESSES, AS_DESCRIBED, PLACES, Seen, svg, text
from tools.pages import DOCS

pytestmark = pytest.mark.unit

SVG = "{http://www.w3.org/2000/svg}"
FROZEN = Seen(
    served={ADDRESSES[0]: "w3", ADDRESSES[1]: "", ADDRESSES[2]: "w3"},
    metrics={"rs4": {ADDRESSES[2]: {"w2": 102, "w3": 101}}},
    away=frozenset({"w1"}),
)


def test_the_pages_drawing_is_what_the_tool_draws() -> None:
    assert (DOCS / "anycast.svg").read_text() == svg(AS_DESCRIBED)


def test_every_node_is_drawn_and_who_serves_and_who_is_away_are_marked() -> None:
    root = ET.fromstring(svg(FROZEN))
    boxes = [each.attrib["class"] for each in root.iter(f"{SVG}rect")][1:]
    assert {name: kind for name, kind in zip(PLACES, boxes, strict=True) if kind != "node"} == {
        "w1": "away",
        "w3": "server",
    }
    paths = [each for each in root.iter(f"{SVG}line") if each.attrib["class"] == "path"]
    assert len(paths) == 1
    desc = root.findtext(f"{SVG}desc") or ""
    assert f"{ADDRESSES[1]} by nobody" in desc


def test_the_terminal_tells_who_serves_what_and_with_which_metrics() -> None:
    told = text(FROZEN)
    assert f"w3  {ADDRESSES[0]}, {ADDRESSES[2]}" in told
    assert "(w1)" in told
    assert f"nobody serves {ADDRESSES[1]}" in told
    assert told.splitlines()[-1].split() == [ADDRESSES[2], "rs4", "-", "102", "101"]
