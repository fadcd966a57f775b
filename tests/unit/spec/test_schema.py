"""One table of keys, three faces: the reader, the schema, the page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hostlab.errors import SpecErrors
from hostlab.jobs.unmet import unmet
from hostlab.spec import load, schema
from hostlab.spec.check_tables import KINDS
from hostlab.spec.json_schema import tables
from hostlab.spec.reference import markdown
from hostlab.spec.shapes import Key, Table
from hostlab.spec.source import Source
from hostlab.spec.tables import LAB, NODE
from hostlab.spec.yaml_text import compose

pytestmark = pytest.mark.unit

BUNDLE = (
    b'{"ociVersion": "1.0.2", "root": {"path": "rootfs"},'
    b' "process": {"args": ["httpd"], "cwd": "/", "user": {"uid": 0, "gid": 0}}}'
)

ROOT = Path(__file__).parents[3]
KEYS = [(table, key) for table in tables() for key in table.keys]


def id_of(value: object) -> str | None:
    return getattr(value, "name", None)


@pytest.mark.parametrize(("table", "key"), KEYS, ids=id_of)
def test_the_example_of_a_key_is_read_without_error(table: Table, key: Key) -> None:
    source = Source(key.example, f"{table.name}.{key.name}")
    tree = compose(source)
    assert tree is not None
    assert key.shape.read(source, tree) is not None
    source.raise_errors()


@pytest.mark.parametrize(("table", "key"), KEYS, ids=id_of)
def test_a_key_is_documented(table: Table, key: Key) -> None:
    assert key.doc.endswith("."), f"{table.name}.{key.name}"


def test_the_page_is_the_one_that_the_tables_make() -> None:
    page = (ROOT / "docs" / "description.md").read_text()
    assert page == markdown(), "write hostlab.spec.reference.markdown() to docs/description.md"


@pytest.mark.parametrize("text", re.findall(r"^```yaml\n(.*?)^```", markdown(), re.M | re.S))
def test_what_the_page_shows_is_a_description(text: str) -> None:
    for node in load(text, file="page").nodes:
        assert not unmet(node)


def test_every_reference_of_the_schema_leads_somewhere() -> None:
    text = json.dumps(schema())
    references = set(re.findall(r'"#/\$defs/([^"]*)"', text))
    assert references == set(schema()["$defs"]) - {"lab"}
    assert schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_the_schema_knows_every_key_and_no_other() -> None:
    for table in tables():
        definition: dict[str, Any] = schema()["$defs"][table.name.replace(" ", "-")]
        assert set(definition["properties"]) == set(table.by_word)
        assert definition["additionalProperties"] is False


def test_every_word_of_a_table_is_one_key() -> None:
    for table in tables():
        words = [word for key in table.keys for word in (key.name, *key.aliases)]
        assert len(words) == len(set(words)), table.name
        for name in (*table.required, *(name for group in table.exclusive for name in group)):
            assert name in table.by_word


def test_the_usual_suspects_are_there() -> None:
    assert set(KINDS) < {key.name for table in tables() for key in table.keys}
    top = {"name", "segments", "roles", "nodes", "checks", "faults"}
    assert top == {key.name for key in LAB.keys}
    assert "interfaces" in NODE.by_word


@pytest.mark.parametrize(
    "path",
    sorted([*(ROOT / "examples").glob("*.yaml"), *(ROOT / "examples/vxlan").glob("*.yaml")]),
    ids=lambda p: p.name,
)
def test_the_examples_are_good(path: Path) -> None:
    def read(name: str) -> bytes:
        if name == "bundle/config.json":  # made by examples/make-bundle.sh
            return BUNDLE
        return (path.parent / name).read_bytes()

    try:
        lab = load(path.read_bytes(), file=path.name, read=read, directory=str(path.parent))
    except SpecErrors as errors:
        pytest.fail(str(errors))
    assert lab.nodes


def test_three_hosts_with_a_server_and_a_check_fit_in_ten_lines() -> None:
    text = (ROOT / "examples" / "hello.yaml").read_text()
    lab = load(text, file="hello.yaml")
    assert len(text.splitlines()) <= 10
    assert len(lab.nodes) == 3
    assert lab.checks[0].arguments["url"] == "http://alice/"


def test_the_values_come_without_yaml() -> None:
    code = "import sys, hostlab.spec; print('yaml' in sys.modules, callable(hostlab.spec.load))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
