"""What the importers share: variables, ports, volumes, sizes, times, and the YAML they write."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hostlab.errors import SpecErrors
from hostlab.spec import importing
from hostlab.spec.importing import Import
from hostlab.spec.source import START

pytestmark = pytest.mark.unit


def new(text: str = "a: 1", **variables: str) -> Import:
    return Import(text, file="f.yaml", variables=variables)


def notes(parent: Import) -> list[str]:
    return [str(note) for note in parent.done("", kind_of_file="a test").notes]


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$SET-${SET}", "1-1"),
        ("${SET:-x}${EMPTY:-x}${EMPTY-y}${UNSET-z}", "1xz"),
        ("${SET:+x}${EMPTY:+y}${EMPTY+z}", "xz"),
        ("$$SET $${SET}", "$SET ${SET}"),
        ("${SET:?must be}", "1"),
        ("100$", "100$"),
    ],
)
def test_variables(text: str, expanded: str) -> None:
    parent = new(SET="1", EMPTY="")
    assert parent.expand(text, START) == expanded
    assert notes(parent) == []


def test_a_variable_that_is_not_set_is_noted_once() -> None:
    parent = new()
    assert parent.expand("$A${A}", START) == ""
    assert notes(parent) == ["f.yaml:1:1: the variable `A` is not set, taken as empty"]


@pytest.mark.parametrize(
    ("word", "texts"),
    [
        ("8000:80", ["8000:80"]),
        ("9000-9001:80-81", ["9000:80", "9001:81"]),
        ("127.0.0.1:8001:80", ["127.0.0.1:8001:80"]),
        ("127.0.0.1:5000-5001:50-51", ["127.0.0.1:5000:50", "127.0.0.1:5001:51"]),
        ("[::1]:6000:60", ["[::1]:6000:60"]),
        ("6060:6060/udp", ["6060:6060/udp"]),
        ("6060:6060/tcp", ["6060:6060"]),
    ],
)
def test_ports(word: str, texts: list[str]) -> None:
    parent = new()
    assert importing.publish_texts(word, START, parent) == texts
    assert notes(parent) == []


@pytest.mark.parametrize(
    ("word", "texts", "note"),
    [
        ("3000", [], "names no port of the machine"),
        ("127.0.0.1::80", [], "names no port of the machine"),
        ("8000-8009:80", ["8000:80"], "no free port is chosen"),
        ("8000-8009:80-81", [], "not equally many"),
        ("8000:80/sctp", [], "cannot be published"),
        ("70000:80", [], "cannot be published"),
        ("9-8:80", [], "cannot be published"),
        ("٣:80", [], "cannot be published"),
    ],
)
def test_ports_that_are_not_understood(word: str, texts: list[str], note: str) -> None:
    parent = new()
    assert importing.publish_texts(word, START, parent) == texts
    assert note in notes(parent)[0]


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("data:/srv", "data:/srv"),
        ("data:/srv:ro", "data:/srv:ro"),
        ("data:/srv:rw", "data:/srv"),
        ("/a/b:/srv:ro", "/a/b:/srv:ro"),
        ("./a:/srv", "./a:/srv"),
        ("../a:/srv", "./../a:/srv"),
        ("a/b:/srv", "./a/b:/srv"),
        (".:/srv", "./:/srv"),
        ("/var/lib/x", "web-x:/var/lib/x"),
    ],
)
def test_volumes(word: str, text: str) -> None:
    parent = new()
    assert importing.volume_text(word, START, parent, "web-x") == text
    assert notes(parent) == []


def test_volumes_that_are_not_understood() -> None:
    parent = new()
    assert importing.volume_text("a:b:c:d", START, parent, "x") is None
    assert importing.volume_text("a:/b:ro,z", START, parent, "x") == "a:/b:ro"
    assert importing.volume_text("~/b:/b", START, parent, "x") is not None
    assert len(notes(parent)) == 3


def test_sizes_and_times() -> None:
    words = ["50M", "1gb", "1GiB", "512k", "1000", "0.5g", "x", "0", "9" * 30]
    sizes = ["50M", "1G", "1G", "512K", "1000", "512M", None, None, None]
    assert [importing.size(word) for word in words] == sizes
    words = ["1m30s", "40s", "1h5m", "500ms", "7", "", "s", "1x"]
    times = [90, 40, 3900, 0.5, 7, None, None, None]
    assert [importing.seconds(word) for word in words] == times


def test_names_are_made_fit_and_kept_apart() -> None:
    parent = new()
    nodes = importing.node_names(parent)
    assert [nodes.add(word, START) for word in ("web_1", "web.1", "web-1", "web_1")] == [
        "web-1",
        "web-1-2",
        "web-1-3",
        "web-1",
    ]
    assert nodes.add("_", START) == "node"
    assert len(nodes.add("x" * 99, START)) == 63
    assert importing.interface_names(parent).add("Ethernet1/1", START) == "Ethernet1-1"


@pytest.mark.parametrize("text", ["", "[]", "a: [", "\t", "a", "a: 1\na: 2"])
def test_what_is_no_mapping_is_an_error_with_a_place(text: str) -> None:
    with pytest.raises(SpecErrors) as caught:
        new(text)
    assert all(error.where for error in caught.value.errors)


def test_the_yaml_is_laid_out_for_people() -> None:
    description = {
        "name": "x",
        "nodes": {
            "a": {"limits": {"memory": "1G"}, "publish": ["8080:80"], "jobs": {"m": "one\ntwo\n"}},
            "b": None,
            "c": {"interfaces": {}, "volumes": ["/" + "v" * 80]},
        },
    }
    text = importing.emit(description)
    assert text == (
        "name: x\n\nnodes:\n  a:\n    limits: {memory: 1G}\n    publish: ['8080:80']\n"
        "    jobs:\n      m: |\n        one\n        two\n\n  b:\n\n  c:\n    interfaces: {}\n"
        f"    volumes:\n      - /{'v' * 80}\n"
    )
    assert yaml.safe_load(text) == description


_WRITTEN = st.recursive(
    st.text(max_size=12)
    | st.sampled_from(["no", "8080:80", "1e3", "~", "", "0644", "#", "a: b", "\x85", "a\u2028b\n"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["name", "nodes", "segments"]), _WRITTEN))
def test_the_yaml_says_what_was_meant(description: dict[str, Any]) -> None:
    text = importing.emit(description)
    assert (yaml.safe_load(text) or {}) == description
